"""Apply a bundle: verify all of it, see that every image will be whole, and only then publish, as a mirror does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import structlog
from anyio import CancelScope

from ocisync.bundles.bundle_files import BundleFiles, Check, OpenedInventory, read_inventory
from ocisync.bundles.bundle_source import BundleSource
from ocisync.bundles.completeness_check import RepositoryState, explain, look
from ocisync.bundles.inventory import BundledImage, BundleInventory
from ocisync.bundles.verify_volumes import OpenBundle, verify_bundle
from ocisync.bundles.volume_layout import VolumeMap
from ocisync.content.capabilities import Reconciler, ServerTarget, Untagger
from ocisync.content.concurrency import for_each
from ocisync.content.failpoints import failpoint
from ocisync.content.repository import Source, Target
from ocisync.content.threads import open_spool, return_memory, run_file, run_steps
from ocisync.errors import BundleError, ConfigError, NotFound
from ocisync.model.digest_tags import is_digest_tag, is_list_tag
from ocisync.model.locator import LayoutLocator, Locator, TargetLocator
from ocisync.sync.context import JobContext, Stores
from ocisync.sync.job import Job
from ocisync.sync.presence import BlobInfoCache
from ocisync.sync.referrers.referrer_set import ReferrerChoice
from ocisync.sync.reports import JobReport
from ocisync.sync.run import run_job
from ocisync.sync.select import TagSelection

log = structlog.get_logger()

_REPOSITORIES = 2  # at a time: each holds the manifests of its images
_REMEMBERED = 5000  # blobs


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """How a bundle is to be applied."""

    place: Callable[[str], TargetLocator]  # where a repository of the bundle goes
    rename_tag: Callable[[str], str]
    rule: str = "bundle"  # in logs and reports
    check: Check | None = None  # of the signature; None: unsigned bundles are taken
    prune: bool = False  # remove the tags that are gone at the source
    whole_images_only: bool = False  # bring what is complete, though others are not


@dataclass(slots=True)
class Applied:
    """What became of a bundle."""

    opened: OpenedInventory
    reports: list[JobReport] = field(default_factory=list)
    unchanged: int = 0  # images that were there already
    lacking: str = ""  # which images were left out, and why
    removed: list[str] = field(default_factory=list)
    whole: list[BundledImage] = field(default_factory=list)  # that are at the target now
    needed: bytearray = field(default_factory=bytearray)  # by the numbers of the inventory's blobs; 1: of these

    @property
    def inventory(self) -> BundleInventory:
        """The bundle's."""
        return self.opened.inventory

    @property
    def ok(self) -> bool:
        """Whether everything in the bundle is at the target now."""
        return not self.lacking and all(report.ok for report in self.reports)


async def apply_bundle(files: BundleFiles, context: JobContext, scratch: Path, options: ApplyOptions) -> Applied:
    """Bring what a bundle holds to its target. Done twice it is harmless, and goes on where it was cut off.

    Raises:
        SignatureError: nobody who is trusted signed it.
        BundleError: it is damaged, or images would not be whole; nothing was published.
    """
    async with open_bundle(files, scratch, options.check) as (opened, bundle):
        failpoint("bundle.verified")
        context = replace(context, blob_info=BlobInfoCache(_REMEMBERED))  # the ledger remembers all, in less memory
        applied = Applied(opened, needed=bytearray(len(opened.inventory.blobs)))
        states = await _look_at_targets(bundle, context, options)
        lacking = explain(states, opened.inventory)
        if lacking and not options.whole_images_only:
            raise BundleError(
                f"{opened.inventory.id}: not complete at this target: {lacking}", code="bundle.incomplete"
            )
        applied.lacking = lacking
        failpoint("bundle.complete")

        async def publish(state: RepositoryState) -> None:
            report = await _publish(state, bundle, context, options)
            applied.reports.extend([report] if report else [])
            applied.unchanged += len(state.whole) - len(state.stale)
            if report is None or report.ok:
                applied.whole.extend(state.whole)
                for number in state.needed:
                    applied.needed[number] = 1
            await run_file(return_memory)
            failpoint("bundle.published")

        await for_each(states, publish, _REPOSITORIES)
        if options.prune and applied.ok:
            applied.removed = await _prune(opened.inventory, context, options)
    return applied


