"""Which repositories a registry holds, found from its keys without reading all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from ocisync.content.protocols import ObjectStore
from ocisync.stores.static import layout
from ocisync.stores.static.layout import Key
from ocisync.stores.static.listing import closed_after

_PATIENCE = 1000  # keys of one kind that are read before the rest is jumped over: a page of S3


async def repository_names(
    store: ObjectStore, kinds: Collection[str] = (layout.MANIFESTS,), within: str = ""
) -> AsyncIterator[str]:
    """Repositories that have a key of one of these kinds, each once; `within` one name and those that go on from it."""
    seen: set[str] = set()
    prefix = layout.repository_prefix(within) if within else layout.ROOT
    start_after: str | None = ""
    while start_after is not None:
        following, start_after = store.list(prefix, start_after=start_after), None
        place, count = "", 0
        async with closed_after(following):
            async for info in following:
                found = layout.parse_key(info.key)
                if found is None:
                    continue
                if place != (here := _place(found)):
                    place, count = here, 0
                    if found.kind in kinds and found.name not in seen:
                        seen.add(found.name)
                        yield found.name
                count += 1
                if count > _PATIENCE:
                    start_after = f"{place}0"  # the character after the slash
                    break


def _place(key: Key) -> str:
    return f"{layout.ROOT}{key.name}/{key.kind}"
