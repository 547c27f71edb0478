"""Publish: point tags at whole graphs, in batches."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar, cast

import anyio
import structlog
from anyio import EndOfStream, WouldBlock
from anyio.streams.memory import MemoryObjectReceiveStream

from ocisync.content.capabilities import CollectedTarget, Inventory, Reconciler, RemoteResolver, RepositoryListing
from ocisync.content.concurrency import for_each
from ocisync.content.repository import Fetcher, Resolver, Target
from ocisync.content.verify import read_manifest
from ocisync.errors import NotFound, RegistryError, StoreError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.copied_graph import CopiedGraph, CopyResult
from ocisync.sync.job import WritePolicy
from ocisync.sync.ledger import Published
from ocisync.sync.plan import Action, PlannedTag
from ocisync.sync.presence import Presence

log = structlog.get_logger()

MAX_BATCH = 500  # tags
Kept = Mapping[str, Descriptor]  # tags that must not move, with what they point at

_COLLECTED = 0.2  # seconds between looks while a collector removes something
LINGER = 3.0  # seconds that a whole tag may wait for others where publishing several costs no more than one


@dataclass(frozen=True, slots=True)
class CopiedTag:
    """A tag whose graph below the root is at the target."""

    planned: PlannedTag
    graph: CopiedGraph
    mended: bool  # whether anything below the root had to be sent or mounted
    weight: int = 0  # bytes of memory that wait with the tag for its publication

    @property
    def root(self) -> Descriptor:
        """What the tag is to point at, with its bytes."""
        return self.graph.root

    @property
    def is_copied(self) -> bool:
        """Whether the tag is new, or something was wrong below it."""
        return self.planned.action is Action.COPY or self.mended


class Vanished(StoreError):
    """Content that was at the target is gone again before its tag was written."""

    @property
    def missing(self) -> Collection[Digest]:
        """What is gone."""
        return cast("Collection[Digest]", self.facts["missing"])


@dataclass
class Publisher:
    """Makes a job's copies visible at one target repository.

    Between a copy and its tag there may be minutes, and other writers and a garbage collector work on the same target.
    So where a listing can tell, the publisher looks once more right before it writes a tag. The roots lie at the target
    by then: a collector that starts now spares what is below them, and one that started before is seen by the look
    (docs/gc.md).
    """

    presence: Presence
    policy: WritePolicy
    result: CopyResult
    scope: str = ""  # what of an image is brought, for the ledger
    workers: int = 8

    @property
    def target(self) -> Target:
        """Where to."""
        return self.presence.target

    @property
    def linger(self) -> float:
        """Seconds that a tag may wait for others: publishing costs a listing there, however many tags it is for."""
        return LINGER if isinstance(self.target, Inventory) else 0.0

    async def publish(self, batch: Sequence[CopiedTag]) -> Kept:
        """Write the tags of a batch that do not stand already; which of them must stay as they are.

        Raises:
            Vanished: something below a root is gone; once it is brought again, the batch can be published.
            StoreError: with the code OUTDATED: this took so long that the batch is to be published again.
        """
        present = await self._look_again(batch)
        await self._publish_extra_tags(batch)
        changed = {tag.planned.tag: tag.root for tag in batch if tag.is_copied or _lacks_root(tag, present)}
        kept: Kept = {}
        if not self.policy.overwrite or self.policy.backup:
            kept = await check_overwrite(self.policy, self.target, changed)
            changed = {tag: root for tag, root in changed.items() if tag not in kept}
        if changed:
            await self.target.publish(changed)
            self.result.traffic.manifests += len({root.digest for root in changed.values()})
        elif isinstance(self.target, Reconciler):  # tags that nobody recorded: their writer may have been killed
            await self.target.reconcile()
        published = {tag.planned.tag: _record(tag, self.scope) for tag in batch if tag.planned.tag not in kept}
        blobs = {digest: size for tag in batch for digest, size in tag.graph.digests.items()}
        where = self.presence.where
        await self.presence.ledger.record(where.target, where.repository, published, blobs)
        return kept

    async def _look_again(self, batch: Sequence[CopiedTag]) -> Mapping[Digest, int] | None:
        """See that nothing vanished since it was copied; what the target holds, or None where no listing can tell."""
        if not any(tag.is_copied for tag in batch):
            return self.presence.listed
        if isinstance(self.target, CollectedTarget):
            await self.target.push_manifests([tag.root for tag in batch if tag.planned.action is Action.COPY])
        if not isinstance(self.target, Inventory):
            return None
        present = await self._list_young(self.target, batch)
        roots = {tag.root.digest for tag in batch}
        needed = {digest: size for tag in batch for digest, size in tag.graph.digests.items() if digest not in roots}
        if missing := [digest for digest, size in needed.items() if present.get(digest) != size]:
            where = self.presence.where
            raise Vanished(
                f"{missing[0]}: vanished from {where} again right after it was copied: find out what deletes there",
                missing=missing,
            )
        await self._repeat_missing_images(batch, present)
        return present

    async def _list_young(self, target: Inventory, batch: Sequence[CopiedTag]) -> Mapping[Digest, int]:
        """What the target holds, once all that a batch needs is young enough for a collector to spare it."""
        listing = await _list_settled(target)
        if isinstance(target, CollectedTarget):
            now = time.time()
            roots = {tag.root.digest for tag in batch}
            needed = {digest for tag in batch for digest in tag.graph.digests} - roots
            stale = [digest for digest in needed if now - listing.modified.get(digest, now) > target.stale_after]
            if stale:
                await for_each(stale, target.touch, self.workers)
                listing = await _list_settled(target)
        return listing.sizes

    async def _repeat_missing_images(self, batch: Sequence[CopiedTag], present: Mapping[Digest, int]) -> None:
        """A collector that took an index which has come back since took the record of what it lacks as well."""
        if isinstance(self.target, CollectedTarget):
            known = self.result.missing_images
            for index in {digest for tag in batch for digest in tag.graph.digests if digest in known}:
                missing = [digest for digest in known[index] if digest not in present]
                await self.target.record_missing_images(index, missing)

    async def _publish_extra_tags(self, batch: Sequence[CopiedTag]) -> None:
        """Publish the tags that go along with images, such as signatures, where they do not point there yet."""
        wanted = {tag: desc for copied in batch for tag, desc in copied.graph.extra_tags.items()}
        changed: dict[str, Descriptor] = {}

        async def look(tag: str) -> None:
            if self.presence.is_empty or await _resolve_digest(self.target, tag) != wanted[tag].digest:
                changed[tag] = wanted[tag]

        await for_each(sorted(wanted), look, self.workers)
        if changed:
            await self.target.publish(changed)
            self.result.traffic.manifests += len(changed)


def _lacks_root(tag: CopiedTag, present: Mapping[Digest, int] | None) -> bool:
    """Whether a tag is there, and the key of its digest is not."""
    return present is not None and tag.root.digest not in present


def _record(tag: CopiedTag, scope: str) -> Published:
    attached = tag.planned.attached
    referrers = attached.fingerprint if attached is not None else ""
    return Published(tag.root.digest, time.time(), scope, referrers, tag.root.media_type, tag.root.size)


async def _resolve_digest(target: Resolver, tag: str) -> Digest | None:
    try:
        return (await target.resolve(tag)).digest
    except (NotFound, RegistryError):  # a look that only saves a write
        return None


async def _list_settled(target: Inventory) -> RepositoryListing:
    """A listing while no collector is at work: one that has not seen the roots may remove what was listed."""
    listing = await target.list_all()
    while listing.is_collected:
        await anyio.sleep(_COLLECTED)
        listing = await target.list_all()
    return listing


T = TypeVar("T")


async def receive_batch(first: T, queue: MemoryObjectReceiveStream[T], most: int, linger: float) -> list[T]:
    """The first, and what comes within `linger` seconds of it; less when the queue ends before."""
    found = [first]
    with anyio.move_on_after(linger) as waiting, suppress(EndOfStream):
        while linger and len(found) < most:
            found.append(await queue.receive())
    if waiting.cancelled_caught or not linger:
        with suppress(WouldBlock, EndOfStream):
            while len(found) < most:
                found.append(queue.receive_nowait())
    return found


_LOOKS = 8  # at a time


async def check_overwrite(policy: WritePolicy, target: Target, tags: Mapping[str, Descriptor]) -> dict[str, Descriptor]:
    """The tags that must not be written, with what they point at; those that may move are kept under their backups.

    Another writer may have been here since the survey, so each tag is asked for once more.
    """
    if policy.overwrite and not policy.backup:
        return {}
    moving: dict[str, Descriptor] = {}

    async def look(tag: str) -> None:
        if (found := await _find_moving(target, tag, tags[tag])) is not None:
            moving[tag] = found

    await for_each(tags, look, _LOOKS)
    if not policy.overwrite:
        return moving
    if moving:
        await target.publish({policy.backup_of(tag): await _read_root(target, found) for tag, found in moving.items()})
        log.info("tags.backed_up", tags={tag: policy.backup_of(tag) for tag in moving})
    return {}


async def _find_moving(target: Target, tag: str, root: Descriptor) -> Descriptor | None:
    """What a tag points at that is about to point elsewhere."""
    try:
        found = await target.resolve(tag)
    except NotFound:
        if not isinstance(target, RemoteResolver):
            return None
        try:  # some registries know manifests by GET only, and what is there must not be lost
            found = await target.resolve_with_manifest(tag, is_needed=True)
        except NotFound:
            return None
    return found if found.digest != root.digest else None


async def _read_root(target: Target, desc: Descriptor) -> Descriptor:
    if not isinstance(target, Fetcher):
        raise StoreError(f"{desc.digest}: its backup cannot be made, because nothing can be read from the target")
    return desc.with_data(await read_manifest(target, desc))
