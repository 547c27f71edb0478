"""How a job reaches what its locators name, and what it tells while it runs. `wiring` makes both real."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from ocisync.content.repository import Fetcher, Source, Target
from ocisync.content.spool.blobs import BlobSpool
from ocisync.model.descriptor import Descriptor
from ocisync.model.locator import Locator, TargetLocator
from ocisync.model.manifest import MAX_INDEX_DEPTH
from ocisync.sync.judging.judge import OpenChecker
from ocisync.sync.ledger import Ledger, MemoryLedger
from ocisync.sync.presence import BlobInfoCache


class Stores(Protocol):
    """Opens sources and targets; connections are shared, what an archive needs is released at the end."""

    def source(self, locator: Locator) -> AbstractAsyncContextManager[Source]:
        """The repository, archive or set that a locator names."""
        ...

    def target(self, locator: TargetLocator) -> AbstractAsyncContextManager[Target]:
        """A repository of a target, or an archive to be written; an archive appears when the context ends well."""
        ...


OpenExternal = Callable[[], AbstractAsyncContextManager[Fetcher]]


class Progress:
    """Told of every step; the base class keeps silent. Calls return at once."""

    @property
    def is_shown(self) -> bool:
        """Whether anybody counts bytes; else streams need not be counted."""
        return type(self).blob_moved is not Progress.blob_moved

    def for_job(self, rule: str, source: str, target: str) -> Progress:  # noqa: ARG002 (for those who override it)
        """Who is told of one job from its start on, until `job_finished`."""
        return self

    def job_finished(self) -> None:
        """The job that this was made for has ended."""

    def tag_started(self, target: str, tag: str) -> None:
        """A tag is being copied."""

    def tag_finished(self, target: str, tag: str, verdict: str) -> None:
        """A tag was published, found unchanged, or failed."""

    def blob_started(self, desc: Descriptor) -> None:
        """A blob begins to travel."""

    def blob_moved(self, desc: Descriptor, count: int) -> None:
        """`count` more bytes of a blob have travelled; negative when a retry starts it again."""

    def blob_finished(self, desc: Descriptor) -> None:
        """A blob has arrived, or its transfer ended with an error."""

    def held_up(self, reason: str) -> None:
        """A host must be left alone for a while; the work goes on by itself."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a job does at a time."""

    images: int = 8
    blobs: int = 8
    max_index_depth: int = MAX_INDEX_DEPTH
    max_graph: int = 100_000  # descriptors below one root


@dataclass(frozen=True, slots=True)
class JobContext:
    """What jobs share: stores, memory and limits."""

    stores: Stores
    ledger: Ledger = field(default_factory=MemoryLedger)
    blob_info: BlobInfoCache = field(default_factory=BlobInfoCache)
    progress: Progress = field(default_factory=Progress)
    limits: Limits = field(default_factory=Limits)
    external: OpenExternal | None = None  # foreign layers at their own URLs
    open_checker: OpenChecker | None = None  # of signatures
    spools: BlobSpool | None = None  # where blobs wait that are wanted more than once
