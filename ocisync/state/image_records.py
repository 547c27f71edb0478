"""What the last look at each image of a rule came to, for `ocisync status`, and worth nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ocisync.logs import clean
from ocisync.model.text.outside_json import storable
from ocisync.state.rows import Database, Rows, upsert
from ocisync.sync.reports import JobReport, TagReport, Verdict

_UNCHANGED, _NAME = Verdict.UNCHANGED, Verdict.UNCHANGED.value
_COLUMNS = "rule, target, tag, verdict, reason, digest, bytes, requests, seconds, code, message, at"
_SAVE = upsert("image", "rule, target, tag", _COLUMNS)
_KNOWN = "SELECT tag, verdict, digest FROM image WHERE rule = ? AND target = ?"
_FORGET = "DELETE FROM image WHERE rule = ? AND target = ? AND tag = ?"


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

        A job that failed as a whole, or looked at some tags only, tells nothing of the others. An image that stays
        unchanged is written once, so that a pass which finds nothing new writes nothing.
        """
        where, now = (report.rule, report.target), time.time()
        is_whole = report.failure is None and not is_partial

        def write(connection: Rows) -> None:
            known = {tag: (verdict, digest) for tag, verdict, digest in connection.execute(_KNOWN, where)}
            news = (tag for tag in report.tags if not _is_recorded(tag, known.get(tag.tag)))
            connection.executemany(_SAVE, (_row(report, tag, now) for tag in news))
            if is_whole:
                gone = known.keys() - {tag.tag for tag in report.tags}
                connection.executemany(_FORGET, ((*where, tag) for tag in gone))

        await self._database.write(write)

    async def of_rule(self, rule: str) -> list[ImageRecord]:
        """A rule's images, by target and tag."""
        return await self._database.read(
            lambda rows: [
                ImageRecord(*row)
                for row in rows.execute(f"SELECT {_COLUMNS} FROM image WHERE rule = ? ORDER BY target, tag", (rule,))
            ]
        )

    async def failed(self, most: int) -> list[ImageRecord]:
        """The images that failed last, of all rules, the newest first."""
        query = f"SELECT {_COLUMNS} FROM image WHERE code != '' ORDER BY at DESC LIMIT ?"
        return await self._database.read(lambda rows: [ImageRecord(*row) for row in rows.execute(query, (most,))])


def _row(report: JobReport, tag: TagReport, now: float) -> tuple[object, ...]:
    """The columns of an ImageRecord."""
    failure = tag.failure
    return (
        report.rule,
        report.target,
        storable(tag.tag),
        tag.verdict.value,
        storable(clean(tag.reason)),
        tag.digest or "",
        tag.cost.bytes,
        tag.cost.requests,
        round(tag.cost.seconds, 3),
        failure.code if failure else "",
        storable(clean(failure.message)) if failure else "",
        now,
    )


def _is_recorded(tag: TagReport, known: tuple[str, str] | None) -> bool:
    return tag.verdict is _UNCHANGED and known == (_NAME, tag.digest or "")
