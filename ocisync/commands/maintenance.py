"""Looking after a static registry: reconcile, list, remove, keep, verify, collect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from anyio import Lock, to_thread

from ocisync.commands.images.static_target import RegistryScope, open_scope
from ocisync.errors import ConfigError, DiskError
from ocisync.maintenance.findings import Verified
from ocisync.maintenance.gc import Collected
from ocisync.maintenance.gc_plan import Totals
from ocisync.maintenance.protocols import MaintainedRegistry
from ocisync.maintenance.reconcile import Reconciled, reconcile
from ocisync.maintenance.repair import verify_and_repair
from ocisync.maintenance.retention import KeepPolicy
from ocisync.maintenance.tags import (
    RepositoryView,
    Retained,
    TagView,
    check_tags,
    list_repositories,
    list_tags,
    remove_tags,
    retain,
)
from ocisync.maintenance.verify import Depth, NoJournal, ReadRate, VerifyJournal, verify
from ocisync.stores.static.layout import check_name


async def reconcile_scope(text: str, config: Path | None) -> Reconciled:
    """Derive everything anew."""
    async with open_scope(text, config) as scope:
        return await reconcile(scope.target.registry, scope.repository)


async def list_scope(text: str, config: Path | None) -> list[RepositoryView] | list[TagView]:
    """The tags of one repository, or the repositories of a registry, or of a part of it."""
    async with open_scope(text, config) as scope:
        if scope.repository and scope.repository in [
            name async for name in scope.target.registry.list_repositories(scope.repository)
        ]:
            return await list_tags(scope.target.registry.repository(scope.repository))
        return await list_repositories(scope.target.registry, scope.repository)


async def remove_images(text: str, images: Sequence[tuple[str, str]], config: Path | None, dry_run: bool) -> list[str]:
    """Remove tags, given as names with a tag or "" for all tags; what was removed.

    Raises:
        NotFound: a tag is not there; none is removed.
    """
    async with open_scope(text, config) as scope:
        going = await _tags_of(scope.target.registry, images)
        for name, tags in going.items():
            if not dry_run:
                await remove_tags(scope.target.registry.repository(name), tags)
    return [f"{name}:{tag}" for name, tags in going.items() for tag in tags]


async def _tags_of(registry: MaintainedRegistry, images: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The tags that are named, each once, by repository; raises as `remove_images`."""
    found: dict[str, list[str]] = {}
    for name, tag in images:
        repository = registry.repository(name)
        tags = [tag] if tag else list(await repository.store.tags())
        await check_tags(repository, tags)
        found[name] = list(dict.fromkeys([*found.get(name, []), *tags]))
    return found


async def apply_policy(
    text: str, config: Path | None, policy: KeepPolicy | None, limit: float | None, dry_run: bool
) -> Retained:
    """Remove the tags that a policy, by default the target's own, does not keep.

    Raises:
        ConfigError: there is no policy.
    """
    async with open_scope(text, config) as scope:
        policy = policy or scope.target.policy
        if policy is None:
            raise ConfigError(
                f"{scope.target.name}: the target has no `keep`; add one, or give --newest or --newer-than"
            )
        return await retain(
            scope.target.registry, policy, limit or scope.target.limit, dry_run=dry_run, within=scope.repository
        )


@dataclass(frozen=True, slots=True)
class GcOptions:
    """How `gc` is asked to work; None: as the target says."""

    plan: Path | None = None  # where to write the plan
    apply: Path | None = None  # a plan to carry out
    dry_run: bool = False
    grace: float | None = None  # seconds
    limit: float | None = None
    journal: Path | None = None


async def collect_scope(text: str, config: Path | None, options: GcOptions) -> tuple[Totals, Collected | None, Path]:
    """Plan, apply, or both; the totals, what was removed, and the journal."""
    async with open_scope(text, config) as scope:
        work = scope.target.collection
        work = replace(
            work,
            grace=work.grace if options.grace is None else options.grace,
            limit=options.limit or work.limit,
            journal=options.journal or work.journal,
        )
        journal = work.journal or Path()
        if sum((bool(options.apply), bool(options.plan), options.dry_run)) > 1:
            raise ConfigError("--plan, --apply and --dry-run exclude each other: a plan is written first, then applied")
        if options.apply:
            return await work.totals(options.apply), await work.apply(options.apply), journal
        if options.plan:
            return await work.plan(options.plan, scope.repository), None, journal
        if options.dry_run:
            return await work.count(scope.repository), None, journal
        return *(await work.run(scope.repository)), journal


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """How `verify` is asked to work."""

    deep: bool = False
    repair: bool = False
    resume: bool = False
    rate: float = 0.0  # bytes per second
    workers: int = 8


async def verify_scope(text: str, config: Path | None, options: VerifyOptions) -> Verified:
    """Walk a registry, and mend it when asked to.

    Raises:
        ConfigError: what is about reading blobs, without reading them.
    """
    if not options.deep and (options.resume or options.rate):
        raise ConfigError("--resume and --rate are about reading blobs: add --deep")
    async with open_scope(text, config) as scope:
        seen = await _open_journal(scope, options)
        in_order = scope.options.order == "lexical"
        depth = Depth(
            options.deep,
            scope.options.referrers,
            scope.options.catalog,
            in_order,
            options.workers,
            ReadRate(options.rate),
            seen,
        )
        if options.repair:
            report = await verify_and_repair(scope.target.registry, depth, scope.origins, scope.repository)
        else:
            report = await verify(scope.target.registry, depth, scope.repository)
        if isinstance(seen, VerifyJournalFile):
            await seen.finish()
        return report


async def _open_journal(scope: RegistryScope, options: VerifyOptions) -> VerifyJournal:
    if not options.deep:
        return NoJournal()
    file = scope.target.journal.parent.parent / "verify" / scope.target.journal.name
    return await to_thread.run_sync(VerifyJournalFile.open, file, options.resume)


class VerifyJournalFile:
    """What was read, in a file of lines: a verification that was cut off goes on from there."""

    def __init__(self, file: Path, lines: TextIO, known: set[str]) -> None:
        self._file = file
        self._lines = lines
        self._known = known
        self._lock = Lock()

    @classmethod
    def open(cls, file: Path, resume: bool) -> VerifyJournalFile:
        """Go on with a file, or begin it; plain code for a thread.

        Raises:
            DiskError: it cannot be written.
        """
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            known = set(file.read_text("utf-8").splitlines()) if resume and file.exists() else set()
            return cls(file, file.open("a" if resume else "w", encoding="utf-8", buffering=1), known)
        except OSError as exc:
            raise DiskError(f"{file}: what was verified cannot be written down: {exc.strerror}") from exc

    def has(self, repository: str, digest: str) -> bool:
        """Whether an earlier run read it."""
        return f"{repository}@{digest}" in self._known

    async def add(self, repository: str, digest: str) -> None:
        """Write it down."""
        async with self._lock:
            await to_thread.run_sync(self._lines.write, f"{repository}@{digest}\n")

    async def finish(self) -> None:
        """The walk came to its end: the next one begins anew."""
        await to_thread.run_sync(self._lines.close)
        await to_thread.run_sync(self._file.unlink)


def check_image(text: str) -> tuple[str, str]:
    """A repository's name and a tag, or "" for all tags.

    Raises:
        InvalidName: it is none.
    """
    from ocisync.model.image_name import split_tag

    name, tag = split_tag(text)
    return check_name(name), tag
