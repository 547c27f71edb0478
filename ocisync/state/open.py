"""The daemon's memory between runs: one SQLite file in the state folder. It is a cache; deleting it costs time only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from ocisync.state.database import SqliteDatabase
from ocisync.state.image_records import ImageRecords
from ocisync.state.input_records import InputRecords
from ocisync.state.ledger import StoredLedger
from ocisync.state.rule_records import StoredRuleRecords


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered: of targets (a sync.ledger.Ledger), of rules, drop folders' inputs and images."""

    ledger: StoredLedger
    rules: StoredRuleRecords
    inputs: InputRecords
    images: ImageRecords


@asynccontextmanager
async def open_state(folder: Path, *, read_only: bool = False) -> AsyncIterator[State]:
    """Open the state; several processes may at a time. `read_only` works where there is none yet, and shows nothing.

    A file of an older version is upgraded in place; a newer or damaged one is moved aside and begun
    anew, with a warning.

    Raises:
        DiskError: the folder cannot be used.
    """
    database = SqliteDatabase(folder, read_only=read_only)
    await database.open()
    try:
        yield State(StoredLedger(database), StoredRuleRecords(database), InputRecords(database), ImageRecords(database))
    finally:
        with anyio.CancelScope(shield=True):
            await database.close()
