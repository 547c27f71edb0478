"""How all daemons together fare, as of the last look at the tables."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ocisync.daemon.schedule import Schedule
from ocisync.daemon.status.activity import RunningJob
from ocisync.daemon.status.failures import FailureNow
from ocisync.engine import follow_table, worker_table
from ocisync.engine.follow_table import RuleCourse
from ocisync.logs import clean
from ocisync.state.rule_records import RuleStatus, RuleView

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.AsyncConnection[Any]

_MOST = 500  # failing units that are shown


@dataclass(slots=True)
class FleetView:
    """What the tables say. Their times are the database's: here they are those of this machine's clock."""

    statuses: Mapping[str, RuleStatus] = field(default_factory=dict)
    courses: Mapping[str, RuleCourse] = field(default_factory=dict)
    jobs: Sequence[tuple[str, RunningJob]] = ()  # of the other daemons, with their names
    failures: Sequence[FailureNow] = ()  # units that fail
    _looked: float = float("-inf")  # when, on the monotonic clock

    @property
    def waiting(self) -> int:
        """How many units of all rules are due and wait."""
        return sum(course.waiting for course in self.courses.values())

    async def look(self, connection: Connection, own_name: str, fresh: float = 0.0) -> None:
        """Ask the database, unless what is known is at most so many seconds old."""
        if time.monotonic() - self._looked < fresh:
            return
        before, self._looked = time.time(), time.monotonic()
        now = await follow_table.get_time(connection)
        ahead = now - (before + time.time()) / 2  # seconds by which the database's clock is
        found = await follow_table.list_statuses(connection)
        self.statuses = {rule: _shift(status, ahead) for rule, status in found.items()}
        self.courses = await follow_table.list_courses(connection)
        activities = await worker_table.list_activities(connection, own_name)
        self.jobs = [(name, job) for name, text in activities for job in read_jobs(text)]
        failing = await follow_table.list_failing(connection, _MOST)
        self.failures = [
            FailureNow(at - ahead, rule, item or rule, code, clean(message))
            for at, rule, item, code, message in failing
        ]

    def view(self, schedule: Schedule, since: float, now: float) -> RuleView:
        """How a rule fares; `since`: seconds since this daemon knows it."""
        status = self.statuses.get(schedule.rule) or RuleStatus()
        course = self.courses.get(schedule.rule) or RuleCourse()
        lag = since if status.last_success is None else now - status.last_success
        # Of a whole registry the slowest repository counts: each has an interval of its own.
        gap = status.interval if status.interval and schedule.has_range else schedule.gap(now)
        return RuleView(status, max(0.0, lag), gap, course.running > 0, course.is_wanted)


def write_jobs(jobs: Iterable[RunningJob]) -> str:
    """What a daemon tells the others of its jobs."""
    return json.dumps([asdict(job) for job in jobs]).replace("\\u0000", "")


def read_jobs(text: str) -> list[RunningJob]:
    """What a daemon told of its jobs."""
    try:
        return [RunningJob(**one | {"images": tuple(one["images"])}) for one in json.loads(text)]
    except (ValueError, TypeError, KeyError):  # of another version
        return []


def _shift(status: RuleStatus, ahead: float) -> RuleStatus:
    def own(moment: float | None) -> float | None:
        return None if moment is None else moment - ahead

    return replace(
        status,
        last_started=own(status.last_started),
        last_success=own(status.last_success),
        last_failure=own(status.last_failure),
        next_due=own(status.next_due),
    )
