"""Digest keys: a manifest that another tool wrote under a tag only gets its key by digest, which clients ask for."""

from __future__ import annotations

from ocisync.content.concurrency import for_each
from ocisync.content.object_store import ObjectInfo
from ocisync.errors import ManifestError, NotFound
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import is_digest, sha256
from ocisync.model.image_name import is_tag
from ocisync.model.manifest import MAX_MANIFEST_SIZE, stored_media_type
from ocisync.stores.static import layout
from ocisync.stores.static.derived import may_hold
from ocisync.stores.static.registry_context import RegistryContext


async def repair_digest_keys(context: RegistryContext, name: str) -> list[str]:
    """See that every tag's manifest lies under its digest, with its own type; the keys that were written.

    A tag whose object has the ETag and size of a digest's is right; only others are read.
    """
    here = await context.list_below(f"{layout.repository_prefix(name)}{layout.MANIFESTS}/")
    known = {(info.etag, info.size) for reference, info in here.items() if is_digest(reference) and info.etag}
    doubtful = [tag for tag, info in here.items() if is_tag(tag) and (info.etag, info.size) not in known]
    written: list[str] = []

    async def repair(tag: str) -> None:
        written.extend(await _repair_tag(context, name, tag, here))

    await for_each(doubtful, repair, context.workers)
    return sorted(written)


async def _repair_tag(context: RegistryContext, name: str, tag: str, here: dict[str, ObjectInfo]) -> list[str]:
    try:
        desc, stored_type = await _read(context, layout.manifest_key(name, tag))
    except (NotFound, ManifestError):
        return []  # gone meanwhile, or nothing that could be published under a digest: verify tells
    written = []
    if not may_hold(here.get(desc.digest), desc.data or b""):
        written.append(layout.manifest_key(name, desc.digest))
        await context.write(written[-1], desc.data or b"", layout.content_headers(desc))
    if stored_type != desc.media_type:
        written.append(layout.manifest_key(name, tag))
        await context.write(written[-1], desc.data or b"", layout.tag_headers(desc))
    return written


async def _read(context: RegistryContext, key: str) -> tuple[Descriptor, str]:
    """A tag's manifest as its bytes say, and the type it is stored with.

    Raises:
        ManifestError: it is none.
    """
    async with context.store.open(key) as (info, stream):
        if info.size > MAX_MANIFEST_SIZE:
            raise ManifestError(f"{key} at {context.store}: {info.size} bytes cannot be a manifest")
        data = b"".join([chunk async for chunk in stream])
    return Descriptor(stored_media_type(data, info.content_type), sha256(data), len(data), data=data), info.content_type
