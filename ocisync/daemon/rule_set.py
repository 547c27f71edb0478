"""What a configuration asks the daemon for, and the hands that it works with: no part of how that is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ocisync.daemon.queue import IsStalled, Runner, never_stalled
from ocisync.daemon.schedule import Expand, Schedule, as_scheduled
from ocisync.drop.rule import DropRule, Hold, Identify, Names, hold_nothing, identify_nothing
from ocisync.sync.job import Job

Follow = Callable[[str, str], Sequence[Job]]
"""The jobs for one repository of a registry that rules mirror as a whole, by its host (empty: any) and name."""


def follow_nothing(host: str, repository: str) -> Sequence[Job]:
    """No rule mirrors a whole registry."""
    del host, repository
    return ()


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What a configuration asks for, and how its jobs are run."""

    schedules: tuple[Schedule, ...]
    drops: tuple[DropRule, ...]
    run: Runner
    names: Names
    workers: int  # jobs at a time
    maintenance: tuple[Schedule, ...] = ()  # of whole targets; no part of a single pass
    hold: Hold = hold_nothing
    identify: Identify = identify_nothing
    expand: Expand = as_scheduled
    follow: Follow = follow_nothing
    is_stalled: IsStalled = never_stalled
