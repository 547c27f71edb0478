"""`--cache DIR`: an OCI layout that keeps what was read of images for the next time, shared by all of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from functools import partial
from pathlib import Path

import structlog

from ocisync.content.files import READ, FileSection
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import Source
from ocisync.content.threads import run_file, run_steps
from ocisync.content.verify import Verifier, read_entry, read_manifest
from ocisync.errors import DiskError, VerificationError
from ocisync.images.views.cached import CachedView
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import hex_of
from ocisync.model.locator import (
    LayoutLocator,
    Locator,
    RegistryLocator,
    S3Locator,
    StaticLocator,
    TargetLocator,
    ViewLocator,
    strip_views,
)
from ocisync.model.manifest import may_be_manifest, parse_manifest
from ocisync.stores.archive.archive_files import FolderFiles
from ocisync.stores.archive.index_json import blob_path
from ocisync.stores.archive.oci_layout_target import LayoutTarget, open_layout_target
from ocisync.sync.copy import GraphCopier
from ocisync.sync.presence import Presence
from ocisync.sync.reports import Traffic
from ocisync.wiring.session import Session
from ocisync.wiring.views import apply_view

log = structlog.get_logger()


async def bring_to_cache(session: Session, place: Locator, cache: Path) -> Locator:
    """Bring an image to the cache, and say where in it it is; files need no cache and are read where they are.

    Of what the cache holds nothing is asked: a digest that is there whole needs no registry, a tag one request.

    Raises:
        OcisyncError: the image cannot be read.
    """
    inner = strip_views(place)
    if not isinstance(inner, RegistryLocator | S3Locator | StaticLocator):
        return place
    async with session.stores.source(inner) as origin:
        source = CachedView(origin, LayoutTarget(cache))
        top = await source.resolve(place.reference)
        await keep_index(source, top, cache)
        seen = apply_view(source, place) if isinstance(place, ViewLocator) else source
        root = await seen.resolve(top.digest)
        await remove_damaged(cache, await _list_content(seen, root))
        await fetch_image(session, seen, root, cache)
    return LayoutLocator(str(cache), root.digest)


async def fetch_image(session: Session, source: Source, image: Descriptor, layout: Path) -> Traffic:
    """Bring what a layout does not have of an image."""
    async with open_layout_target(layout, is_cache=True) as target:
        presence = Presence(target, TargetLocator(f"oci:{layout}", ""))
        copier = GraphCopier(source, presence, session.tools.limits, session.tools.progress)
        copied = await copier.copy(image)
        await target.publish({hex_of(image.digest): copied.root})
    return copier.result.traffic


async def keep_index(source: Source, top: Descriptor, cache: Path) -> None:
    """Keep the index that an image was chosen from, so that its digest needs no registry the next time."""
    layout = LayoutTarget(cache)
    if top.is_index and not await layout.exists(top):
        raw = await read_manifest(source, top)
        await layout.push(top.with_data(raw), BytesOpener(raw))


async def remove_damaged(cache: Path, blobs: Iterable[Descriptor]) -> None:
    """Remove what went bad in the cache, so that it is fetched anew."""
    files, layout = FolderFiles(cache), LayoutTarget(cache)
    for desc in blobs:
        if not await layout.exists(desc):
            continue
        try:
            async with files.open(blob_path(desc.digest)) as region:
                if region is not None:
                    await run_steps(_verify(region, desc))
        except VerificationError as exc:
            log.warning("cache.blob_removed", digest=desc.digest, error=exc.message)
            await run_file(partial(_remove, cache / blob_path(desc.digest)))


async def _list_content(source: Source, root: Descriptor) -> list[Descriptor]:
    """An image, or an index and its images, with all blobs."""
    found = {root.digest: root}
    pending = [root]
    while pending:
        manifest = parse_manifest(await read_manifest(source, pending.pop()))
        for child in manifest.children:
            if child.digest in found:
                continue
            entry = (await read_entry(source, child))[0] if manifest.is_index and may_be_manifest(child) else child
            found[child.digest] = entry
            if entry.is_manifest:
                pending.append(entry)
    return list(found.values())


def _verify(region: FileSection, desc: Descriptor) -> Generator[None, None, None]:
    check = Verifier(desc.digest, desc.size)
    for number, offset in enumerate(range(0, region.size, READ), 1):
        check.update(region.read_at(offset, min(READ, region.size - offset)))
        if number % 64 == 0:
            yield
    check.finish()


def _remove(blob: Path) -> None:
    try:
        blob.unlink()
    except OSError as exc:
        raise DiskError(f"{blob}: damaged, and cannot be removed: {exc.strerror}", errno=exc.errno) from exc
