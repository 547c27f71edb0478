"""Create a bundle: find out what the mirror would hold, compare it with the base, write what is new into volumes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import structlog
from anyio import CancelScope

from ocisync.bundles.bundle_draft import BundleDraft, draft_bundle, seal_inventory
from ocisync.bundles.bundle_files import Signer
from ocisync.bundles.inventory import INVENTORY, SIGNATURE, Base, BundleInventory, Volume
from ocisync.bundles.inventory_json import render_inventory
from ocisync.bundles.recording import Recording, record_jobs
from ocisync.bundles.volume_layout import END, VolumeContent, blob_entries, footprint, plan_volumes
from ocisync.bundles.volume_writer import BlobReader, UnreadableBlob, VolumeFile, VolumeWriter, open_volume
from ocisync.bundles.work_folder import FinishedVolume, WorkFolder, open_work_folder
from ocisync.content.threads import open_spool, return_memory, run_file
from ocisync.errors import BundleError, OcisyncError
from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.digest import Digest, sha256
from ocisync.model.media_types import OCI_INDEX
from ocisync.stores.archive.index_json import INDEX_FILE, LAYOUT_FILE
from ocisync.stores.archive.render import LAYOUT, make_named_entry, make_referring_entry, render_index
from ocisync.sync.context import JobContext
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport

log = structlog.get_logger()

_UNREADABLE = 100  # blobs that are left out, with their images, before a bundle is given up
_NO_SUM = "0" * 64


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """What bundle is wanted."""

    output: Path
    name: str
    capacity: int = 0  # bytes of a volume; 0: one volume, as large as need be
    base: BundleInventory | None = None
    base_digest: Digest | None = None
    signer: Signer | None = None
    least: int = 1  # the number that it has at least

    @property
    def base_name(self) -> Base | None:
        """The base as an inventory names it."""
        return Base(self.base.id, self.base_digest) if self.base and self.base_digest else None


@dataclass(slots=True)
class Created:
    """What became of it."""

    inventory: BundleInventory | None = None  # None: nothing has changed, so nothing was written
    fresh: int = 0  # blobs that it brings
    bytes: int = 0
    is_resumed: bool = False
    reports: list[JobReport] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all that the rules want is in it."""
        return all(report.ok for report in self.reports)


async def create_bundle(jobs: Sequence[Job], context: JobContext, request: BundleRequest) -> Created:
    """Write the bundle of what jobs would mirror. What a killed run finished is taken over.

    An image whose blobs cannot be read is left out, as it would be at a mirror, and is told in the reports.

    Raises:
        BundleError: another process is at work, or nothing at all could be read.
        DiskError: the volumes cannot be written.
    """
    least = max(request.least, request.base.sequence + 1 if request.base else 1)
    work = await run_file(partial(open_work_folder, request.output, request.name, least))
    try:
        if await run_file(lambda: work.is_sealed):
            inventory = await run_file(work.read_sealed)
            await run_file(partial(work.bring_out, inventory))
            log.info("bundle.finished", bundle=inventory.id)
            return _describe_created(Created(inventory, is_resumed=True))
        created = Created(is_resumed=await run_file(partial(work.load, request.base_name, request.capacity)))
        if not created.is_resumed:
            await run_file(work.clear)
            await run_file(partial(work.begin, request.base_name, request.capacity))
        created.is_resumed = bool(work.volumes)
        broken: dict[Digest, OcisyncError] = {}
        while True:
            try:
                return await _write_bundle(jobs, context, request, work, created, broken)
            except UnreadableBlob as exc:
                log.warning("bundle.blob_unreadable", digest=exc.digest, code=exc.code, error=exc.message)
                broken[exc.digest] = exc.cause
                if len(broken) > _UNREADABLE:
                    raise
                if any(piece.digest == exc.digest for volume in work.volumes for piece in volume.content.pieces()):
                    await run_file(work.clear)
                    await run_file(partial(work.begin, request.base_name, request.capacity))
    finally:
        with CancelScope(shield=True):
            await run_file(work.close)


