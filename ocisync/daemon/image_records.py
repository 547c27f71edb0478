"""What the last look at each image of a rule came to, in SQLite: for `ocisync status`, and worth nothing else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass

from ocisync.daemon.database import Database
from ocisync.logs import clean
from ocisync.sync.reports import JobReport, TagReport, Verdict

_COLUMNS = "rule, target, tag, verdict, reason, digest, bytes, requests, seconds, code, message, at"
_KEPT = ("rule", "target", "tag")
# An image that stays unchanged is written once: a pass over many tags that finds nothing new writes nothing.
_SAVE = f"""
INSERT INTO image ({_COLUMNS}) VALUES ({", ".join("?" * len(_COLUMNS.split()))})
ON CONFLICT (rule, target, tag) DO UPDATE SET
{", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ") if name not in _KEPT)}
WHERE excluded.verdict <> '{Verdict.UNCHANGED.value}' OR image.verdict <> excluded.verdict
   OR image.digest <> excluded.digest
"""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One tag at one target. `at` is when it was first seen like this, in seconds since the epoch."""

    rule: str
    target: str
    tag: str
    verdict: str
    reason: str
    digest: str
    bytes: int
    requests: int
    seconds: float
    code: str  # of the failure; empty when there is none
    message: str
    at: float


class ImageRecords:
    """The last verdicts. Each call is one transaction in the database's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, report: JobReport, *, is_partial: bool = False) -> None:
        """Remember what a job came to, in place of what it came to before.

        A job that failed as a whole, or looked at some tags only, tells nothing of the others.
        """
        now = time.time()
        rows = [astuple(_record(report, tag, now)) for tag in report.tags]
        is_whole = report.failure is None and not is_partial

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(_SAVE, rows)
            if is_whole:
                _forget_others(connection, report, (tag.tag for tag in report.tags))

        await self._database.write(write)

    async def of_rule(self, rule: str) -> list[ImageRecord]:
        """A rule's images, by target and tag."""
        return await self._database.read(
            lambda rows: [
                ImageRecord(*row)
                for row in rows.execute(f"SELECT {_COLUMNS} FROM image WHERE rule = ? ORDER BY target, tag", (rule,))
            ]
        )


def _record(report: JobReport, tag: TagReport, now: float) -> ImageRecord:
    failure = tag.failure
    return ImageRecord(
        report.rule,
        report.target,
        tag.tag,
        tag.verdict.value,
        clean(tag.reason),
        tag.digest or "",
        tag.cost.bytes,
        tag.cost.requests,
        round(tag.cost.seconds, 3),
        failure.code if failure else "",
        clean(failure.message) if failure else "",
        now,
    )


def _forget_others(connection: sqlite3.Connection, report: JobReport, tags: Iterable[str]) -> None:
    """Drop the tags that the rule no longer brings to this target."""
    place = (report.rule, report.target)
    known = {tag for (tag,) in connection.execute("SELECT tag FROM image WHERE rule = ? AND target = ?", place)}
    gone = known.difference(tags)
    connection.executemany(
        "DELETE FROM image WHERE rule = ? AND target = ? AND tag = ?", ((*place, tag) for tag in gone)
    )
