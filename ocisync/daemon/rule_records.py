"""daemon.rules.RuleRecords in SQLite: back-off and the time of the next run survive a restart."""

from __future__ import annotations

import sqlite3

from ocisync.daemon.database import Database
from ocisync.daemon.rules import RuleStatus

_COLUMNS = "last_started, last_success, last_failure, code, message, failures, next_due"


class StoredRuleRecords:
    """The status of every rule."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rule_status(self, rule: str) -> RuleStatus | None:
        """What is remembered of a rule."""

        def look(rows: sqlite3.Connection) -> RuleStatus | None:
            row = rows.execute(f"SELECT {_COLUMNS} FROM rule WHERE name = ?", (rule,)).fetchone()
            return RuleStatus(*row) if row else None

        return await self._database.read(look)

    async def rule_statuses(self) -> dict[str, RuleStatus]:
        """Every rule's status, by name."""
        return await self._database.read(
            lambda rows: {row[0]: RuleStatus(*row[1:]) for row in rows.execute(f"SELECT name, {_COLUMNS} FROM rule")}
        )

    async def save_rule_status(self, rule: str, status: RuleStatus) -> None:
        """Remember a rule's status."""
        row = (
            rule,
            status.last_started,
            status.last_success,
            status.last_failure,
            status.code,
            status.message,
            status.failures,
            status.next_due,
        )
        marks = ", ".join("?" * len(row))
        await self._database.write(
            lambda rows: rows.execute(f"INSERT OR REPLACE INTO rule (name, {_COLUMNS}) VALUES ({marks})", row)
        )