async def _write_bundle(
    jobs: Sequence[Job],
    context: JobContext,
    request: BundleRequest,
    work: WorkFolder,
    created: Created,
    broken: Mapping[Digest, OcisyncError],
) -> Created:
    async with open_spool(work.path) as spool:
        recording = Recording(spool, broken=broken, base_tags=_list_tags(request.base))
        await record_jobs(jobs, context, recording)
        created.reports = [one.report for one in recording.repositories if one.report is not None]
        draft = draft_bundle(recording, request.base, request.name, work.sequence)
        await run_file(return_memory)
        if not draft.images and not created.ok:
            raise BundleError("no image that the rules select could be read, so no bundle was written")
        if not draft.changes(request.base):
            await run_file(work.clear)
            return created
        last = await run_file(work.newest_bundle)
        if last is not None and draft.is_said_by(last, request.base_name):  # a process that was killed had written it
            await run_file(work.clear)
            created.inventory, created.is_resumed = last, True
            return _describe_created(created)
        async with _open_writer(recording, jobs, context) as writer:
            plan = await _plan_rest(draft, work, request, writer)
            if plan is None:  # what was finished belongs to another state of the sources
                await run_file(work.clear)
                await run_file(partial(work.begin, request.base_name, request.capacity))
                plan = plan_volumes(recording.blobs, draft.fresh.numbers, request.capacity)
            sealed = await _write_volumes(plan, draft, recording, request, work, writer)
        created.inventory = await run_file(partial(work.bring_out, sealed))
        return _describe_created(created)


def _list_tags(base: BundleInventory | None) -> Mapping[str, Sequence[str]]:
    """The base's tags, by repository."""
    found: dict[str, list[str]] = {}
    for image in base.images if base else ():
        found.setdefault(image.name, []).append(image.tag)
    return found


@asynccontextmanager
async def _open_writer(recording: Recording, jobs: Sequence[Job], context: JobContext) -> AsyncIterator[VolumeWriter]:
    async with AsyncExitStack() as stack:
        writer = VolumeWriter(BlobReader(recording, jobs, context, stack), context.progress)
        try:
            yield writer
        finally:
            with CancelScope(shield=True):
                await writer.close()


async def _plan_rest(
    draft: BundleDraft, work: WorkFolder, request: BundleRequest, writer: VolumeWriter
) -> list[VolumeContent] | None:
    """The volumes that follow the finished ones; None where these cannot be gone on with."""
    blobs, capacity = draft.fresh.blobs, request.capacity
    written = bytearray(len(blobs.sizes))  # by number; 1: lies in a finished volume
    for volume in work.volumes:
        for piece in volume.content.pieces():
            if (number := blobs.digests.find(piece.digest)) is not None:
                written[number] = 1
    rest = [number for number in draft.fresh.numbers if not written[number]]
    pending = work.volumes[-1].content.part if work.volumes else None
    if pending is None or pending.is_last:
        return plan_volumes(blobs, rest, capacity)
    if not draft.is_fresh(pending.digest):
        return None
    parts = [
        (volume.content.part, work.volume_path(number))
        for number, volume in enumerate(work.volumes, 1)
        if volume.content.part is not None and volume.content.part.digest == pending.digest
    ]
    await writer.resume(parts, work.lock)
    return plan_volumes(blobs, rest, capacity, pending)


