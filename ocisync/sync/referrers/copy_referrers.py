"""Bring along what refers to the manifests of a graph: referrers by their digests, cosign's tags as tags.

The subjects are walked in waves, not recursively: an index may refer to an image that it lists, and lists that clients
keep may say anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import structlog

from ocisync.content.capabilities import ReferrerLister, ServerTarget
from ocisync.content.concurrency import SingleFlight, for_each_wave
from ocisync.content.repository import Source
from ocisync.content.verify import read_manifest
from ocisync.errors import InputError, LimitExceeded, NotFound
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.digest_tags import cosign_tags, fallback_tag, is_digest_tag
from ocisync.model.subjects import read_subject
from ocisync.sync.copied_graph import CopiedGraph
from ocisync.sync.copy import GraphCopier
from ocisync.sync.referrers.referrer_set import ReferrerChoice, ReferrerSet

log = structlog.get_logger()
_AT_A_TIME = 8  # subjects
_NOTHING = ReferrerSet()


@dataclass(frozen=True, slots=True)
class ReferrerCopier:
    """Brings what goes along with images, through the copier that brought the images."""

    finder: ReferrerFinder
    copier: GraphCopier

    async def copy(self, copied: CopiedGraph) -> CopiedGraph:
        """Bring everything that refers to a root or to a manifest below it, and what refers to that.

        The graph comes back with what was brought, and with the tags that are to be published before the root's.

        Raises:
            LimitExceeded: too much, or too deep.
        """
        root = copied.root.digest
        brought: dict[Digest, int] = {}  # bytes
        tags: dict[str, Descriptor] = {}
        most = self.copier.limits.max_graph

        async def visit(subject: Digest) -> Iterable[Digest]:
            graph, tagged = await self._copy_referrers(subject)
            brought.update(graph)
            tags.update(tagged)
            if len(brought) > most:
                raise LimitExceeded(f"{root}: more than {most} descriptors refer to it")
            named = {desc.digest for desc in tags.values()}  # nothing is asked about a signature itself
            return self.copier.result.manifests.intersection(graph) - named

        subjects = {root, *self.copier.result.manifests.intersection(copied.digests)}
        if not await for_each_wave(subjects, visit, _AT_A_TIME, self.finder.depth):
            raise _too_deep(root, self.finder.depth)
        return replace(copied, digests={**brought, **copied.digests}, extra_tags=tags)

    async def _copy_referrers(self, subject: Digest) -> tuple[Mapping[Digest, int], Mapping[str, Descriptor]]:
        """Bring what refers to one manifest directly; what was brought, and what of it has a tag."""
        found = await self.finder.direct(subject)
        graph: dict[Digest, int] = {}
        arrived = [desc for desc in found.referrers if await self._copy_referrer(desc, graph)]
        if arrived and isinstance(self.copier.target, ServerTarget):
            await self.copier.target.add_referrers(subject, arrived)
        tags: dict[str, Descriptor] = {}
        for tag, desc in {**found.tags, **await self._find_list(subject, found, arrived)}.items():
            try:
                whole = await self._read(desc)
            except NotFound:  # a tag that was found by an earlier pass may have moved since
                log.warning("referrer.missing", tag=tag, digest=desc.digest)
                continue
            tags[tag] = whole
            graph.update(await self.copier.copy_node(whole, depth=2))
        return graph, tags

    async def _copy_referrer(self, desc: Descriptor, graph: dict[Digest, int]) -> bool:
        """Whether a referrer is at the target now; lists that clients keep may name what was deleted."""
        try:
            whole = await self._read(desc)
        except NotFound:
            log.warning("referrer.missing", digest=desc.digest)
            return False
        graph.update(await self.copier.copy_node(whole, depth=2))
        return True

    async def _read(self, desc: Descriptor) -> Descriptor:
        raw, manifest = await self.copier.read(desc)
        return replace(desc, media_type=manifest.media_type, size=len(raw), data=raw)

    async def _find_list(
        self, subject: Digest, found: ReferrerSet, arrived: Sequence[Descriptor]
    ) -> dict[str, Descriptor]:
        """The source's own list under a tag, for targets that do not make one, where it names what was brought."""
        choice = self.finder.choice
        is_whole = choice.referrers and len(arrived) == len(found.referrers) > 0 and not choice.types
        if not is_whole or isinstance(self.copier.target, ServerTarget):
            return {}
        desc = await self.finder.resolve_tag(fallback_tag(subject))
        is_list = desc is not None and desc.is_index and desc.digest != subject  # which GitLab answers with
        return {fallback_tag(subject): desc} if desc is not None and is_list else {}


