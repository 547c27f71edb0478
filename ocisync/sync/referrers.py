"""Bring along what refers to the manifests of a graph: referrers by their digests, cosign's tags as tags.

The subjects are walked in waves, not recursively: an index may refer to an image that it lists, and lists that clients
keep may say anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from ocisync.content.capabilities import ReferrerLister, RegistryTarget
from ocisync.content.concurrency import SingleFlight, for_each
from ocisync.content.repository import Source, Target
from ocisync.content.verify import read_manifest
from ocisync.errors import InputError, LimitExceeded, NotFound
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.digest_tags import cosign_tags, fallback_tag, is_digest_tag
from ocisync.model.subjects import read_subject
from ocisync.sync.referrer_set import ReferrerChoice, ReferrerSet

log = structlog.get_logger()
_AT_A_TIME = 8  # subjects


@dataclass(frozen=True, slots=True)
class Ways:
    """How a copier reads and brings manifests."""

    whole: Callable[[Descriptor], Awaitable[Descriptor]]  # a manifest with its bytes, from wherever it is cheapest
    bring: Callable[[Descriptor], Awaitable[Mapping[Digest, int]]]  # it and all below it; digests with sizes, bytes
    is_manifest: Callable[[Digest], bool]  # of what was brought


@dataclass
class ReferrerCopier:
    """What goes along with one root."""

    companions: ReferrerFinder
    target: Target
    ways: Ways
    most: int  # descriptors
    found: dict[Digest, int] = field(default_factory=dict)  # bytes
    tags: dict[str, Descriptor] = field(default_factory=dict)  # to be published before the root's, with their bytes

    async def bring(self, root: Digest, below: Mapping[Digest, int]) -> None:
        """Bring everything that refers to the root or to a manifest below it, and what refers to that.

        Raises:
            LimitExceeded: too much, or too deep.
        """
        wave = {root, *filter(self.ways.is_manifest, below)}
        seen: set[Digest] = set()
        for _ in range(self.companions.depth + 1):
            await for_each(sorted(wave), self._subject, _AT_A_TIME)
            if len(self.found) > self.most:
                raise LimitExceeded(f"{root}: more than {self.most} descriptors refer to it")
            seen |= wave | {desc.digest for desc in self.tags.values()}
            wave = set(filter(self.ways.is_manifest, self.found)) - seen
            if not wave:
                return
        raise too_deep(root, self.companions.depth)

    async def _subject(self, subject: Digest) -> None:
        attached = await self.companions.direct(subject)
        brought = [desc for desc in attached.referrers if await self._brought(desc)]
        if brought and isinstance(self.target, RegistryTarget):
            await self.target.add_referrers(subject, brought)
        for tag, desc in {**attached.tags, **await self._list(subject, attached, brought)}.items():
            self.tags[tag] = whole = await self.ways.whole(desc)
            self.found.update(await self.ways.bring(whole))

    async def _brought(self, desc: Descriptor) -> bool:
        """Whether a referrer is at the target now; lists that clients keep may name what was deleted."""
        try:
            whole = await self.ways.whole(desc)
        except NotFound:
            log.warning("referrer.missing", digest=desc.digest)
            return False
        self.found.update(await self.ways.bring(whole))
        return True

    async def _list(
        self, subject: Digest, attached: ReferrerSet, brought: Sequence[Descriptor]
    ) -> dict[str, Descriptor]:
        """The source's own list under a tag, for targets that do not make one, where it names what was brought."""
        is_whole = len(brought) == len(attached.referrers) > 0 and not self.companions.choice.types
        if not is_whole or isinstance(self.target, RegistryTarget):
            return {}
        desc = await self.companions.tag(fallback_tag(subject))
        return {fallback_tag(subject): desc} if desc is not None and desc.is_index else {}


_AT_A_TIME = 8  # lookups about one image


class ReferrerFinder:
    """What goes along with the images of one source."""

    def __init__(self, source: Source, choice: ReferrerChoice, depth: int = 8) -> None:
        self.choice = choice
        self.depth = depth  # how far referrers may be nested
        self._source = source
        self._wants_referrers = _wants_referrers(source, choice)
        self._tags: frozenset[str] | None = None  # those named for a digest; None: they were not listed
        self._once: SingleFlight[Digest, ReferrerSet] = SingleFlight()

    def learn_tags(self, tags: Iterable[str]) -> None:
        """Take note of all tags of the source: others need not be asked for."""
        self._tags = frozenset(filter(is_digest_tag, tags))

    async def direct(self, subject: Digest) -> ReferrerSet:
        """What refers to one manifest directly."""

        async def look() -> ReferrerSet:
            return ReferrerSet(tuple(await self._referrers(subject)), await self._digest_tags(subject))

        return await self._once(subject, look)

    async def transitive(self, root: Digest) -> ReferrerSet:
        """What refers to an image, and to that in turn.

        Raises:
            LimitExceeded: the referrers are nested deeper.
        """
        referrers: dict[Digest, Descriptor] = {}
        tags: dict[str, Descriptor] = {}
        seen: set[Digest] = set()
        wave = {root}

        async def look(subject: Digest) -> None:
            found = await self.direct(subject)
            referrers.update({desc.digest: desc for desc in found.referrers})
            tags.update(found.tags)

        for _ in range(self.depth + 1):
            await for_each(sorted(wave), look, _AT_A_TIME)
            seen |= wave
            wave = referrers.keys() - seen
            if not wave:
                return ReferrerSet(tuple(referrers[digest] for digest in sorted(referrers)), tags)
        raise too_deep(root, self.depth)

    async def tag(self, name: str) -> Descriptor | None:
        """What the source has under a tag that is named for a digest, or None."""
        if self._tags is not None and name not in self._tags:
            return None
        try:
            return await self._source.resolve(name)
        except (NotFound, InputError):  # an archive that knows no such name
            return None

    async def _referrers(self, subject: Digest) -> Sequence[Descriptor]:
        if not self._wants_referrers or not isinstance(self._source, ReferrerLister):
            return ()
        told = await self._source.referrers(subject)
        return [desc for desc in told if await self._is_wanted(desc)]

    async def _is_wanted(self, desc: Descriptor) -> bool:
        return not self.choice.types or await self._artifact_type(desc) in self.choice.types

    async def _artifact_type(self, desc: Descriptor) -> object:
        if desc.artifact_type:
            return desc.artifact_type
        try:
            reference = read_subject(desc.digest, await read_manifest(self._source, desc))
        except NotFound:
            return None
        return reference.entry.get("artifactType") if reference else None

    async def _digest_tags(self, subject: Digest) -> dict[str, Descriptor]:
        names = cosign_tags(subject) if self.choice.digest_tags else []
        return {name: desc for name in names if (desc := await self.tag(name)) is not None}


def referrer_finder(source: Source, choice: ReferrerChoice, depth: int) -> ReferrerFinder | None:
    """What goes along with the images of a source; None where nothing is wanted, and so nothing is asked."""
    return ReferrerFinder(source, choice, depth) if choice.digest_tags or _wants_referrers(source, choice) else None


def _wants_referrers(source: Source, choice: ReferrerChoice) -> bool:
    if choice.referrers is not None:
        return choice.referrers
    return isinstance(source, ReferrerLister) and source.brings_referrers


def too_deep(digest: Digest, depth: int) -> LimitExceeded:
    """The error of referrers that refer to referrers without end."""
    return LimitExceeded(f"{digest}: referrers nested more than {depth} deep")
