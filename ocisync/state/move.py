"""Copies what one database remembers into another: from the file to PostgreSQL, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ocisync.state.ledger import repository_id
from ocisync.state.rows import Database, Rows, upsert

_PAGE = 5000  # rows

# Table -> its key and its columns. Those of repositories have numbers of their own in each database.
_OWN: dict[str, tuple[str, str]] = {
    "tag": ("name", "name, digest, verified_at, scope, referrers, media_type, size"),
    "blob": ("digest", "digest, size"),
    "layer": ("diff_id, variant", "diff_id, variant, media_type, digest, size"),
}
_OTHERS: dict[str, tuple[str, str]] = {
    "rule": (
        "name",
        "name, last_started, last_success, last_failure, code, message, failures, next_due, present_interval",
    ),
    "input": (
        "rule, key",
        "rule, key, state, at, purpose, identity, members, published, failures, due, code, message",
    ),
    "note": ("kind, digest", "kind, digest, fact"),
    "image": (
        "rule, target, tag",
        "rule, target, tag, verdict, reason, digest, bytes, requests, seconds, code, message, at",
    ),
    "seen": ("source, tag, digest", "source, tag, digest, at"),
    "sample": ("at", "at, seconds, bytes, requests, copied, failed, late"),
    "notice": ("subject", "subject, state, at"),
}


@dataclass(slots=True)
class Moved:
    """How much was copied."""

    rows: dict[str, int] = field(default_factory=dict)  # by table

    def add(self, table: str, count: int) -> None:
        """Count rows of a table."""
        self.rows[table] = self.rows.get(table, 0) + count


async def copy_state(source: Database, target: Database) -> Moved:
    """Write all rows of one database into another, in place of rows with the same keys; others there stay.

    Memory is bounded by pages of rows. It may be run again: what was interrupted is complete then.

    Raises:
        StoreError, DiskError: one of them cannot be used.
    """
    moved = Moved()
    query = "SELECT target, name FROM repository ORDER BY target, name"
    repositories = await source.read(lambda rows: [tuple(row) for row in rows.execute(query)])
    for place in repositories:
        for table, (key, columns) in _OWN.items():
            reader = _TablePages(table, key, columns, f"repository = ({_WHICH})", place)
            async for page in reader.read(source):
                await target.write(partial(_write_own, table, key, columns, place, page))
                moved.add(table, len(page))
        moved.add("repository", 1)
    for table, (key, columns) in _OTHERS.items():
        async for page in _TablePages(table, key, columns).read(source):
            await target.write(partial(_write, upsert(table, key, columns), page))
            moved.add(table, len(page))
    return moved


_WHICH = "SELECT id FROM repository WHERE target = ? AND name = ?"


@dataclass(frozen=True, slots=True)
class _TablePages:
    """A table, read in the order of its key, so many rows at a time."""

    table: str
    key: str
    columns: str
    condition: str = ""
    values: tuple[object, ...] = ()

    async def read(self, database: Database) -> Any:
        """Pages of rows."""
        last: tuple[object, ...] | None = None
        width = len(self.key.split(","))
        while page := await database.read(partial(self._page, last)):
            yield page
            last = tuple(page[-1][:width])  # the columns of the key come first
            if len(page) < _PAGE:
                return

    def _page(self, last: tuple[object, ...] | None, rows: Rows) -> list[tuple[object, ...]]:
        conditions = [self.condition] if self.condition else []
        values = self.values
        if last is not None:
            conditions.append(f"({self.key}) > ({', '.join('?' * len(last))})")
            values = (*values, *last)
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        query = f"SELECT {self.columns} FROM {self.table} {where}ORDER BY {self.key} LIMIT {_PAGE}"
        return [tuple(row) for row in rows.execute(query, values)]


def _write_own(
    table: str, key: str, columns: str, place: tuple[str, str], page: Sequence[tuple[object, ...]], rows: Rows
) -> None:
    number = repository_id(rows, *place)
    query = upsert(table, f"repository, {key}", f"repository, {columns}")
    rows.executemany(query, ((number, *row) for row in page))


def _write(query: str, page: Sequence[tuple[object, ...]], rows: Rows) -> None:
    rows.executemany(query, page)
