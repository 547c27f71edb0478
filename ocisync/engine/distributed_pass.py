"""One pass of rules, done by the daemons: everything is asked for at once, and waited for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from ocisync.content.cost import Cost
from ocisync.daemon.single_pass import PassReport
from ocisync.engine import follow_table, worker_table
from ocisync.engine.locks import connected
from ocisync.engine.scheduler import describe
from ocisync.errors import ConfigError, StoreError
from ocisync.model.digest import Digest
from ocisync.state.image_records import ImageRecord, ImageRecords
from ocisync.sync.reports import Failure, JobReport, TagReport, Verdict

if TYPE_CHECKING:
    import psycopg

_LOOK = 0.5  # seconds between two looks
_PATIENCE = 60.0  # seconds for which PostgreSQL may be away, or no daemon alive
_AGAIN = "docs/scaling.md says how daemons share the work"


async def run_distributed(
    dsn: str, sources: Mapping[str, str], images: ImageRecords, tell: Callable[[str], None]
) -> PassReport:
    """Have the daemons run rules, and wait until each of their units has ended once. `sources`: rule -> its source.

    `tell` is called with how far it is. What came of it is what is on record then.

    Raises:
        ConfigError: no daemon is there to do it, or the daemons have other rules.
        StoreError: PostgreSQL, or every daemon, was away for a minute.
    """
    rules = list(sources)
    try:
        async with connected(dsn) as connection:
            await _check(connection, rules)
            since = await follow_table.get_time(connection)
            for rule in rules:
                await follow_table.want(connection, rule, None, 0.0)
    except (ConfigError, StoreError):
        raise
    except Exception as exc:
        raise StoreError(f"PostgreSQL: {describe(exc)}", code="state.unreachable") from exc
    failing = await _wait(dsn, rules, since, tell)
    report = PassReport()
    for rule, source in sources.items():
        report.jobs += _report_images(rule, source, await images.of_rule(rule))
    told = {(job.rule, tag.failure.message) for job in report.jobs for tag in job.tags if tag.failure}
    for _, rule, item, code, message in failing:
        if rule in sources and (rule, message) not in told:
            report.failures[f"{rule}: {item}" if item else rule] = Failure(code, message, "")
    return report


async def _check(connection: psycopg.AsyncConnection[Any], rules: Sequence[str]) -> None:
    alive, _ = await worker_table.count_alive(connection)
    if not alive:
        raise ConfigError(
            f"no daemon shares the work now: start one with `ocisync run`, or leave --distributed out; {_AGAIN}",
            code="engine.idle",
        )
    known = await follow_table.list_rules(connection)
    if unknown := [rule for rule in rules if rule not in known]:
        raise ConfigError(
            f"the daemons know no rule named {', '.join(unknown[:5])}: do they have this configuration, and were they "
            "reloaded since?",
            code="engine.rule",
        )


async def _wait(
    dsn: str, rules: Sequence[str], since: float, tell: Callable[[str], None]
) -> list[tuple[float, str, str, str, str]]:
    """Wait until nothing is left; the units that fail."""
    last_seen, problem, last_told = anyio.current_time(), "no daemon is alive", -1
    while True:
        try:
            async with connected(dsn) as connection:
                while True:
                    left, total = await follow_table.count_left(connection, rules, since)
                    if not left:
                        return await follow_table.list_failing(connection, total)
                    if left != last_told:
                        last_told = left
                        tell(f"{total - left} of {total} units are done")
                    alive, _ = await worker_table.count_alive(connection)
                    if alive:
                        last_seen = anyio.current_time()
                    elif anyio.current_time() - last_seen > _PATIENCE:
                        break
                    await anyio.sleep(_LOOK)
        except Exception as exc:  # noqa: BLE001 (whatever the driver raises: the server is away)
            problem = f"PostgreSQL: {describe(exc)}"
        if anyio.current_time() - last_seen > _PATIENCE:
            raise StoreError(
                f"{problem} for {_PATIENCE:.0f} s; the request is recorded, and will be done later",
                code="state.unreachable",
            )
        await anyio.sleep(_LOOK)


def _report_images(rule: str, source: str, images: Sequence[ImageRecord]) -> list[JobReport]:
    """What is on record of a rule's images, as its jobs would tell it."""
    jobs: dict[str, JobReport] = {}
    for image in images:
        job = jobs.setdefault(image.target, JobReport(rule, source, image.target))
        failure = Failure(image.code, image.message, "") if image.code else None
        digest = Digest(image.digest) if image.digest else None
        cost = Cost(image.requests, image.bytes, image.seconds)
        job.tags.append(TagReport(image.tag, Verdict(image.verdict), image.reason, digest, failure, cost))
        job.requests += image.requests
        job.traffic.bytes += image.bytes
    return list(jobs.values())
