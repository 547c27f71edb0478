"""Publish: point tags at whole graphs, in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import anyio
import structlog
from anyio import EndOfStream, WouldBlock
from anyio.streams.memory import MemoryObjectReceiveStream

from ocisync.content.capabilities import (
    OUTDATED,
    CollectedTarget,
    Inventory,
    Reconciler,
    RepositoryListing,
)
from ocisync.content.concurrency import for_each
from ocisync.content.cost import attribute_cost
from ocisync.content.repository import Resolver
from ocisync.errors import NotFound, OcisyncError, StoreError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.copy import Copier, Graph
from ocisync.sync.ledger import Published
from ocisync.sync.plan import Action, PlannedTag, kept_reason
from ocisync.sync.reports import TagReport, Verdict, failure_of
from ocisync.sync.write_policy import check_overwrite

log = structlog.get_logger()

MAX_BATCH = 500  # tags
Kept = Mapping[str, Descriptor]  # tags that must not move, with what they point at

_COLLECTED = 0.2  # seconds between looks while a collector removes something
LINGER = 3.0  # seconds that a whole tag may wait for others where publishing several costs no more than one


@dataclass(frozen=True, slots=True)
class CopiedTag:
    """A tag whose graph below the root is at the target."""

    planned: PlannedTag
    root: Descriptor  # with its bytes
    graph: Graph
    mended: bool  # whether anything below the root had to be sent or mounted


async def publish_ready(
    queue: MemoryObjectReceiveStream[CopiedTag], copier: Copier, report: Callable[[TagReport], None]
) -> None:
    """Publish tags as they come, until the queue is closed; one bad tag does not stop the others."""
    linger = LINGER if isinstance(copier.target, Inventory) else 0.0
    async with queue:
        async for first in queue:
            batch = await batch_of(first, queue, MAX_BATCH, linger)
            try:
                kept = await _publish(batch, copier)
            except OcisyncError as exc:
                await _one_by_one(batch, copier, report, exc)
            else:
                _report_all(batch, kept, report)


async def _one_by_one(
    batch: list[CopiedTag], copier: Copier, report: Callable[[TagReport], None], error: OcisyncError
) -> None:
    for ready in batch:
        try:
            if len(batch) == 1:
                raise error
            kept = await _publish([ready], copier)
        except OcisyncError as exc:
            report(failed(ready.planned, copier.explained(exc)))
        else:
            _report_all([ready], kept, report)


async def _publish(batch: list[CopiedTag], copier: Copier) -> Kept:
    with attribute_cost([ready.planned.tag for ready in batch]):
        return await _publish_twice(batch, copier)


async def _publish_twice(batch: list[CopiedTag], copier: Copier) -> Kept:
    """Publish; once more from the last look on when that was too long ago."""
    try:
        return await _publish_in_time(batch, copier)
    except StoreError as exc:
        if exc.code != OUTDATED:
            raise
        return await _publish_in_time(batch, copier)


async def _publish_in_time(batch: list[CopiedTag], copier: Copier) -> Kept:
    held = await _look_again(batch, copier)
    await _publish_beside(batch, copier)
    changed = {ready.planned.tag: ready.root for ready in batch if _is_to_publish(ready, held)}
    kept = await check_overwrite(copier.care, copier.target, changed)
    changed = {tag: root for tag, root in changed.items() if tag not in kept}
    if changed:
        await copier.target.publish(changed)
        copier.traffic.manifests += len({root.digest for root in changed.values()})
    elif isinstance(copier.target, Reconciler):  # tags that nobody recorded: their writer may have been killed
        await copier.target.reconcile()
    verified = [ready for ready in batch if ready.planned.tag not in kept]
    published = {ready.planned.tag: _verified(ready, copier.scope) for ready in verified}
    blobs = {digest: size for ready in batch for digest, size in ready.graph.items()}
    await copier.tools.ledger.record(copier.where.target, copier.where.repository, published, blobs)
    return kept


async def _publish_beside(batch: list[CopiedTag], copier: Copier) -> None:
    """Publish the tags that go along with images, such as signatures, where they do not point there yet."""
    wanted = {tag: desc for ready in batch for tag, desc in copier.beside.get(ready.root.digest, {}).items()}
    changed: dict[str, Descriptor] = {}

    async def look(tag: str) -> None:
        if copier.is_empty or await _points_at(copier.target, tag) != wanted[tag].digest:
            changed[tag] = wanted[tag]

    await for_each(sorted(wanted), look, copier.tools.limits.blobs)
    if changed:
        await copier.target.publish(changed)
        copier.traffic.manifests += len(changed)


async def _points_at(target: Resolver, tag: str) -> Digest | None:
    try:
        return (await target.resolve(tag)).digest
    except NotFound:
        return None


def _verified(ready: CopiedTag, scope: str) -> Published:
    attached = ready.planned.attached
    return Published.of(ready.root, time.time(), scope, attached.fingerprint if attached is not None else "")


def _is_to_publish(ready: CopiedTag, held: Mapping[Digest, int] | None) -> bool:
    if ready.planned.action is Action.COPY or ready.mended:  # what was brought may need lists of its own
        return True
    return held is not None and ready.root.digest not in held  # the tag is there, its digest key is not


async def _look_again(batch: list[CopiedTag], copier: Copier) -> Mapping[Digest, int] | None:
    """Where a listing can tell, see that nothing vanished since it was copied, and bring it again if it did.

    The roots lie there by then, so that a collector spares what is below them (docs/gc.md).

    Raises:
        StoreError: it is missing even after it was brought again.
    """
    if not any(ready.planned.action is Action.COPY or ready.mended for ready in batch):
        return copier.held
    if isinstance(copier.target, CollectedTarget):
        await copier.target.push_manifests([ready.root for ready in batch if ready.planned.action is Action.COPY])
    missing, held = await _missing(batch, copier)
    if missing:
        log.warning("blob.vanished", target=str(copier.where), digests=sorted(missing)[:10])
        copier.forget(missing)
        for ready in batch:
            await copier.graph(ready.root)
        missing, held = await _missing(batch, copier)
    if missing:
        raise StoreError(
            f"{next(iter(missing))}: vanished from {copier.where} again right after it was copied: "
            "find out what deletes there"
        )
    await _remember_omissions(batch, copier, held or {})
    return held


async def _remember_omissions(batch: list[CopiedTag], copier: Copier, held: Mapping[Digest, int]) -> None:
    """A collector that took an index which has come back since took the record of what is left out of it as well."""
    if isinstance(copier.target, CollectedTarget):
        for index in {digest for ready in batch for digest in ready.graph if digest in copier.omitted}:
            await copier.target.record_missing_images(
                index, [digest for digest in copier.omitted[index] if digest not in held]
            )


async def _missing(batch: list[CopiedTag], copier: Copier) -> tuple[set[Digest], Mapping[Digest, int] | None]:
    """What the batch needs and the target lacks, and what it holds; nothing is known of a target without a listing."""
    if not isinstance(copier.target, Inventory):
        return set(), None
    roots = {ready.root.digest for ready in batch}
    needed = {digest: size for ready in batch for digest, size in ready.graph.items() if digest not in roots}
    stored = await _settled(copier.target)
    if isinstance(copier.target, CollectedTarget) and (stale := _stale(needed, stored, copier.target.stale_after)):
        await for_each(stale, copier.target.touch, copier.tools.limits.blobs)
        stored = await _settled(copier.target)
    held = stored.sizes
    return {digest for digest, size in needed.items() if held.get(digest) != size}, held


async def _settled(target: Inventory) -> RepositoryListing:
    """A listing while no collector is at work: one that has not seen the roots may remove what was listed."""
    stored = await target.list_all()
    while stored.is_collected:
        await anyio.sleep(_COLLECTED)
        stored = await target.list_all()
    return stored


def _stale(needed: Iterable[Digest], stored: RepositoryListing, stale_after: float) -> list[Digest]:
    """What is so old that a collector may be about to take it."""
    now = time.time()
    return [digest for digest in needed if now - stored.modified.get(digest, now) > stale_after]


def _report_all(batch: list[CopiedTag], kept: Kept, report: Callable[[TagReport], None]) -> None:
    for ready in batch:
        if (found := kept.get(ready.planned.tag)) is not None:
            report(TagReport(ready.planned.tag, Verdict.KEPT, kept_reason(found.digest), ready.root.digest))
            continue
        copied = ready.planned.action is Action.COPY or ready.mended
        reason = "mended" if ready.mended and ready.planned.action is Action.CHECK else ready.planned.reason
        verdict = Verdict.COPIED if copied else Verdict.UNCHANGED
        report(TagReport(ready.planned.tag, verdict, reason, ready.root.digest))


def failed(planned: PlannedTag, error: OcisyncError) -> TagReport:
    """A tag that could not be published."""
    digest = planned.root.digest if planned.root else None
    return TagReport(planned.tag, Verdict.FAILED, planned.reason, digest, failure_of(error))


T = TypeVar("T")


async def batch_of(first: T, queue: MemoryObjectReceiveStream[T], most: int, linger: float) -> list[T]:
    """The first, and what comes within `linger` seconds of it; less when the queue ends before."""
    found = [first]
    with anyio.move_on_after(linger) as waiting, suppress(EndOfStream):
        while linger and len(found) < most:
            found.append(await queue.receive())
    if waiting.cancelled_caught or not linger:
        _take_waiting(queue, found, most)
    return found


def _take_waiting(queue: MemoryObjectReceiveStream[T], found: list[T], most: int) -> None:
    with suppress(WouldBlock, EndOfStream):
        while len(found) < most:
            found.append(queue.receive_nowait())
