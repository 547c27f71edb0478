"""When a rule is due. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ocisync.sync.job import Job

FIRST_WAIT = 15.0  # seconds; the ceiling after the first failure, doubled by each further one
LONGEST_WAIT = 3600.0  # seconds; a failing rule waits no longer, nor longer than its interval
SHORTEST_WAIT = 5.0  # seconds; never again sooner, but for shorter intervals


@dataclass(frozen=True, slots=True)
class Schedule:
    """A rule, its jobs, and how often they run."""

    rule: str
    jobs: tuple[Job, ...]
    interval: float  # seconds from the end of one run to the start of the next
    jitter: float = 0.1  # the part of the interval by which a wait may be shorter or longer
    enabled: bool = True


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
    wait = min(spread, _back_off(failures, interval, rng)) if failures else spread
    return max(now, last_finished + wait)


def _back_off(failures: int, interval: float, rng: random.Random) -> float:
    longest = min(interval, LONGEST_WAIT)
    ceiling = min(longest, FIRST_WAIT * 2.0 ** min(failures - 1, 30))
    return max(min(SHORTEST_WAIT, interval), rng.uniform(0, ceiling))