class ReferrerFinder:
    """Finds out what refers to the images of one source, by its API or lists, and by tags named for digests."""

    def __init__(self, source: Source, choice: ReferrerChoice, depth: int = 8) -> None:
        self.choice = choice
        self.depth = depth  # how far referrers may be nested
        self._source = source
        self._lister = source if choice.referrers and isinstance(source, ReferrerLister) else None
        self._listed: Iterable[str] | None = None
        self._flights: SingleFlight[Digest, ReferrerSet] = SingleFlight()
        self._verified: dict[Digest, ReferrerSet] = {}

    @property
    def asks(self) -> bool:
        """Whether anything is to be asked: otherwise only what was verified goes along."""
        return self._lister is not None or self.choice.digest_tags

    def add_verified(self, signatures: Mapping[Digest, ReferrerSet]) -> None:
        """Let signatures go along with what they sign, whatever else is wanted."""
        self._verified.update(signatures)

    def learn_tags(self, tags: Iterable[str]) -> None:
        """Take note of all tags of the source: others need not be asked for."""
        self._listed = tags

    @cached_property
    def _tags(self) -> frozenset[str] | None:
        """Those of the source that are named for a digest; None: they were not listed."""
        return None if self._listed is None else frozenset(filter(is_digest_tag, self._listed))

    def join_verified(self, subjects: Iterable[Digest]) -> ReferrerSet:
        """What was verified of an image and of those that it lists."""
        found = [self._verified[one] for one in subjects if one in self._verified]
        return reduce(ReferrerSet.join, found) if found else _NOTHING

    async def direct(self, subject: Digest) -> ReferrerSet:
        """What refers to one manifest directly; each is asked about once."""
        async with self._flights.turn(subject) as turn:
            if not turn.is_done:
                referrers = tuple(await self._find_referrers(subject))
                found = ReferrerSet(referrers, await self._find_digest_tags(subject))
                turn.result = found.join(self._verified.get(subject, _NOTHING))
            return turn.result

    async def transitive(self, root: Digest, also: Collection[Digest] = ()) -> ReferrerSet:
        """What refers to an image (or `also` to these of an index's images), and to that in turn.

        Raises:
            LimitExceeded: the referrers are nested deeper.
        """
        referrers: dict[Digest, Descriptor] = {}
        tags: dict[str, Descriptor] = {}

        async def visit(subject: Digest) -> list[Digest]:
            found = await self.direct(subject)
            referrers.update({desc.digest: desc for desc in found.referrers})
            tags.update(found.tags)
            return [desc.digest for desc in found.referrers]

        if not await for_each_wave({root, *also}, visit, _AT_A_TIME, self.depth):
            raise _too_deep(root, self.depth)
        return ReferrerSet(tuple(referrers[digest] for digest in sorted(referrers)), tags)

    async def resolve_tag(self, name: str) -> Descriptor | None:
        """What the source has under a tag that is named for a digest, or None."""
        if self._tags is not None and name not in self._tags:
            return None
        try:
            return await self._source.resolve(name)
        except (NotFound, InputError):  # an archive that knows no such name
            return None

    async def _find_referrers(self, subject: Digest) -> Sequence[Descriptor]:
        if self._lister is None:
            return ()
        return [desc for desc in await self._lister.referrers(subject) if await self._is_wanted(desc)]

    async def _is_wanted(self, desc: Descriptor) -> bool:
        return not self.choice.types or await self._read_artifact_type(desc) in self.choice.types

    async def _read_artifact_type(self, desc: Descriptor) -> object:
        if desc.artifact_type:
            return desc.artifact_type
        try:
            reference = read_subject(desc.digest, await read_manifest(self._source, desc))
        except NotFound:
            return None
        return reference.entry.get("artifactType") if reference else None

    async def _find_digest_tags(self, subject: Digest) -> dict[str, Descriptor]:
        names = cosign_tags(subject) if self.choice.digest_tags else []
        return {name: desc for name in names if (desc := await self.resolve_tag(name)) is not None}


def _too_deep(digest: Digest, depth: int) -> LimitExceeded:
    return LimitExceeded(f"{digest}: referrers nested more than {depth} deep")
