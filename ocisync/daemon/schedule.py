"""When a rule is due. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

from ocisync.bundles.bundle_job import BundleJob
from ocisync.content.backoff import Backoff
from ocisync.maintenance.maintenance_job import MaintenanceJob
from ocisync.model.cron import Cron
from ocisync.state.rule_records import RuleStatus
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport, RunReport

FIRST_WAIT = 15.0  # seconds; the ceiling after the first failure, doubled by each further one
LONGEST_WAIT = 3600.0  # seconds; a failing rule waits no longer, nor longer than its interval
GROWTH = 1.5  # by which the interval of a rule grows after a run in which nothing changed
SOONEST = 1.0  # seconds; what can be taken now is looked at in a moment, not at once
SHORTEST_WAIT = 5.0  # seconds; never again sooner, but for shorter intervals


AnyJob = Job | MaintenanceJob | BundleJob


@dataclass(frozen=True, slots=True)
class Schedule:
    """A rule, its jobs, and when they run."""

    rule: str
    jobs: tuple[AnyJob, ...]
    interval: float  # seconds from the end of one run to the start of the next; not looked at with a `cron`
    jitter: float = 0.1  # the part of the interval by which a wait may be shorter or longer
    enabled: bool = True
    cron: Cron | None = None
    settings: object = None  # what the configuration says of it; another value makes the rule due after a reload
    label: str = ""  # of the daemons that can do it; empty: any
    longest: float = 0.0  # seconds; where it is more than `interval`, the wait grows up to it while nothing changes

    @property
    def has_range(self) -> bool:
        """Whether the interval follows how often something changes."""
        return self.cron is None and self.longest > self.interval

    @property
    def is_adaptive(self) -> bool:
        """Whether that is the rule's own; of a whole registry each repository has one (`daemon.pace`)."""
        return self.has_range and bool(self.jobs)

    def adapt(self, present: float | None, *, has_changed: bool) -> float | None:
        """The next interval of the rule, in seconds; None: always the same."""
        if not self.is_adaptive:
            return None
        return self.interval if has_changed else self.grow(present)

    def grow(self, present: float | None) -> float:
        """The next interval, in seconds, after nothing has changed."""
        return self.interval if present is None else min(present * GROWTH, self.longest)

    def gap(self, now: float, present: float | None = None) -> float:
        """Seconds between two runs when all goes well; by the calendar, between the next two."""
        if self.cron is None:
            return present if present and self.is_adaptive else self.interval
        following = self.cron.next_after(now)
        return self.cron.next_after(following) - following


class Expansion(NamedTuple):
    """The jobs of one run of a rule, and what is to be told of their finding."""

    jobs: tuple[AnyJob, ...]
    reports: tuple[JobReport, ...] = ()


def first_wait(schedule: Schedule, status: RuleStatus, now: float) -> float:
    """Seconds until a rule runs after a start, on the wall clock of `now`.

    By the calendar: at once when a time has passed since the last run ended, or a run was cut short; a rule that never
    ran waits for its time. By an interval: what was recorded holds, but never longer than an interval, because the
    clock may have been set since.
    """
    recorded = 0.0 if status.next_due is None else max(0.0, status.next_due - now)
    if schedule.cron is None:
        return min(recorded, max(schedule.interval, schedule.longest) * (1 + schedule.jitter))
    finished = max(status.last_success or 0.0, status.last_failure or 0.0)
    if (status.last_started or 0.0) > finished or (status.next_due is not None and status.next_due <= now):
        return 0.0
    wait = max(0.0, schedule.cron.next_after(min(finished or now, now)) - now)
    return min(wait, recorded) if status.failures and status.next_due is not None else wait


def next_due(
    now: float, last_finished: float | None, failures: int, interval: float, rng: random.Random, *, jitter: float = 0.1
) -> float:
    """When a rule runs next, on the clock of `now`: at once when it never ran, never in the past.

    `failures` counts runs in a row that failed in a way which trying again may mend: they back off with full jitter,
    and never wait longer than a run that went well.
    """
    if last_finished is None:
        return now
    spread = interval * (1 + rng.uniform(-jitter, jitter))
    wait = min(spread, _backoff(interval).wait(failures, rng.random())) if failures else spread
    return max(now, last_finished + wait)


def wait_after_run(
    schedule: Schedule, outcome: RunReport, present: float | None, failures: int, now: float, rng: random.Random
) -> tuple[float, bool]:
    """Seconds until a rule runs again, and whether that is earlier than its schedule says.

    `present` is the interval in use, in seconds; `failures` counts runs in a row that failed, this one too.
    """
    failures = failures if outcome.is_retried else 0
    if schedule.cron is None:
        wait = next_due(0.0, 0.0, failures, schedule.gap(now, present), rng, jitter=schedule.jitter)
    else:
        wait = next_due(0.0, 0.0, failures, schedule.cron.next_after(now) - now, rng, jitter=0.0)
    if outcome.pending_until is not None and outcome.pending_until - now < wait:
        return max(SOONEST, outcome.pending_until - now), True
    return wait, outcome.is_retried


def _backoff(interval: float) -> Backoff:
    """A failing rule waits no longer than one that goes well."""
    return Backoff(FIRST_WAIT, longest=min(interval, LONGEST_WAIT), shortest=min(SHORTEST_WAIT, interval))
