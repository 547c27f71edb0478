"""What a configuration asks the daemon for, and the hands that it works with: no part of how that is done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from ocisync.daemon.drop import DropRule
from ocisync.daemon.queue import Runner, StandsStill, never_still
from ocisync.daemon.schedule import Expand, Schedule, as_scheduled
from ocisync.spec.locator import Locator
from ocisync.sync.job import Job

Names = Callable[[Locator], Awaitable[Sequence[str]]]
"""What an archive says its images are called: RepoTags or reference annotations, `@N` for one of several that has none.

Raises ArchiveError."""

Hold = Callable[[Locator], AbstractAsyncContextManager[None]]
"""Keeps an archive open, so that its names and all jobs of it need one opening; raises ArchiveError."""

Identify = Callable[[Locator], Awaitable[str]]
"""What an archive says it holds, as one digest; empty where only all of its bytes tell. Raises ArchiveError."""

Follow = Callable[[str, str], Sequence[Job]]
"""The jobs for one repository of a registry that rules mirror as a whole, by its host (empty: any) and name."""


async def identify_nothing(locator: Locator) -> str:  # noqa: ARG001 (as Identify has it)
    """Every archive is known by its bytes."""
    return ""


def hold_nothing(locator: Locator) -> AbstractAsyncContextManager[None]:  # noqa: ARG001 (as Hold has it)
    """Every use opens the archive anew."""
    return nullcontext()


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
    upkeep: tuple[Schedule, ...] = ()  # of whole targets; no part of a single pass
    hold: Hold = hold_nothing
    identify: Identify = identify_nothing
    expand: Expand = as_scheduled
    follow: Follow = follow_nothing
    stands_still: StandsStill = never_still
