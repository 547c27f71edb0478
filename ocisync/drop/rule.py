"""A drop rule, and what a pass over its folder reports: plain values."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from ocisync.drop.naming import DEFAULT_LAYOUT
from ocisync.model.locator import Locator
from ocisync.model.platform import Platform
from ocisync.sync.judging.acceptance import Acceptance
from ocisync.sync.reports import Failure, JobReport

DAY = 24 * 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class DropTarget:
    """A configured target, and the path that goes before every repository there."""

    target: str
    prefix: str = ""

    def repository(self, name: str) -> str:
        """Where an image of this name goes."""
        return f"{self.prefix}/{name}" if self.prefix else name


@dataclass(frozen=True, slots=True)
class Incomplete:
    """What becomes of a set that still lacks a declared platform so many seconds after a file last joined it."""

    after: float
    action: Literal["warn", "publish", "fail"] = "warn"


@dataclass(frozen=True, slots=True)
class DropRule:
    """A folder to watch and what becomes of what is dropped there. Times are in seconds."""

    name: str
    path: Path
    targets: tuple[DropTarget, ...]
    layout: str = DEFAULT_LAYOUT
    platforms: tuple[Platform, ...] = ()  # what a set must have; empty: what is there once it has settled
    incomplete: Incomplete | None = None  # None: it waits, for ever
    settle: float = 10.0
    stable: float = 2.0
    rescan: float = 60.0
    done: Literal["keep", "move", "delete"] = "keep"
    done_folder: Path | None = None
    failed_folder: Path | None = None
    keep_done: float | None = 7 * DAY  # None: for ever
    keep_failed: float | None = 30 * DAY
    acceptance: Acceptance | None = None  # what must hold of images; None: all are taken
    takes_bundles: bool = False  # files that are called like a bundle's are left to `bundles.inbox`
    conversion: str = ""  # format, compression and level: another one publishes everything again

    @property
    def done_path(self) -> Path:
        """Where `done: move` puts files."""
        return self.done_folder or self.path / "done"

    @property
    def failed_path(self) -> Path:
        """Where bad files go."""
        return self.failed_folder or self.path / "failed"

    @property
    def purpose(self) -> str:
        """What a record of a published input is worth: it holds for these targets and this conversion only."""
        return " ".join([*(f"{target.target}/{target.prefix}" for target in self.targets), self.conversion])


class InputVerdict(enum.Enum):
    """What happened to one input in a pass."""

    PUBLISHED = "published"
    UNCHANGED = "unchanged"  # the same content was published before
    WAITING = "waiting"  # still growing, or its set is not complete
    FAILED = "failed"


@dataclass(slots=True)
class InputReport:
    """One input of a pass."""

    rule: str
    key: str
    paths: tuple[str, ...]
    verdict: InputVerdict
    reason: str = ""
    published: tuple[str, ...] = ()  # target/repository:tag
    failure: Failure | None = None
    aftermath: str = ""  # kept, moved, deleted or quarantined
    jobs: list[JobReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.verdict is not InputVerdict.FAILED


class TimeSource(Protocol):
    """Two clocks: one that only ever goes forward, to wait by, and one for people and for records."""

    def monotonic(self) -> float:
        """Seconds since some moment; jumps of the wall clock do not touch it."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch."""
        ...


class ArchiveReader(Protocol):
    """What a drop folder asks of the archives that lie in it. Every method raises ArchiveError for what is none."""

    async def names(self, locator: Locator) -> Sequence[str]:
        """What an archive calls its images: RepoTags or reference annotations, `@N` for one of several without any."""
        ...

    def hold(self, locator: Locator) -> AbstractAsyncContextManager[None]:
        """Keep an archive open for the block, so that its names and all of its jobs need one opening."""
        ...

    async def identify(self, locator: Locator) -> str:
        """What an archive says it holds, as one digest; empty where only all of its bytes tell."""
        ...

    async def check(self, locator: Locator) -> None:
        """Read a set whole, and check every byte of it; raises as its publication would."""
        ...
