"""The memory between runs: a SQLite file in the state folder, or PostgreSQL. Losing it costs time only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from ocisync.state.database import SqliteDatabase
from ocisync.state.history_records import HistoryRecords
from ocisync.state.image_records import ImageRecords
from ocisync.state.input_records import InputRecords
from ocisync.state.ledger import StoredLedger
from ocisync.state.rows import Database
from ocisync.state.rule_records import StoredRuleRecords

if TYPE_CHECKING:
    from ocisync.state.postgres_database import PostgresDatabase


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered: of targets (a sync.ledger.Ledger), of rules, drop folders' inputs and images."""

    ledger: StoredLedger
    rules: StoredRuleRecords
    inputs: InputRecords
    images: ImageRecords
    history: HistoryRecords


@asynccontextmanager
async def open_state(
    folder: Path, *, read_only: bool = False, dsn: str = "", in_full: bool = False
) -> AsyncIterator[State]:
    """Open the state: in PostgreSQL where there is a connection string, else the file in the folder.

    Several processes may at a time. `read_only` works where there is no file yet, and shows nothing. A file of an older
    version is upgraded in place; a newer or damaged one is moved aside and begun anew, with a warning. PostgreSQL's
    tables are changed by `ocisync engine migrate` only. `in_full`: look through all of a large file first, which takes
    seconds for gigabytes; otherwise damage is found where it is met.

    Raises:
        DiskError: the folder cannot be used.
        ConfigError: PostgreSQL lacks the tables, or this ocisync the driver.
        StoreError: PostgreSQL cannot be reached.
    """
    async with open_database(dsn or str(folder), read_only=read_only, in_full=in_full) as database:
        yield state_of(database)


@asynccontextmanager
async def open_database(place: str, *, read_only: bool = False, in_full: bool = False) -> AsyncIterator[Database]:
    """A state's database, by its folder or connection string; otherwise as `open_state`."""
    database: SqliteDatabase | PostgresDatabase
    if is_dsn(place):
        from ocisync.state.postgres_database import PostgresDatabase  # one process alone does without

        database = PostgresDatabase(place, read_only=read_only)
    else:
        database = SqliteDatabase(Path(place), read_only=read_only, in_full=in_full)
    await database.open()
    try:
        yield database
    finally:
        with anyio.CancelScope(shield=True):
            await database.close()


def is_dsn(place: str) -> bool:
    """Whether a text is PostgreSQL's connection string, not a folder."""
    return place.startswith(("postgresql://", "postgres://")) or "host=" in place or "dbname=" in place


def state_of(database: Database) -> State:
    """The records of an open database."""
    return State(
        StoredLedger(database),
        StoredRuleRecords(database),
        InputRecords(database),
        ImageRecords(database),
        HistoryRecords(database),
    )