async def _write_volumes(
    plan: Sequence[VolumeContent],
    draft: BundleDraft,
    recording: Recording,
    request: BundleRequest,
    work: WorkFolder,
    writer: VolumeWriter,
) -> BundleInventory:
    """Write what is not finished yet, and seal the bundle.

    The inventory goes into the last volume where it fits, else into one more.
    """
    contents = [*(volume.content for volume in work.volumes), *plan]
    index = _render_index(draft, recording)
    last = plan[-1] if plan else None
    rough = _make_rough(draft, contents, index, recording, request, work)
    if last is not None and request.capacity and not _has_room(rough, last, request):
        last = None
    for content in contents[len(work.volumes) : len(contents) - (last is not None)]:
        async with open_volume(work.volume_path(len(work.volumes) + 1), work.lock) as file:
            await writer.write(file, content)
            await run_file(file.finish)
            finished = FinishedVolume(file.size, file.sha256, content)
        await run_file(partial(work.add_volume, finished))
    async with open_volume(work.volume_path(len(work.volumes) + 1), work.lock) as file:
        if last is not None:
            await writer.write(file, last)
        return await _seal(file, rough, index, request, work)


def _make_rough(
    draft: BundleDraft,
    contents: Sequence[VolumeContent],
    index: bytes,
    recording: Recording,
    request: BundleRequest,
    work: WorkFolder,
) -> BundleInventory:
    """The inventory without the sums of the volumes."""
    volumes = tuple(Volume(request.capacity, _NO_SUM) for _ in contents)
    own = BundleInventory(
        request.name, work.sequence, base=request.base_name, volumes=volumes, index=describe(index, OCI_INDEX)
    )
    return seal_inventory(draft, blob_entries(contents, recording.media_type), own)


def _has_room(rough: BundleInventory, last: VolumeContent, request: BundleRequest) -> bool:
    """Whether the layout's files and the inventory fit behind the last volume's blobs."""
    index_size = rough.index.size if rough.index else 0
    tail = footprint(rough.id + INVENTORY, len(render_inventory(rough))) + footprint(INDEX_FILE, index_size)
    used = sum(footprint(piece.name, piece.length) for piece in last.pieces())
    return used + tail + footprint(LAYOUT_FILE, len(LAYOUT)) + len(END) <= request.capacity


async def _seal(
    file: VolumeFile, rough: BundleInventory, index: bytes, request: BundleRequest, work: WorkFolder
) -> BundleInventory:
    """End the last volume with the layout's files and the inventory, and sign that."""
    await run_file(partial(file.write_member, LAYOUT_FILE, LAYOUT))
    await run_file(partial(file.write_member, INDEX_FILE, index))
    volumes = (*(Volume(one.size, one.sha256) for one in work.volumes), Volume(file.size, file.sha256))
    inventory = replace(rough, volumes=volumes)
    raw = render_inventory(inventory)
    await run_file(partial(file.write_member, inventory.id + INVENTORY, raw))
    await run_file(file.finish)
    signature = request.signer(raw) if request.signer else b""
    sums = dict(zip(inventory.file_names, (*(one.sha256 for one in work.volumes), file.sha256), strict=True))
    sums[inventory.id + INVENTORY] = sha256(raw).removeprefix("sha256:")
    if signature:
        sums[inventory.id + SIGNATURE] = sha256(signature).removeprefix("sha256:")
    await run_file(partial(work.seal, raw, signature, sums))
    return inventory


def _render_index(draft: BundleDraft, recording: Recording) -> bytes:
    """index.json: the images whose manifests lie in this bundle, and what refers to images."""
    named: list[Descriptor] = []
    referring: dict[Digest, Descriptor] = {}
    for image in draft.images:
        if draft.is_fresh(image.digest):
            named.append(make_named_entry(str(image), _as_entry(recording, image.digest)))
        referring |= {digest: _as_entry(recording, digest) for digest in image.referrers if draft.is_fresh(digest)}
    known = {desc.digest for desc in named}
    more = [make_referring_entry(desc) for digest, desc in sorted(referring.items()) if digest not in known]
    return render_index([*named, *more])


def _as_entry(recording: Recording, digest: Digest) -> Descriptor:
    return Descriptor(recording.media_type(digest), digest, recording.blobs.size(digest) or 0)


def _describe_created(created: Created) -> Created:
    if created.inventory is not None:
        created.fresh, created.bytes = created.inventory.blobs.count_carried()
    return created
