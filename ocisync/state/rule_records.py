"""What the daemon remembers of each rule: how its last runs went, and when the next is due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ocisync.model.text.outside_json import storable
from ocisync.state.rows import Database, Rows, upsert


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """How a rule fares. Times are seconds since the epoch; None means never."""

    last_started: float | None = None
    last_success: float | None = None
    last_failure: float | None = None
    code: str = ""  # of the last run's failure; empty after a success
    message: str = ""
    failures: int = 0  # in a row
    next_due: float | None = None
    interval: float | None = None  # seconds; the present one where it follows how often something changes


_SLACK = 120.0  # seconds; a rule that runs every few seconds is not late for one slow run


@dataclass(frozen=True, slots=True)
class RuleView:
    """How a rule fares now."""

    status: RuleStatus
    lag: float  # seconds since it last did all it should; since the daemon took it, where it never did
    gap: float  # seconds from one run to the next when all goes well
    is_running: bool = False
    is_wanted: bool = False  # triggered, and not begun yet

    @property
    def overdue(self) -> float:
        """Seconds by which it is older than it should be."""
        return max(0.0, self.lag - self.gap)

    def lag_limit(self, late_after: float | None = None) -> float:
        """The lag from which on it is late: so many seconds after it was due, or half of its interval."""
        return self.gap + (max(self.gap / 2, _SLACK) if late_after is None else late_after)


class RuleRecords(Protocol):
    """Where the status of rules outlives the process. Losing it costs one early run of each rule."""

    async def rule_status(self, rule: str) -> RuleStatus | None:
        """What is remembered of a rule, or None."""
        ...

    async def save_rule_status(self, rule: str, status: RuleStatus) -> None:
        """Remember a rule's status in place of the one before."""
        ...


class MemoryRecords:
    """Records for one run."""

    def __init__(self) -> None:
        self.statuses: dict[str, RuleStatus] = {}

    async def rule_status(self, rule: str) -> RuleStatus | None:
        """What this run saw."""
        return self.statuses.get(rule)

    async def save_rule_status(self, rule: str, status: RuleStatus) -> None:
        """Remember until the process ends."""
        self.statuses[rule] = status


_COLUMNS = "last_started, last_success, last_failure, code, message, failures, next_due, present_interval"
_SAVE = upsert("rule", "name", f"name, {_COLUMNS}")


class StoredRuleRecords:
    """The status of every rule."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rule_status(self, rule: str) -> RuleStatus | None:
        """What is remembered of a rule."""

        def look(rows: Rows) -> RuleStatus | None:
            row = rows.execute(f"SELECT {_COLUMNS} FROM rule WHERE name = ?", (rule,)).fetchone()
            return RuleStatus(*row) if row else None

        return await self._database.read(look)

    async def save_rule_status(self, rule: str, status: RuleStatus) -> None:
        """Remember a rule's status."""
        row = (
            rule,
            status.last_started,
            status.last_success,
            status.last_failure,
            status.code,
            storable(status.message),
            status.failures,
            status.next_due,
            status.interval,
        )
        await self._database.write(lambda rows: rows.execute(_SAVE, row))
