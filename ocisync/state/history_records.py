"""What the daemon did in the last days, in samples of some minutes; and of what people were told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ocisync.model.text.outside_json import storable
from ocisync.state.rows import Database, Rows, upsert

KEPT = 7 * 86400.0  # seconds


@dataclass(frozen=True, slots=True)
class Sample:
    """What was done in a stretch of time that ends `at`, in seconds since the epoch."""

    at: float
    seconds: float  # its length
    bytes: int = 0  # sent to targets
    requests: int = 0
    copied: int = 0  # tags
    failed: int = 0  # tags, and jobs as a whole
    late: float = 0.0  # seconds by which the latest rule was overdue


_COLUMNS = "at, seconds, bytes, requests, copied, failed, late"
_SAVE = upsert("sample", "at", _COLUMNS)
_CLAIM = """
INSERT INTO notice (subject, state, at) VALUES (?, ?, ?) ON CONFLICT (subject) DO NOTHING RETURNING subject
"""
_SAVE_NOTICE = upsert("notice", "subject", "subject, state, at")


@dataclass(frozen=True, slots=True)
class HistoryRecords:
    """Samples and notices. Each call is one transaction in the database's thread."""

    _database: Database

    async def add(self, sample: Sample) -> None:
        """Remember a sample, and forget those that are older than `KEPT`."""
        row = (sample.at, sample.seconds, sample.bytes, sample.requests, sample.copied, sample.failed, sample.late)

        def write(rows: Rows) -> None:
            rows.execute(_SAVE, row)
            rows.execute("DELETE FROM sample WHERE at < ?", (sample.at - KEPT,))

        await self._database.write(write)

    async def since(self, moment: float) -> list[Sample]:
        """The samples that end after a moment, the oldest first."""
        query = f"SELECT {_COLUMNS} FROM sample WHERE at > ? ORDER BY at"
        return await self._database.read(lambda rows: [Sample(*row) for row in rows.execute(query, (moment,))])

    async def notices(self) -> Mapping[str, str]:
        """Subject -> the state that people were told last."""
        return await self._database.read(
            lambda rows: {
                str(subject): str(state) for subject, state in rows.execute("SELECT subject, state FROM notice")
            }
        )

    async def save_notices(self, states: Mapping[str, str], now: float) -> None:
        """Remember what people were told; an empty state forgets a subject."""

        def write(rows: Rows) -> None:
            for subject, state in states.items():
                if state:
                    rows.execute(_SAVE_NOTICE, (storable(subject), state, now))
                else:
                    rows.execute("DELETE FROM notice WHERE subject = ?", (storable(subject),))

        await self._database.write(write)

    async def claim_notice(self, subject: str, state: str, now: float) -> bool:
        """Remember what is to be told, where nobody else did: of several daemons with one database one may tell it."""

        def write(rows: Rows) -> bool:
            if state:
                found = rows.execute(_CLAIM, (storable(subject), state, now))
            else:
                found = rows.execute("DELETE FROM notice WHERE subject = ? RETURNING subject", (storable(subject),))
            return found.fetchone() is not None

        return await self._database.write(write)
