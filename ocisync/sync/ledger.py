"""What a pass may remember. The target is the truth; losing all of this costs time and nothing else."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ocisync.content.digest_table import DigestTable
from ocisync.content.fact_cache import FactCache
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest

ALGORITHM = "sha256:"  # of the digests that registries answer with for a tag
SAME_AS = "sha256"  # the kind of a fact: what a manifest that is named by another algorithm is called by this one


class Published(NamedTuple):
    """A tag whose whole graph was verified at a target."""

    digest: Digest
    verified_at: float  # seconds since the epoch
    scope: str = ""  # which of an index's images that was (`PlatformChoice.scope`); empty: all
    referrers: str = ""  # the fingerprint of what referred to it at the source; empty: not asked
    media_type: str = ""  # empty where an earlier version published it
    size: int = 0  # bytes; 0 where an earlier version published it

    @property
    def root(self) -> Descriptor | None:
        """What the tag pointed at, where all of it is known."""
        return Descriptor(self.media_type, self.digest, self.size) if self.media_type and self.size else None


class Ledger(FactCache, Protocol):
    """Verified tags per target repository, where blobs lie at a target, and which layer holds which diff ID.

    `target` and `repository` are a `TargetLocator`'s. Nothing here waits for a network.
    """

    async def get_published(self, target: str, repository: str) -> Mapping[str, Published]:
        """Tag -> what was published under it, by this or an earlier run."""
        ...

    async def record(
        self, target: str, repository: str, tags: Mapping[str, Published], blobs: Mapping[Digest, int]
    ) -> None:
        """Remember verified tags, and the digests (with sizes, bytes) that lie in the repository."""
        ...

    async def locate(self, target: str, digests: list[Digest]) -> Mapping[Digest, str]:
        """For each blob that is known at the target: one repository that has it."""
        ...

    async def find_layer(self, target: str, repository: str, diff_id: Digest, variant: str) -> Descriptor | None:
        """The layer in the repository that holds this uncompressed content, made with this conversion."""
        ...

    async def record_layer(self, target: str, repository: str, diff_id: Digest, variant: str, desc: Descriptor) -> None:
        """Remember which layer holds an uncompressed content."""
        ...

    async def record_seen(
        self, source: str, tags: Mapping[str, Digest], now: float
    ) -> tuple[Mapping[str, float], bool]:
        """When each tag was first seen to point at this digest, now at the latest; seconds since the epoch.

        Also whether nothing at all was on record of the source before.
        """
        ...

    async def forget(self, target: str, repository: str) -> None:
        """Drop what is remembered of a repository, because the target turned out to be otherwise."""
        ...


class BlobHomes:
    """Which repository has a blob, for any number of blobs, in little memory."""

    def __init__(self) -> None:
        self._digests = DigestTable()
        self._homes = array("I")  # by number: the repository's place in the list; 0: none any more
        self._repositories = [""]
        self._places = {"": 0}

    def get(self, digest: Digest) -> str:
        """The repository; empty where none is known."""
        number = self._digests.find(digest)
        return "" if number is None else self._repositories[self._homes[number]]

    def record(self, digest: Digest, repository: str) -> None:
        """Remember a blob; the repository that was known first stays."""
        place = self._places.setdefault(repository, len(self._repositories))
        if place == len(self._repositories):
            self._repositories.append(repository)
        number = self._digests.add(digest)
        if number == len(self._homes):
            self._homes.append(place)
        elif not self._homes[number]:
            self._homes[number] = place

    def forget(self, repository: str) -> None:
        """Forget the blobs of a repository."""
        place = self._places.get(repository, 0)
        for number, home in enumerate(self._homes):
            if home == place:
                self._homes[number] = 0


@dataclass
class MemoryLedger:
    """A ledger for one run."""

    tags: dict[tuple[str, str], dict[str, Published]] = field(default_factory=dict)
    blobs: dict[str, BlobHomes] = field(default_factory=dict)  # by target
    layers: dict[tuple[str, str, Digest, str], Descriptor] = field(default_factory=dict)
    facts: dict[tuple[str, Digest], str] = field(default_factory=dict)
    seen: dict[tuple[str, str, Digest], float] = field(default_factory=dict)

    async def get_published(self, target: str, repository: str) -> Mapping[str, Published]:
        """What this run published."""
        return self.tags.get((target, repository), {})

    async def record(
        self, target: str, repository: str, tags: Mapping[str, Published], blobs: Mapping[Digest, int]
    ) -> None:
        """Remember until the process ends."""
        self.tags.setdefault((target, repository), {}).update(tags)
        known = self.blobs.setdefault(target, BlobHomes())
        for digest in blobs:
            known.record(digest, repository)

    async def locate(self, target: str, digests: list[Digest]) -> Mapping[Digest, str]:
        """Where this run saw blobs."""
        known = self.blobs.get(target)
        return {digest: home for digest in digests if (home := known.get(digest))} if known is not None else {}

    async def find_layer(self, target: str, repository: str, diff_id: Digest, variant: str) -> Descriptor | None:
        """What this run converted."""
        return self.layers.get((target, repository, diff_id, variant))

    async def record_layer(self, target: str, repository: str, diff_id: Digest, variant: str, desc: Descriptor) -> None:
        """Remember until the process ends."""
        self.layers[target, repository, diff_id, variant] = desc

    async def record_seen(
        self, source: str, tags: Mapping[str, Digest], now: float
    ) -> tuple[Mapping[str, float], bool]:
        """When this run first saw them."""
        is_first = not any(known == source for known, _, _ in self.seen)
        return {tag: self.seen.setdefault((source, tag, digest), now) for tag, digest in tags.items()}, is_first

    async def forget(self, target: str, repository: str) -> None:
        """Drop one repository."""
        self.tags.pop((target, repository), None)
        for key in [key for key in self.layers if key[:2] == (target, repository)]:
            del self.layers[key]
        if (known := self.blobs.get(target)) is not None:
            known.forget(repository)

    async def get_facts(self, kind: str, digests: Sequence[Digest]) -> Mapping[Digest, str]:
        """What this run noted."""
        return {digest: fact for digest in digests if (fact := self.facts.get((kind, digest))) is not None}

    async def put_facts(self, kind: str, facts: Mapping[Digest, str]) -> None:
        """Remember until the process ends."""
        self.facts.update({(kind, digest): fact for digest, fact in facts.items()})
