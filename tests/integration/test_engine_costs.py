"""What the engine costs: connections, time per job, and nothing where one daemon works alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import psycopg
import pytest

from ocisync.engine.migrate import migrate_all
from tests.integration.engines import Fleet, PretendedRunner, engines, post, pretended_rules
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import Json, make_image, push
from tests.servers.postgres import Postgres
from tests.servers.process import wait_for

MOST_CONNECTIONS = 6  # of one daemon
MOST_OVERHEAD = 0.015  # seconds of CPU for one job


@pytest.fixture
def no_blocking_calls() -> None:
    """What looks for blocking calls costs more than what is measured here."""


@pytest.fixture
def fleet(tmp_path: Path, postgresql: Postgres, registry: DockerRegistry) -> Iterator[Fleet]:
    """One daemon with twenty rules and places for eight jobs."""
    sync: list[Json] = [
        {"name": f"r{n}", "source": f"{registry.host}/app{n}", "target": f"local/app{n}", "interval": "5s"}
        for n in range(20)
    ]
    made = Fleet(tmp_path / "fleet", postgresql, sync, {registry.host: {"plain_http": True}}, slots=8)
    made.migrate()
    try:
        yield made
    finally:
        made.close()


def test_a_daemon_has_six_connections_at_most(fleet: Fleet, registry: DockerRegistry) -> None:
    for number in range(20):
        push(registry.client, f"app{number}", "1", make_image(str(number)))
    most = 0
    with psycopg.connect(fleet.dsn, autocommit=True) as other:
        daemon = fleet.start("one")
        count = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )

        def look() -> bool:
            nonlocal most
            row = other.execute(count).fetchone()
            most = max(most, row[0] if row else 0)
            daemon.get("/v1/status")
            done = other.execute("SELECT count(*) FROM ocisync.follow WHERE last_success IS NOT NULL").fetchone()
            return done == (20,)

        wait_for(look, "every rule", 90)
        assert post(daemon, "/v1/sync/r0", {}) == 202
        assert 4 <= most <= MOST_CONNECTIONS


async def test_a_job_costs_little_more_than_itself(postgresql: Postgres) -> None:
    """The CPU of this process for jobs that do nothing; PostgreSQL's own is not in it, its commits are counted."""
    dsn = postgresql.database()
    migrate_all(dsn)
    runner, jobs = PretendedRunner(), 300
    async with engines(dsn, pretended_rules(jobs, 3600.0), runner, count=1, slots=8):
        with anyio.fail_after(120):
            while not runner.ended:  # noqa: ASYNC110 (it is the database that changes)
                await anyio.sleep(0.01)
            began, before, commits = time.process_time(), len(runner.ended), _count_commits(dsn)
            while len(runner.ended) < jobs:  # noqa: ASYNC110
                await anyio.sleep(0.05)
        done = jobs - before
        cpu, each = (time.process_time() - began) / done, (_count_commits(dsn) - commits) / done
    print(f"{cpu * 1000:.1f} ms of CPU and {each:.1f} commits a job")  # noqa: T201
    assert cpu <= MOST_OVERHEAD
    assert each <= 12


def _count_commits(dsn: str) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_clear_snapshot()")
        row = connection.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        return int(row[0]) if row else 0
