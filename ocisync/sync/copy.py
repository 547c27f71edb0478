"""Copy a graph: children before parents, each digest once per job, many blobs at a time.

A `GraphCopier` serves one target repository during one job. What it copies becomes visible only when it is published.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any

import anyio
import structlog

from ocisync.content.capabilities import CollectedTarget
from ocisync.content.concurrency import ByteBudget, SingleFlight, for_each
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import Fetcher, Opener, Target
from ocisync.content.verify import read_entry, read_manifest
from ocisync.errors import (
    DiskError,
    LeftOut,
    ManifestError,
    NotFound,
    OcisyncError,
    RegistryError,
    UnsupportedManifest,
    VerificationError,
)
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, sha256
from ocisync.model.manifest import Manifest, check_index_depth, may_be_manifest, parse_manifest
from ocisync.model.platform_filter import EVERYTHING, PlatformChoice, narrow_index, select_entries
from ocisync.sync.context import Limits, Progress
from ocisync.sync.copied_graph import CopiedGraph, CopyResult, Graph, Subgraph, check_sizes
from ocisync.sync.ledger import ALGORITHM, SAME_AS
from ocisync.sync.presence import Presence
from ocisync.sync.source_reader import SharedReader, count_progress, discard, is_spool_failure

log = structlog.get_logger()

_MANIFESTS = 8 * 1024 * 1024  # bytes of manifests that are held at a time while their blobs are copied
_SETTLE = 1.0  # seconds until a registry may know what it was sent
_PART_MISSING = re.compile("BLOB_UNKNOWN|MANIFEST_UNKNOWN")  # how registries say that they lack what a manifest names


@dataclass
class GraphCopier:
    """Brings graphs from one source to one target repository.

    `copy` walks down from a root: manifests are read, their children copied, and then they are pushed themselves, so
    that the target never holds a manifest without what it names. Images of one job share layers, bases and whole
    manifests; `_flights` makes each digest one piece of work however many graphs it is in, and everybody who needs it
    waits for the same one. (Each digest with its size: a manifest that gives a wrong size must fail, and no other.)

    Nobody holds a slot of `presence.slots` while waiting for children: nested indexes would wait for each other for
    ever.
    """

    source: Fetcher
    presence: Presence
    limits: Limits = field(default_factory=Limits)
    progress: Progress = field(default_factory=Progress)
    choice: PlatformChoice = EVERYTHING  # which images of an index are brought
    include_external: bool = False  # foreign layers too
    shared: SharedReader | None = None  # where blobs wait that are wanted more than once; None: none is
    result: CopyResult = field(default_factory=CopyResult)
    _manifests: ByteBudget = field(default_factory=lambda: ByteBudget(_MANIFESTS))  # images below indexes
    _flights: SingleFlight[tuple[Digest, int], Graph] = field(default_factory=SingleFlight)

    @property
    def target(self) -> Target:
        """Where to."""
        return self.presence.target

    async def copy(self, root: Descriptor) -> CopiedGraph:
        """Bring everything below a root, which comes back with its bytes.

        The root is not pushed here: a tag's manifest becomes visible with the tag. Only where everything is to be sent
        again it is, because its digest may hold something else.
        """
        if not root.is_manifest and self.target.tags_any_content:
            root = await self._detect(root)
            if not root.is_manifest:
                return CopiedGraph(root, await self.copy_node(root, depth=1))
        raw, manifest = await self.read(root)
        below: Graph = {}
        if not self.presence.holds_source:
            below = await self._copy_children(root, manifest, depth=1)
        if root.digest in self.result.left_out and not self._takes_sparse_indexes():
            root = await self._without_missing(root, raw, manifest)
            raw, manifest = await self.read(root)
        digest = root.digest if self.target.tags_any_content else await self._find_sha256(root, raw)
        whole = replace(root, media_type=manifest.media_type, digest=digest, size=len(raw), data=raw)
        if self.presence.send_again:
            await self.target.push(whole, BytesOpener(raw))
        return CopiedGraph(whole, {**below, whole.digest: len(raw)})

    async def _find_sha256(self, root: Descriptor, raw: bytes) -> Digest:
        """The digest that the target's tag will answer with, and that must be pullable there: by sha256.

        A source may name a root by sha512. The ledger keeps which sha256 that is, so that the next pass recognises it.
        """
        if root.digest.startswith(ALGORITHM):
            return root.digest
        digest = sha256(raw)
        await self.presence.ledger.put_facts(SAME_AS, {root.digest: digest})
        return digest

    async def copy_node(self, desc: Descriptor, depth: int) -> Graph:
        """Bring a manifest or blob, and all below it, under its digest."""
        graph = Subgraph(desc, False, depth, self.limits.max_graph)
        await self._copy_child(desc, graph)
        return graph.digests

    def forget(self, missing: Iterable[Digest]) -> None:
        """Look again at everything, because something turned out to be missing at the target."""
        self.presence.forget(missing)
        self._flights = SingleFlight()

    async def distrust(self, error: OcisyncError, graph: Graph) -> bool:
        """Whether a target's refusal of a manifest may be cured by sending what it only said that it had.

        A registry may say that a blob is there and refuse the manifest that names it: its cache is older than its last
        garbage collection, or the blob is another repository's. Then all of the graph that this job has not brought is
        sent, without asking again. If it brought all, the registry's other machines get a moment to know it, once.
        """
        if not _PART_MISSING.search(error.message):
            return False
        believed = graph.keys() - self.result.sent
        if not believed:
            is_first = not graph.keys() <= self.presence.doubted
            self.presence.doubted |= graph.keys()
            await anyio.sleep(_SETTLE)
            return is_first
        log.warning("blob.sent_again", target=str(self.presence.where), error=error.message)
        self.presence.doubted |= believed
        for digest in believed:
            self._flights.forget((digest, graph[digest]))
        return True

    async def _copy_children(self, parent: Descriptor, manifest: Manifest, depth: int) -> Graph:
        """Bring what a manifest names, as far as it is wanted; many at a time."""
        children: Sequence[Descriptor] = manifest.children
        if manifest.is_index:
            check_index_depth(parent, depth, self.limits.max_index_depth)
            children = children if self.choice is EVERYTHING else select_entries(children, self.choice)
        else:
            await self.presence.load_homes(children)
            children = sorted(children, key=attrgetter("size"), reverse=True)  # a large one that begins last ends alone
        check_sizes(parent, children)
        wanted = {child.digest: child for child in children if self.include_external or not child.is_elsewhere}
        below = Subgraph(parent, manifest.is_index, depth + 1, self.limits.max_graph)
        copy = self._copy_entry if manifest.is_index else self._copy_child
        await for_each(list(wanted.values()), partial(copy, into=below), self.limits.blobs)
        if below.left_out:
            self._note_left_out(parent, wanted, below)
        if manifest.is_index:
            missing = [c for c in manifest.children if c.digest not in wanted or c.digest in below.left_out]
            await self._record_missing(parent, missing)
        return below.digests

    async def _copy_entry(self, desc: Descriptor, into: Subgraph) -> None:
        """Bring one entry of an index. An archive may name images that were not saved with it: they are left out."""
        try:
            await self._copy_child(desc, into)
        except LeftOut as exc:
            into.left_out[desc.digest] = exc

    def _note_left_out(self, index: Descriptor, wanted: Mapping[Digest, Descriptor], below: Subgraph) -> None:
        """Note which images the source lacks.

        Raises:
            LeftOut: all of them, so that nothing would be left to run.
        """
        images = [digest for digest, child in wanted.items() if not child.is_attestation]
        if all(digest in below.left_out for digest in images):
            raise next(iter(below.left_out.values()))
        self.result.left_out[index.digest] = below.left_out

    def _takes_sparse_indexes(self) -> bool:
        """Whether the target takes an index without all of its images, so that its digest can be kept."""
        return isinstance(self.target, CollectedTarget) or self.target.tags_any_content

    async def _without_missing(self, index: Descriptor, raw: bytes, manifest: Manifest) -> Descriptor:
        """The index without what the source lacks, for a target that would refuse it: its only image, or a new one."""
        missing = self.result.left_out[index.digest]
        kept = {child.digest: child for child in manifest.children if child.digest not in missing}
        if len(kept) == 1:
            return next(iter(kept.values()))
        return narrow_index(raw, manifest.media_type, kept)

    def _copy_child(self, desc: Descriptor, into: Subgraph) -> Coroutine[Any, Any, None]:
        """Bring one child. A plain function: the coroutine of the fitting kind is awaited by the caller."""
        if desc.is_manifest:
            return self._copy_manifest(desc, into)
        if into.is_index and may_be_manifest(desc):
            return self._copy_unknown(desc, into)
        return self.copy_blob(desc, into=into)

    async def _copy_unknown(self, desc: Descriptor, into: Subgraph) -> None:
        """An index may list anything: an entry of an unknown type is a manifest if it can be read as one."""
        desc = await self._detect(desc)
        await (self._copy_manifest(desc, into) if desc.is_manifest else self.copy_blob(desc, into=into))

    async def _copy_manifest(self, desc: Descriptor, into: Subgraph) -> None:
        """Bring what is below a manifest, then the manifest itself."""
        async with self._flights.turn((desc.digest, desc.size)) as turn:
            if not turn.is_done:
                self.result.manifests.add(desc.digest)
                if await self.presence.has_whole(desc):
                    self.result.traffic.skipped += 1
                    below: Graph = {}
                else:
                    # An index holds no part while its images wait for one: else nested indexes would wait for ever.
                    async with self._manifests.hold(0 if desc.is_index else desc.size):
                        below = await self._copy_read_manifest(desc, into)
                turn.result = {**below, desc.digest: desc.size}
            into.add(turn.result)

    async def _copy_read_manifest(self, desc: Descriptor, into: Subgraph) -> Graph:
        """Read a manifest, bring what it names, and push it; what is below it."""
        raw, manifest = await self._read_entry(desc, into)
        below = await self._copy_children(desc, manifest, into.depth)
        if self._is_new(below) or not await self.presence.has(desc):
            try:
                await self.target.push(desc.with_data(raw), BytesOpener(raw))
            except (RegistryError, NotFound) as exc:
                if not await self.distrust(exc, below):
                    raise
                await self._copy_children(desc, manifest, into.depth)
                await self.target.push(desc.with_data(raw), BytesOpener(raw))
            self.result.sent.add(desc.digest)
            self.result.traffic.manifests += 1
            self.result.traffic.count_sent(len(raw))
        if self.shared is not None:
            await self.shared.mark_delivered(desc.digest)
        return below

    async def copy_blob(self, desc: Descriptor, opener: Opener | None = None, into: Subgraph | None = None) -> None:
        """Bring a blob: not at all where it is there, by a mount where another repository has it, else its bytes.

        `opener` gives the bytes where the source does not (a converted layer).
        """
        async with self._flights.turn((desc.digest, desc.size)) as turn:
            if not turn.is_done:
                if await self.presence.has(desc):
                    self.result.traffic.skipped += 1
                else:
                    await self._mount_or_send(desc, opener or self._open(desc))
                    self.result.sent.add(desc.digest)
                self.presence.record(desc)
                if self.shared is not None:
                    await self.shared.mark_delivered(desc.digest)
                turn.result = {desc.digest: desc.size}
            if into is not None:
                into.add(turn.result)

    async def _mount_or_send(self, desc: Descriptor, opener: Opener) -> None:
        """Bring a blob from another repository of the target, or its bytes.

        Only bytes are waited for while another job sends them: mounts of one blob need not wait for each other.
        """
        home = self.presence.find_home(desc)
        if await self._mount(desc, home):
            return
        async with self.presence.blob_info.lock_upload(self.presence.where.target, desc.digest):
            brought = self.presence.find_home(desc)  # by whoever sent it meanwhile
            if brought == home or not await self._mount(desc, brought):
                await self._send(desc, opener)

    async def _mount(self, desc: Descriptor, home: str | None) -> bool:
        """Whether the blob came from another repository of the target. No bytes pass here, so it takes no slot."""
        if home is None or self.presence.mounter is None:
            return False
        is_mounted = await self.presence.mounter.mount(desc, home)
        if is_mounted:
            self.result.traffic.mounted += 1
            log.debug("blob.mounted", digest=desc.digest, size=desc.size, origin=home)
        else:
            self.presence.forget_home(desc)
        return is_mounted

    async def _send(self, desc: Descriptor, opener: Opener) -> None:
        """Push a blob. Bytes may be damaged on their way: what does not verify is read once more before it is given up.

        The second reading may not take what the first one kept: the spool drops it. A spool that cannot be written is
        no reason to fail either, because the source is read past it the second time.
        """
        counted = count_progress(opener, desc, self.progress) if self.progress.is_shown else opener
        self.progress.blob_started(desc)
        try:
            for is_last in (False, True):
                try:
                    async with self.presence.slots:
                        await self.target.push(desc, counted)
                    break
                except (VerificationError, DiskError) as exc:
                    await discard(opener)
                    if is_last or (isinstance(exc, DiskError) and not is_spool_failure(exc)):
                        raise
                    log.warning("blob.damaged", code=exc.code, error=exc.message)
        finally:
            self.progress.blob_finished(desc)
        self.result.traffic.blobs += 1
        self.result.traffic.count_sent(desc.size)
        log.debug("blob.copied", digest=desc.digest, size=desc.size)

    def _open(self, desc: Descriptor) -> Opener:
        """Opens a blob of the source, through the spool where more than one wants it."""
        if desc.data is not None:
            return BytesOpener(desc.data)
        return partial(self.source.open, desc) if self.shared is None else self.shared.opener(desc)

    async def read(self, desc: Descriptor) -> tuple[bytes, Manifest]:
        """A manifest from wherever it is cheapest: its digest makes the target's copy as good as the source's."""
        raw = None
        if self.presence.is_listed(desc) and not self.presence.send_again and isinstance(self.target, Fetcher):
            raw = await _read_own(self.target, desc)
        if raw is None:
            raw = await (read_manifest(self.source, desc) if self.shared is None else self.shared.read_manifest(desc))
        try:
            return raw, parse_manifest(raw, desc.media_type)
        except ManifestError as exc:
            raise exc.at(desc.digest) from exc

    async def _read_entry(self, desc: Descriptor, into: Subgraph) -> tuple[bytes, Manifest]:
        try:
            return await self.read(desc)
        except NotFound as exc:
            if not into.is_index or isinstance(exc, LeftOut):
                raise
            advice = f"the source's index {into.parent.digest} names it: `platforms` selects the images that are there"
            raise type(exc)(f"{exc.message}; {advice}", code=exc.code, handling=exc.handling, **exc.facts) from exc

    async def _detect(self, entry: Descriptor) -> Descriptor:
        """Content with its real type: one of an unknown type is a manifest if it can be read as one, else a blob.

        Raises:
            UnsupportedManifest: docker's schema 1.
        """
        if not may_be_manifest(entry):
            return entry
        try:
            _, manifest = await self.read(entry)
        except NotFound:
            return (await read_entry(self.source, entry))[0]  # stored as a manifest
        except UnsupportedManifest:
            if entry.media_type in media_types.SCHEMA_1_TYPES:
                raise
            return entry
        except ManifestError:
            return entry
        return replace(entry, media_type=manifest.media_type)

    def _is_new(self, below: Graph) -> bool:
        """Whether a manifest need not be asked for, because something below it was only brought by this job."""
        return self.presence.listed is None and not self.result.sent.isdisjoint(below)

    async def _record_missing(self, index: Descriptor, left_out: Iterable[Descriptor]) -> None:
        """Let the target know, before its index becomes visible, which images are missing on purpose."""
        missing = [child.digest for child in left_out if not self.presence.is_listed(child)]
        if not isinstance(self.target, CollectedTarget):
            self.result.is_sparse |= bool(missing)
        elif missing or self.presence.is_listed(index):
            self.result.missing_images |= {index.digest: missing} if missing else {}
            await self.target.record_missing_images(index.digest, missing)


async def _read_own(target: Fetcher, desc: Descriptor) -> bytes | None:
    """The target's copy of a manifest, or None when it is not what it should be."""
    try:
        return await read_manifest(target, desc)
    except OcisyncError as exc:  # a read that only saves a pull of the source
        log.debug("manifest.not_read", digest=desc.digest, error=exc.message)
        return None
