"""Which images of an index were left out on purpose, kept beside it so that a verification knows."""

from __future__ import annotations

from collections.abc import Sequence

from ocisync.errors import NotFound
from ocisync.model.digest import Digest
from ocisync.model.missing_images import format_missing_images
from ocisync.stores.static import layout
from ocisync.stores.static.registry_context import RegistryContext

_MAX_SIZE = 16 * 1024 * 1024  # bytes; what is larger was not written by us


async def write_omissions(context: RegistryContext, name: str, index: Digest, omitted: Sequence[Digest]) -> None:
    """Write what is missing in place of what was known before; what is right is left alone."""
    key = layout.omitted_key(name, index)
    before, body = await _read(context, key), format_missing_images(omitted)
    if not omitted and before is not None:
        await context.store.delete([key])
    elif omitted and before != body:
        await context.write(key, body, layout.JSON_HEADERS)


async def _read(context: RegistryContext, key: str) -> bytes | None:
    try:
        async with context.store.open(key) as (info, stream):
            return b"".join([chunk async for chunk in stream]) if info.size <= _MAX_SIZE else b""
    except NotFound:
        return None
