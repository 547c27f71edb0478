"""Tags of a whole registry: listed with what they take, removed by name or by age."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from ocisync.content.capabilities import Reconciler
from ocisync.content.concurrency import for_each
from ocisync.content.object_store import ObjectKind
from ocisync.errors import NotFound, OcisyncError
from ocisync.maintenance.listing_check import list_problem
from ocisync.maintenance.protocols import MaintainedRegistry, MaintainedRepository
from ocisync.maintenance.retention import Decision, KeepPolicy, TagAge, decide, refusal
from ocisync.model.digest import Digest, hex_of
from ocisync.model.manifest import MAX_INDEX_DEPTH, may_be_manifest, parse_manifest
from ocisync.sync.reports import Failure, describe_failure

log = structlog.get_logger()

WORKERS = 8


@dataclass(frozen=True, slots=True)
class RepositoryView:
    """What a repository takes."""

    name: str
    tags: int
    manifests: int
    blobs: int
    size: int  # bytes of manifests and blobs
    shared: int  # bytes of blobs that other repositories have too
    newest: float | None  # when its last tag was published; seconds since the epoch


@dataclass(frozen=True, slots=True)
class TagView:
    """What a tag takes."""

    tag: str
    digest: Digest
    published: float  # seconds since the epoch
    size: int  # bytes of all that it reaches
    shared: int  # bytes of that which other tags of the repository reach too


@dataclass(slots=True)
class _Blobs:
    """Blobs of one repository, 16 bytes each."""

    digests: array[int] = field(default_factory=lambda: array("Q"))  # their first 64 bits
    sizes: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, digest: str, size: int) -> None:
        self.digests.append(int(hex_of(Digest(digest))[:16], 16))
        self.sizes.append(size)

    def pairs(self) -> Iterator[tuple[int, int]]:
        return zip(self.digests, self.sizes, strict=True)


async def list_repositories(registry: MaintainedRegistry, within: str = "") -> list[RepositoryView]:
    """Every repository, in lexical order; what it shares with others counts where all are listed."""
    views: list[tuple[RepositoryView, _Blobs]] = []
    holders: Counter[int] = Counter()
    async for name in registry.list_repositories(within):
        view, blobs = await _view_repository(registry.repository(name))
        holders.update(blobs.digests)
        views.append((view, blobs))
    return sorted((_add_shared(view, blobs, holders) for view, blobs in views), key=lambda view: view.name)


async def _view_repository(repository: MaintainedRepository) -> tuple[RepositoryView, _Blobs]:
    blobs = _Blobs()
    async for entry in repository.list_objects(ObjectKind.BLOB):
        blobs.add(entry.reference, entry.size)
    dates = [entry.modified async for entry in repository.list_objects(ObjectKind.TAG)]
    manifests = [entry.size async for entry in repository.list_objects(ObjectKind.MANIFEST)]
    size = sum(blobs.sizes) + sum(manifests)
    newest = max(dates, default=None)
    return RepositoryView(repository.name, len(dates), len(manifests), len(blobs.sizes), size, 0, newest), blobs


def _add_shared(view: RepositoryView, blobs: _Blobs, holders: Mapping[int, int]) -> RepositoryView:
    shared = sum(size for digest, size in blobs.pairs() if holders[digest] > 1)
    return RepositoryView(view.name, view.tags, view.manifests, view.blobs, view.size, shared, view.newest)


async def list_tags(repository: MaintainedRepository) -> list[TagView]:
    """Every tag, in lexical order; what cannot be read counts as nothing."""
    dates = {entry.reference: entry.modified async for entry in repository.list_objects(ObjectKind.TAG)}
    graphs: dict[str, tuple[Digest, dict[Digest, int]]] = {}

    async def read(tag: str) -> None:
        try:
            root = await repository.store.resolve(tag)
        except OcisyncError as exc:
            log.warning("tag.unreadable", repository=repository.name, tag=tag, error=exc.message)
            return
        graphs[tag] = root.digest, {root.digest: root.size, **await _collect(repository, root.data or b"")}

    await for_each(list(dates), read, WORKERS)
    users = Counter(digest for _, graph in graphs.values() for digest in graph)
    return [_view_tag(tag, dates[tag], *graphs[tag], users) for tag in sorted(graphs)]


def _view_tag(
    tag: str, date: float, digest: Digest, graph: Mapping[Digest, int], users: Mapping[Digest, int]
) -> TagView:
    shared = sum(size for one, size in graph.items() if users[one] > 1)
    return TagView(tag, digest, date, sum(graph.values()), shared)


async def _collect(repository: MaintainedRepository, raw: bytes, depth: int = MAX_INDEX_DEPTH) -> dict[Digest, int]:
    found: dict[Digest, int] = {}
    try:
        manifest = parse_manifest(raw)
    except OcisyncError:
        return found
    for child in manifest.children:
        found[child.digest] = child.size
        if depth and (child.is_manifest or (manifest.is_index and may_be_manifest(child))):
            try:
                _, below = await repository.read(ObjectKind.MANIFEST, child.digest)
            except OcisyncError:
                continue
            found |= await _collect(repository, below, depth - 1)
    return found


async def check_tags(repository: MaintainedRepository, tags: Sequence[str]) -> None:
    """See that all of them are there.

    Raises:
        NotFound: one is not.
    """
    for tag in tags:
        if await repository.stat(ObjectKind.TAG, tag) is None:
            told = f"{repository.name}:{tag}: no such tag; nothing was removed"
            raise NotFound(f"{told}; `ocisync ls TARGET/{repository.name}` lists the tags that are there")


async def remove_tags(repository: MaintainedRepository, tags: Sequence[str]) -> None:
    """Remove tags, then bring the lists up to date; what they pointed at stays until it is collected.

    Raises:
        NotFound: one of them is not there; none is removed.
    """
    await check_tags(repository, tags)
    await repository.remove(ObjectKind.TAG, tags)
    if isinstance(repository.store, Reconciler):
        await repository.store.reconcile()
    log.info("tags.removed", repository=repository.name, count=len(tags), tags=list(tags)[:10])


@dataclass(slots=True)
class Retained:
    """What retention decided, and did."""

    decisions: dict[str, list[Decision]] = field(default_factory=dict)  # by repository, where a tag goes
    removed: int = 0
    problems: list[str] = field(default_factory=list)  # repositories of which nothing was removed, and why
    failures: dict[str, Failure] = field(default_factory=dict)  # by repository

    @property
    def ok(self) -> bool:
        """Whether everything is as the policy wants it."""
        return not self.problems and not self.failures


async def retain(
    registry: MaintainedRegistry, policy: KeepPolicy, limit: float, *, dry_run: bool = False, within: str = ""
) -> Retained:
    """Remove the tags that the policy does not keep; a repository above the limit is left alone."""
    done, now = Retained(), await registry.now()
    async for name in registry.list_repositories(within):
        if not policy.concerns(name):
            continue
        try:
            await _retain(registry.repository(name), policy, limit, now, done, dry_run)
        except OcisyncError as exc:
            done.failures[name] = describe_failure(exc)
    return done


async def _retain(
    repository: MaintainedRepository, policy: KeepPolicy, limit: float, now: float, done: Retained, dry_run: bool
) -> None:
    digests = (await repository.store.list_all()).tags
    ages = [
        TagAge(entry.reference, entry.modified, digests.get(entry.reference))
        async for entry in repository.list_objects(ObjectKind.TAG)
    ]
    decisions = decide(ages, policy, now)
    going = [decision.tag for decision in decisions if not decision.stays]
    if not going:
        return
    done.decisions[repository.name] = decisions
    problem = await list_problem(repository) or refusal(decisions, limit)
    if problem:
        done.problems.append(f"{repository.name}: {problem.removeprefix(f'{repository.name}: ')}")
    elif not dry_run:
        seen = {age.tag: age.modified for age in ages}
        unmoved = [tag for tag in going if await _is_as_seen(repository, tag, seen[tag])]
        await remove_tags(repository, unmoved)
        done.removed += len(unmoved)


async def _is_as_seen(repository: MaintainedRepository, tag: str, modified: float) -> bool:
    """Whether nobody published a tag again meanwhile."""
    found = await repository.stat(ObjectKind.TAG, tag)
    return found is not None and found.modified <= modified + 1  # listings may tell fractions of a second, looks not
