"""Copy a graph: children before parents, each digest once per run, many blobs at a time.

A `Copier` serves one target repository during one job. What it copies becomes visible only through `publish`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import anyio
import structlog

from ocisync.content.capabilities import CollectedTarget, Converter, Mounter
from ocisync.content.concurrency import SingleFlight, for_each
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import Fetcher, Opener, Target
from ocisync.content.verify import read_manifest
from ocisync.errors import (
    AuthError,
    LimitExceeded,
    ManifestError,
    NotFound,
    OcisyncError,
    RateLimited,
    RegistryError,
)
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.locator import TargetLocator
from ocisync.model.manifest import Manifest, check_index_depth, parse_manifest
from ocisync.model.platform_filter import EVERYTHING, PlatformChoice, select_entries
from ocisync.sync.children import detect_media_type
from ocisync.sync.context import JobContext
from ocisync.sync.referrers import ReferrerCopier, ReferrerFinder, Ways
from ocisync.sync.reports import Traffic
from ocisync.sync.source_reader import SourceReader, is_elsewhere, push_with_reread, with_progress
from ocisync.sync.write_policy import WritePolicy

log = structlog.get_logger()

Graph = Mapping[Digest, int]  # every digest at or below a root that the target holds, with its size in bytes


@dataclass
class Copier:
    """Brings graphs from one source to one target repository."""

    source: Fetcher
    target: Target
    where: TargetLocator
    tools: JobContext
    traffic: Traffic
    validates: bool = False  # the target refuses a manifest whose children it lacks
    care: WritePolicy = field(default_factory=WritePolicy)
    held: dict[Digest, int] | None = None  # what the target's listing shows; None: it offers none
    is_empty: bool = False  # the target repository holds nothing: nothing needs to be asked for
    choice: PlatformChoice = EVERYTHING  # which images of an index are brought
    companions: ReferrerFinder | None = None  # what goes along with the images; None: nothing
    scope: str = ""  # what of an image is brought, for the ledger
    include_external: bool = False  # foreign layers too
    send_again: bool = False  # whatever the target says it has
    placed: set[Digest] = field(default_factory=set)  # what this job brought
    beside: dict[Digest, Mapping[str, Descriptor]] = field(default_factory=dict)  # by root: tags to publish before its
    omitted: dict[Digest, list[Digest]] = field(default_factory=dict)  # by index: what was left out of it on purpose
    _manifests: set[Digest] = field(default_factory=set)  # met by this job
    _is_sparse: bool = False  # images of an index were left out, of which the target cannot know
    _once: SingleFlight[Digest, Graph] = field(default_factory=SingleFlight)
    shares: tuple[str, ...] = ()  # lock names of all targets that are brought the same
    _slots: anyio.Semaphore = field(init=False)
    _reading: SourceReader = field(init=False)
    _mounter: Mounter | None = field(init=False)  # the target, if it is one

    def __post_init__(self) -> None:
        self._mounter = self.target if isinstance(self.target, Mounter) else None
        self._slots = anyio.Semaphore(self.tools.limits.blobs, fast_acquire=True)
        self._reading = SourceReader(self.source, self.tools.spools, self.where.lock_name, self.shares)

    async def graph(self, root: Descriptor) -> tuple[Descriptor, Graph]:
        """Bring everything below a root; the root comes back with its bytes, for `publish` to store last."""
        if not root.is_manifest and self.target.tags_any_content:
            root = await detect_media_type(root, self._read)
            if not root.is_manifest:
                return root, await self._bring_from_source(root, depth=1)
        raw, manifest = await self._read(root)
        below = await self._children(root, manifest, depth=1)
        whole = replace(root, media_type=manifest.media_type, size=len(raw), data=raw)
        if self.send_again:
            await self.target.push(whole, BytesOpener(raw))
        return whole, {**below, **await self._along(root.digest, below), root.digest: len(raw)}

    async def blob(self, desc: Descriptor, opener: Opener) -> None:
        """Bring one blob whose bytes are at hand (a converted layer)."""
        await self._once(desc.digest, functools.partial(self._bring_blob, desc, opener))

    def forget(self, missing: Iterable[Digest]) -> None:
        """Look again at what turned out to be missing at the target; nothing remembered is trusted any more."""
        for digest in missing:
            self.tools.whereabouts.forget(self.where.target, digest)
        self._once = SingleFlight()
        self.held = None
        self.is_empty = False

    async def _node(self, desc: Descriptor, depth: int) -> Graph:
        work = self._bring_manifest if desc.is_manifest else self._bring_from_source
        return await self._once(desc.digest, functools.partial(work, desc, depth))

    async def _along(self, root: Digest, below: Graph) -> Graph:
        """Bring what refers to a root or to something below it, where the job wants that."""
        if self.companions is None:
            return {}
        ways = Ways(self._whole, lambda desc: self._node(desc, depth=2), self._manifests.__contains__)
        along = ReferrerCopier(self.companions, self.target, ways, self.tools.limits.max_graph)
        await along.bring(root, below)
        self.beside[root] = along.tags
        return along.found

    async def _whole(self, desc: Descriptor) -> Descriptor:
        raw, manifest = await self._read(desc)
        return replace(desc, media_type=manifest.media_type, size=len(raw), data=raw)

    async def _children(self, parent: Descriptor, manifest: Manifest, depth: int) -> Graph:
        check_index_depth(parent, depth, self.tools.limits.max_index_depth)
        found: dict[Digest, int] = {}

        async def bring(child: Descriptor) -> None:
            child = await detect_media_type(child, self._read) if manifest.is_index else child
            found.update(await self._node(child, depth + 1))
            if len(found) > self.tools.limits.max_graph:
                raise LimitExceeded(f"{parent.digest}: more than {self.tools.limits.max_graph} descriptors below it")

        await self._locate(manifest)
        children = select_entries(manifest.children, self.choice) if manifest.is_index else manifest.children
        wanted = {child.digest: child for child in children if self.include_external or not is_elsewhere(child)}
        await for_each(list(wanted.values()), bring, self.tools.limits.blobs)
        if manifest.is_index:
            await self._note_omissions(parent, [one for one in manifest.children if one.digest not in wanted])
        return found

    async def _note_omissions(self, index: Descriptor, left_out: Iterable[Descriptor]) -> None:
        """Let the target know, before its index becomes visible, which images are missing on purpose."""
        missing = [child.digest for child in left_out if not self._is_held(child)]
        if not isinstance(self.target, CollectedTarget):
            self._is_sparse |= bool(missing)
        elif missing or self._is_held(index):
            self.omitted |= {index.digest: missing} if missing else {}
            await self.target.record_missing_images(index.digest, missing)

    def explained(self, error: OcisyncError) -> OcisyncError:
        """An error with what to do about it, where a target got an index without all of its images."""
        refused = isinstance(error, RegistryError | NotFound) and not isinstance(error, AuthError | RateLimited)
        if not self._is_sparse or not refused:
            return error
        advice = "it refuses an index of which it lacks images: write `rewrite_index: true` for a new one"
        return type(error)(f"{error.message}; {advice}", code=error.code, handling=error.handling)

    async def _bring_manifest(self, desc: Descriptor, depth: int) -> Graph:
        self._manifests.add(desc.digest)
        if self.validates and not (self.is_empty or self.send_again) and await self.target.exists(desc):
            self.traffic.skipped += 1
            return {desc.digest: desc.size}
        raw, manifest = await self._read(desc)
        below = await self._children(desc, manifest, depth)
        if self._is_new(below) or not await self._is_there(desc):
            await self.target.push(desc.with_data(raw), BytesOpener(raw))
            self.placed.add(desc.digest)
            self.traffic.manifests += 1
            self.traffic.sent(len(raw))
        await self._reading.mark_delivered(desc.digest)
        return {**below, desc.digest: desc.size}

    async def _read(self, desc: Descriptor) -> tuple[bytes, Manifest]:
        """A manifest from wherever it is cheapest; its digest makes both the same."""
        raw = None
        if self._is_held(desc) and not self.send_again and isinstance(self.target, Fetcher):
            raw = await _read_own(self.target, desc)
        raw = raw if raw is not None else await self._reading.manifest(desc)
        try:
            return raw, parse_manifest(raw, desc.media_type)
        except ManifestError as exc:
            raise type(exc)(f"{desc.digest}: {exc.message}", code=exc.code) from exc

    async def _bring_from_source(self, desc: Descriptor, depth: int) -> Graph:
        del depth
        given = desc.data is not None
        opener = BytesOpener(desc.data or b"") if given else self._reading.opener(desc, self.target)
        return await self._bring_blob(desc, opener)

    async def _bring_blob(self, desc: Descriptor, opener: Opener) -> Graph:
        if await self._is_there(desc):
            self.traffic.skipped += 1
        else:
            async with self.tools.whereabouts.uploading(self.where.target, desc.digest):
                if not await self._mounted(desc):
                    await self._send(desc, opener)
            self.placed.add(desc.digest)
        self.tools.whereabouts.seen(self.where.target, desc.digest, self.where.repository)
        await self._reading.mark_delivered(desc.digest)
        return {desc.digest: desc.size}

    async def _is_there(self, desc: Descriptor) -> bool:
        if self.send_again:
            return False
        if self.held is not None:
            return self._is_held(desc)
        if self.is_empty:
            return False
        async with self._slots:
            return await self.target.exists(desc)

    def _is_new(self, below: Graph) -> bool:
        """Whether a manifest need not be asked for, because something below it was only brought by this job."""
        return self.held is None and not self.placed.isdisjoint(below)

    def _is_held(self, desc: Descriptor) -> bool:
        return self.held is not None and self.held.get(desc.digest) == desc.size

    async def _locate(self, manifest: Manifest) -> None:
        """Ask the ledger, once per manifest, where its blobs lie at this target."""
        if self._mounter is None or manifest.is_index:
            return
        unknown = [child.digest for child in manifest.children if not self._is_held(child)]
        await self.tools.whereabouts.look_up(self.tools.ledger, self.where.target, unknown)

    async def _mounted(self, desc: Descriptor) -> bool:
        home = self.tools.whereabouts.home(self.where.target, desc.digest)
        if home is None or home == self.where.repository or self._mounter is None:
            return False
        if self.send_again:  # another repository's may be as bad
            return False
        async with self._slots:
            done = await self._mounter.mount(desc, home)
        if done:
            self.traffic.mounted += 1
            log.debug("blob.mounted", digest=desc.digest, size=desc.size, origin=home)
        else:
            self.tools.whereabouts.forget(self.where.target, desc.digest)
        return done

    async def _send(self, desc: Descriptor, opener: Opener) -> None:
        self.tools.progress.blob_started(desc)
        push = functools.partial(self.target.push, desc, with_progress(opener, desc, self.tools.progress))
        try:
            async with self._slots:
                await push_with_reread(push, opener)
        finally:
            self.tools.progress.blob_finished(desc)
        self.traffic.blobs += 1
        self.traffic.sent(desc.size)
        log.debug("blob.copied", digest=desc.digest, size=desc.size)


async def _read_own(target: Fetcher, desc: Descriptor) -> bytes | None:
    """The target's copy of a manifest, or None when it is not what it should be."""
    try:
        return await read_manifest(target, desc)
    except (NotFound, ManifestError):
        return None


@dataclass(frozen=True, slots=True)
class TargetSink:
    """Takes finished layers to a copier's target; remembers which layer holds which diff ID."""

    copier: Copier
    variant: str  # layers are taken over only from equal conversions, so that digests do not depend on history

    async def lookup(self, diff_id: Digest) -> Descriptor | None:
        """A layer of the repository with this content, if it is still there."""
        where = self.copier.where
        desc = await self.copier.tools.ledger.layer(where.target, where.repository, diff_id, self.variant)
        if desc is None or not await self.copier.target.exists(desc):
            return None
        return desc

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store one finished layer."""
        await self.copier.blob(desc, opener)

    async def record(self, diff_id: Digest, desc: Descriptor) -> None:
        """Remember a layer that is at the target."""
        where = self.copier.where
        await self.copier.tools.ledger.record_layer(where.target, where.repository, diff_id, self.variant, desc)


async def convert(source: Converter, reference: str, copier: Copier) -> Descriptor:
    """Convert an image into the copier's target; its root is not published yet."""
    return await source.convert(reference, TargetSink(copier, source.variant))
