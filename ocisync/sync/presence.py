"""Is content at the target, or at another of its repositories, from where it can be mounted?

Requests cost more than anything else about a small image, so each blob is looked for where that costs least: in the
listing that the survey made, by knowing that the repository is empty, by a look-up, and last by a mount that hits. All
of it may be outdated. A wrong yes is found before a tag is written (`publish` looks again), a wrong no costs bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import structlog

from ocisync.content.capabilities import Mounter
from ocisync.content.repository import Target
from ocisync.errors import RegistryError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.locator import TargetLocator
from ocisync.sync.ledger import Ledger, MemoryLedger

log = structlog.get_logger()

_REMEMBERED = 100_000  # blobs, over all targets


class BlobInfoCache:
    """Which repository of a target has a blob, and who uploads it now; shared by all jobs of the process.

    Only a shortcut: forgetting all of it costs bytes, never correctness. The ledger knows more, and longer; what it
    answers is kept here, so that it is asked once per blob.
    """

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._homes: OrderedDict[tuple[str, Digest], str] = OrderedDict()
        self._uploads: dict[tuple[str, Digest], anyio.Event] = {}

    def record(self, target: str, digest: Digest, repository: str) -> None:
        """Remember that a repository has a blob; the one that was known first stays."""
        self._homes.setdefault((target, digest), repository)
        if len(self._homes) > self._limit:
            self._homes.popitem(last=False)

    async def load(self, ledger: Ledger, target: str, digests: Iterable[Digest]) -> None:
        """Learn what the ledger knows of blobs."""
        unknown = [digest for digest in digests if (target, digest) not in self._homes]
        if unknown:
            for digest, repository in (await ledger.locate(target, unknown)).items():
                self.record(target, digest, repository)

    def find(self, target: str, digest: Digest) -> str | None:
        """A repository that has the blob."""
        return self._homes.get((target, digest))

    def forget(self, target: str, digest: Digest) -> None:
        """A repository turned out not to have it."""
        self._homes.pop((target, digest), None)

    @asynccontextmanager
    async def lock_upload(self, target: str, digest: Digest) -> AsyncIterator[None]:
        """Wait for another job's upload of the same blob to the same target, then hold the others back.

        Whoever waited finds the blob in the other's repository, and mounts it.
        """
        key = (target, digest)
        while (other := self._uploads.get(key)) is not None:
            await other.wait()
        own = self._uploads[key] = anyio.Event()
        try:
            yield
        finally:
            del self._uploads[key]
            own.set()


@dataclass
class Presence:
    """What one job knows of one target repository."""

    target: Target
    where: TargetLocator
    ledger: Ledger = field(default_factory=MemoryLedger)
    blob_info: BlobInfoCache = field(default_factory=BlobInfoCache)
    slots: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(8))  # around each request about a blob
    listed: Mapping[Digest, int] | None = None  # bytes; all that is there; None: it is not known, and looked up
    origin: str | None = None  # the source's repository, where that is one of the same registry
    trusts_manifests: bool = False  # a manifest that is there proves all below it: the target refuses others
    send_again: bool = False  # believe nothing that the target says it has
    doubted: set[Digest] = field(default_factory=set)  # said to be there, and missed when a manifest named it

    def __post_init__(self) -> None:
        self.mounter = self.target if isinstance(self.target, Mounter) else None

    @property
    def is_empty(self) -> bool:
        """Whether the repository is known to hold nothing, so that nothing needs to be asked for."""
        return self.listed is not None and not self.listed

    @property
    def holds_source(self) -> bool:
        """Whether source and target are one repository: a tag is only given another name, and all else is there."""
        return self.mounter is not None and self.origin == self.mounter.name and not self.send_again

    async def has(self, desc: Descriptor) -> bool:
        """Whether content of this digest and size is there, by the cheapest way to know it."""
        if self.send_again or desc.digest in self.doubted:
            return False
        if self.listed is not None:
            return self.listed.get(desc.digest) == desc.size
        async with self.slots:
            return await self._exists(desc)

    async def has_whole(self, manifest: Descriptor) -> bool:
        """Whether a manifest is there and proves that all below it is; so it need not even be read."""
        if not self.trusts_manifests or self.send_again or self.is_empty or manifest.digest in self.doubted:
            return False
        return await self._exists(manifest)

    async def _exists(self, desc: Descriptor) -> bool:
        """Ask the target. The look only saves a push, which is tried where the look is refused."""
        try:
            return await self.target.exists(desc)
        except RegistryError as exc:
            log.debug("content.not_told", digest=desc.digest, error=exc.message)
            return False

    def is_listed(self, desc: Descriptor) -> bool:
        """Whether the listing showed content of this digest and size."""
        return self.listed is not None and self.listed.get(desc.digest) == desc.size

    async def load_homes(self, blobs: Iterable[Descriptor]) -> None:
        """Learn where blobs can be mounted from, in one question to the ledger for all blobs of an image."""
        if self.mounter is not None:
            unknown = [desc.digest for desc in blobs if not self.is_listed(desc)]
            await self.blob_info.load(self.ledger, self.where.target, unknown)

    def find_home(self, desc: Descriptor) -> str | None:
        """Another repository of the target from which a blob can be mounted, by its whole name there.

        Best is the source's own, where it is one of this registry: it has the blob for certain.
        """
        if self.mounter is None or self.send_again or desc.digest in self.doubted:  # what is elsewhere may be as bad
            return None
        if self.origin is not None:
            return self.origin
        home = self.blob_info.find(self.where.target, desc.digest)
        if home is None or home == self.where.repository:
            return None
        # The target may lie below a path of its registry (`url: https://host/path`), which homes do not tell.
        return self.mounter.name.removesuffix(self.where.repository) + home

    def record(self, desc: Descriptor) -> None:
        """A blob is in this repository now."""
        self.blob_info.record(self.where.target, desc.digest, self.where.repository)

    def forget_home(self, desc: Descriptor) -> None:
        """A blob was not where it was said to be."""
        self.blob_info.forget(self.where.target, desc.digest)

    def forget(self, missing: Iterable[Digest]) -> None:
        """Content turned out to be missing: from now on nothing that was known is trusted, everything is looked up."""
        for digest in missing:
            self.blob_info.forget(self.where.target, digest)
        self.listed = None
