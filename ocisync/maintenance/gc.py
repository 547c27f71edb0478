"""Collect: remove what no tag reaches. docs/gc.md says what is guaranteed, and why.

First a plan over the whole registry, spooled to disk; then, repository by repository, everything is marked again, and
right before each batch is removed the tags are listed and the ages are looked at once more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import anyio
import structlog

from ocisync.content.concurrency import for_each
from ocisync.content.object_store import Abandoned, ObjectKind
from ocisync.errors import OcisyncError, StoreError
from ocisync.maintenance.gc_plan import Garbage, Totals
from ocisync.maintenance.listing_check import list_problem
from ocisync.maintenance.mark import Marks
from ocisync.maintenance.protocols import MaintainedRegistry, MaintainedRepository
from ocisync.model.digest import Digest
from ocisync.sync.reports import Failure, describe_failure

log = structlog.get_logger()

BATCH = 500  # objects between two looks at the tags
WARNED = 60.0  # seconds; when the last look takes longer, nothing is removed: writers heed a warning for thrice as long
WORKERS = 8

Journal = Callable[[Sequence[Garbage]], Awaitable[None]]


@dataclass(slots=True)
class Collected:
    """What a collection removed."""

    removed: int = 0
    bytes: int = 0
    spared: int = 0  # planned, but reached or young by now
    left: Abandoned = field(default_factory=Abandoned)  # by killed writers, and removed
    problems: list[str] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)  # by repository

    @property
    def ok(self) -> bool:
        """Whether all went well."""
        return not self.failures and not self.problems


async def plan_collection(
    registry: MaintainedRegistry, grace: float, totals: Totals, within: str = ""
) -> AsyncIterator[Garbage]:
    """What could be removed now, repository by repository, manifests first; `totals` is counted up meanwhile."""
    now = await registry.now()
    async for name in registry.list_repositories(within):
        totals.repositories += 1
        repository = registry.repository(name)
        marks = Marks(repository, grace)
        problem = await _mark(marks, now)
        if problem:
            totals.problems.append(problem)
        async for garbage in _list_garbage(repository, marks, now, totals):
            if not problem:
                totals.doomed += 1
                totals.bytes += garbage.size
                yield garbage


async def _mark(marks: Marks, now: float) -> str:
    """Mark a repository; why nothing of it may be removed, or nothing."""
    try:
        await marks.mark(now)
        problem = await list_problem(marks.repository)
    except OcisyncError as exc:
        return f"{marks.repository.name}: {exc.message}"
    return problem or next(iter(marks.problems), "")


async def _list_garbage(
    repository: MaintainedRepository, marks: Marks, now: float, totals: Totals
) -> AsyncIterator[Garbage]:
    for kind in (ObjectKind.MANIFEST, ObjectKind.BLOB):
        async for entry in repository.list_objects(kind):
            totals.objects += 1
            garbage = Garbage(repository.name, kind, Digest(entry.reference), entry.size, entry.modified)
            if garbage.digest not in marks.reachable and now - entry.modified >= marks.grace:
                yield garbage


async def collect(
    registry: MaintainedRegistry, name: str, garbage: Sequence[Garbage], grace: float, journal: Journal, done: Collected
) -> None:
    """Remove what was planned in one repository and still may go."""
    marks = Marks(registry.repository(name), grace)
    try:
        problem = await _mark(marks, await registry.now())
        if problem:
            done.problems.append(problem)
            return
        rest = iter(garbage)
        while batch := list(islice(rest, BATCH)):
            await _remove(registry, marks, batch, journal, done)
        await _remove_lists_of_empty(marks.repository)
    except OcisyncError as exc:
        done.failures[name] = describe_failure(exc)
        log.warning("repository.uncollected", repository=name, code=exc.code, error=exc.message)


async def _remove(
    registry: MaintainedRegistry, marks: Marks, batch: Sequence[Garbage], journal: Journal, done: Collected
) -> None:
    """Look at ages, then at the tags, then remove what neither spares; writers are warned before the last look."""
    now = await registry.now()
    old = await _select_old(marks, batch, now)
    async with marks.repository.gc_barrier():
        with anyio.move_on_after(WARNED) as marking:
            await marks.mark(now)
        is_known = not marks.problems and not marking.cancelled_caught
        gone = [one for one in old if one.digest not in marks.reachable] if is_known else []
        await journal(gone)
        with anyio.move_on_after(WARNED) as removing:
            await _remove_at_once(marks.repository, gone)
        if removing.cancelled_caught:
            raise StoreError(f"{marks.repository.name}: the store took longer than {WARNED:.0f} s to remove objects")
    done.problems.extend(marks.problems)
    done.removed += len(gone)
    done.bytes += sum(one.size for one in gone)
    done.spared += len(batch) - len(gone)


async def _remove_at_once(repository: MaintainedRepository, gone: Sequence[Garbage]) -> None:
    """Lists of referrers last: a writer gives every manifest one that it sees without."""
    manifests = [one.digest for one in gone if one.kind is ObjectKind.MANIFEST]
    await repository.remove(ObjectKind.OMITTED, manifests)
    await repository.remove(ObjectKind.MANIFEST, manifests)
    await repository.remove(ObjectKind.BLOB, [one.digest for one in gone if one.kind is ObjectKind.BLOB])
    await repository.remove(ObjectKind.REFERRERS, manifests)


async def _select_old(marks: Marks, batch: Sequence[Garbage], now: float) -> list[Garbage]:
    old: list[Garbage] = []

    async def check(one: Garbage) -> None:
        found = await marks.repository.stat(one.kind, one.digest)
        if found is not None and now - found.modified >= marks.grace:
            old.append(one)

    await for_each([one for one in batch if one.digest not in marks.reachable], check, WORKERS)
    return old


async def _remove_lists_of_empty(repository: MaintainedRepository) -> None:
    """Remove the lists of a repository that has become empty."""
    if not await _is_empty(repository):
        return
    for derived in (ObjectKind.REFERRERS, ObjectKind.OMITTED):
        await repository.remove(derived, [entry.reference async for entry in repository.list_objects(derived)])
    await repository.remove(ObjectKind.TAGS_LIST, ["list"])
    if not await _is_empty(repository):
        await repository.rebuild_derived()  # a writer came meanwhile


async def _is_empty(repository: MaintainedRepository) -> bool:
    for kind in (ObjectKind.MANIFEST, ObjectKind.TAG):
        async for _ in repository.list_objects(kind):
            return False
    return True
