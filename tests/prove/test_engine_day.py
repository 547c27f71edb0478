"""A day in the life of the engine, simulated: thousands of repositories, short hours, jobs that only wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean
from typing import Any

import anyio
import psycopg
import pytest

from ocisync.daemon.schedule import AnyJob
from ocisync.engine.locks import connected
from ocisync.engine.migrate import migrate_all
from tests.integration.engines import PretendedRunner, engines, pretended_rules
from tests.servers.postgres import postgres

pytestmark = pytest.mark.prove
HOUR = 150.0  # seconds
LOOK = 5.0  # seconds between two samples
_SAMPLE = """
SELECT count(*) FILTER (WHERE due_at <= now() AND started_at IS NULL)::float8,
    coalesce(extract(epoch FROM now() - min(last_success)), 0)::float8
FROM ocisync.follow
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A moment; times are in seconds."""

    depth: float  # units that wait
    lag: float  # of the rule that is oldest
    cpu: float  # since the sample before


@pytest.fixture
def no_blocking_calls() -> None:
    """What looks for blocking calls costs more than the engine."""


@pytest.fixture
def dsn() -> Iterator[str]:
    """A database in a cluster of its own."""
    with postgres() as running:
        made = running.database()
        migrate_all(made)
        yield made


def _seconds(job: AnyJob) -> float:
    """Half of the repositories are immutable: a list and no more."""
    return 0.005 if int(job.rule[1:]) % 2 else 0.03


@pytest.mark.parametrize(("repositories", "hours"), [(5000, 24)])
async def test_depth_lag_and_load_are_flat_over_a_day(dsn: str, repositories: int, hours: int) -> None:
    runner = PretendedRunner(_seconds)
    samples: list[Sample] = []
    async with (
        engines(dsn, pretended_rules(repositories, HOUR), runner, count=4, slots=8),
        connected(dsn) as connection,
    ):
        began = anyio.current_time()
        while len(runner.ended) < repositories:  # noqa: ASYNC110 (the first pass, for which all are due at once)
            await anyio.sleep(LOOK)
        print(f"the first pass took {anyio.current_time() - began:.0f} s")  # noqa: T201
        await anyio.sleep(HOUR)
        began = anyio.current_time()
        cpu = time.process_time()
        while anyio.current_time() - began < hours * HOUR:
            await anyio.sleep(LOOK)
            now = time.process_time()
            samples.append(await _look(connection, now - cpu))
            cpu = now
    quarter = len(samples) // 4
    first, last = samples[:quarter], samples[-quarter:]
    for what in ("depth", "lag", "cpu"):
        before, after = (mean(getattr(one, what) for one in part) for part in (first, last))
        print(f"{what}: {before:.2f} in the first quarter, {after:.2f} in the last")  # noqa: T201
        assert after <= before * 1.25 + 2
    assert max(one.lag for one in samples) <= HOUR * 1.1 + 30
    passes = [len(times) for times in runner.ended.values()]
    assert len(passes) == repositories
    assert min(passes) >= hours * 0.8


async def _look(connection: psycopg.AsyncConnection[Any], cpu: float) -> Sample:
    row = await (await connection.execute(_SAMPLE.encode())).fetchone()
    assert row is not None
    return Sample(row[0], row[1], cpu)