@asynccontextmanager
async def open_bundle(
    files: BundleFiles, scratch: Path, check: Check | None = None
) -> AsyncIterator[tuple[OpenedInventory, OpenBundle]]:
    """A bundle, every byte of it verified; raises as `apply_bundle` does."""
    opened = await run_file(partial(read_inventory, files, check))
    await run_file(return_memory)
    async with open_spool(scratch) as spool:
        bundle = OpenBundle(VolumeMap(opened.inventory), spool=spool)
        try:
            await run_steps(verify_bundle(files, opened, bundle))
            yield opened, bundle
        finally:
            with CancelScope(shield=True):
                await run_file(bundle.close)


async def _look_at_targets(bundle: OpenBundle, context: JobContext, options: ApplyOptions) -> list[RepositoryState]:
    """The state of each repository that the bundle names.

    Raises:
        ConfigError: two images would go to one place.
    """
    inventory = bundle.map.inventory
    images: dict[str, list[BundledImage]] = {}
    for image in inventory.images:
        images.setdefault(image.name, []).append(image)
    _check_places(images, options)
    states: list[RepositoryState] = []

    async def look_at(name: str) -> None:
        async with context.stores.target(options.place(name)) as target:
            states.append(await look(bundle, name, images[name], target, partial(rename_tag, options=options)))

    await for_each(list(images), look_at, _REPOSITORIES)
    return sorted(states, key=lambda state: state.name)


def _check_places(images: Mapping[str, Sequence[BundledImage]], options: ApplyOptions) -> None:
    taken: dict[str, str] = {}
    for name, listed in images.items():
        place = options.place(name).lock_name
        if (other := taken.setdefault(place, name)) != name:
            raise ConfigError(f"{name} and {other} would both become {place}: rename one of the two")
        tags = {rename_tag(image.tag, options) for image in listed}
        if len(tags) < len(listed):
            raise ConfigError(f"{name}: two of its tags would become one: change `tags` of the renaming")


def rename_tag(tag: str, options: ApplyOptions) -> str:
    """A tag's name at the target; what is named for a digest keeps its name."""
    return tag if is_digest_tag(tag) else options.rename_tag(tag)


async def _publish(
    state: RepositoryState, bundle: OpenBundle, context: JobContext, options: ApplyOptions
) -> JobReport | None:
    """Run the job that mirrors the repository's images from the bundle; None where all is there."""
    place = options.place(state.name)
    async with context.stores.target(place) as target:
        if not state.stale:
            if isinstance(target, Reconciler):  # a process that was killed may not have come to the list of tags
                await target.reconcile()
            return None
        source = BundleSource(bundle, state.name, state.whole, target)
        is_server = isinstance(target, ServerTarget)  # it makes lists of referrers itself
        tags = {
            rename_tag(image.tag, options): image.tag
            for image in state.stale
            if not (is_server and is_list_tag(image.tag))
        }
        job = Job(
            options.rule,
            LayoutLocator(bundle.map.inventory.id, state.name),
            place,
            TagSelection(literal=tags),
            recheck=0.0,
            referrers=ReferrerChoice(True, (), digest_tags=True),
        )
        own = replace(context, stores=_ApplyStores(context.stores, source), spools=None, external=None)
        return await run_job(job, own)


@dataclass(frozen=True, slots=True)
class _ApplyStores:
    """Targets as they are; the source is the bundle."""

    stores: Stores
    bundle: BundleSource

    @asynccontextmanager
    async def source(self, locator: Locator) -> AsyncIterator[Source]:
        """The bundle's repository."""
        del locator
        yield self.bundle

    def target(self, locator: TargetLocator) -> AbstractAsyncContextManager[Target]:
        """A repository of the target."""
        return self.stores.target(locator)


async def _prune(inventory: BundleInventory, context: JobContext, options: ApplyOptions) -> list[str]:
    """Remove the tags that are gone at the source, where they are; which."""
    gone: dict[str, list[str]] = {}
    for one in inventory.removed:
        gone.setdefault(one.name, []).append(options.rename_tag(one.tag))
    removed: list[str] = []
    for name, tags in gone.items():
        async with context.stores.target(options.place(name)) as target:
            going = sorted((await _list_tags(target)).intersection(tags))
            if going and not isinstance(target, Untagger):
                raise ConfigError("--prune: tags cannot be removed from such a target")
            if going and isinstance(target, Untagger):
                await target.untag(going)
                failpoint("bundle.pruned")
                log.info("tags.pruned", target=str(target), count=len(going), tags=going[:10])
                removed.extend(f"{name}:{tag}" for tag in going)
            elif isinstance(target, Reconciler):  # a process that was killed may have removed them
                await target.reconcile()
    return removed


async def _list_tags(target: Target) -> set[str]:
    try:
        return set(await target.tags()) if isinstance(target, Source) else set()
    except NotFound:
        return set()
