"""The seam between records and their database: SQLite in the state folder, or PostgreSQL for many daemons.

Records speak one SQL for both: `?` for values, `INSERT … ON CONFLICT` to write, and only types that both have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class CorruptDatabase(Exception):
    """The database does not hold what was written to it."""


class Found(Protocol):
    """The rows that a query found."""

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """All rows that are left."""
        ...


class Rows(Protocol):
    """An open transaction."""

    def execute(self, query: str, values: Sequence[object] = (), /) -> Found:
        """Run one statement; its values stand for the `?` in it."""
        ...

    def executemany(self, query: str, values: Iterable[Sequence[object]], /) -> object:
        """Run one statement for each row of values."""
        ...


class Database(Protocol):
    """Transactions in a thread. What several callers want at the same moment may be one transaction."""

    @property
    def read_only(self) -> bool:
        """Whether nothing may be written."""
        ...

    async def read(self, act: Callable[[Rows], T]) -> T:
        """Run queries.

        Raises:
            StoreError, DiskError: the database cannot be used now.
        """
        ...

    async def write(self, act: Callable[[Rows], T]) -> T:
        """Run statements, all of them or none; they may be run twice. Raises as `read` does."""
        ...


def upsert(table: str, key: str, columns: str) -> str:
    """The statement that writes one row in place of the one with the same key; columns are separated by commas."""
    names = [name.strip() for name in columns.split(",")]
    keys = {name.strip() for name in key.split(",")}
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
    change = f"UPDATE SET {updates}" if updates else "NOTHING"
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(names))}) ON CONFLICT ({key}) DO {change}"
