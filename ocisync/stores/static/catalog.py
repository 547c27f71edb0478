"""v2/_catalog, derived: the repositories that have a manifest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from ocisync.content.concurrency import aclosing_if_possible
from ocisync.content.object_store import ObjectStore
from ocisync.stores.static import layout
from ocisync.stores.static.derived import DerivedObject
from ocisync.stores.static.layout import Key
from ocisync.stores.static.registry_context import RegistryContext


async def catalog_name(shelf: RegistryContext, name: str) -> bool:
    """See that the catalog names a repository that was just published; whether it had to be written.

    Where the provider honours conditions the name is added, which no other writer can undo unseen; elsewhere the whole
    catalog is derived.
    """
    if name in shelf.cataloged:
        return False
    async with shelf.catalog_lock:
        if name in shelf.cataloged:
            return False
        is_conditional = await shelf.is_conditional()

        async def render(current: bytes | None) -> bytes | None:
            names = layout.names_in(current)
            if names is not None and name in names:
                return current
            if names is None or not is_conditional:
                return await _rendered(shelf)
            return layout.catalog_body({*names, name})

        changed = await _derived(shelf).converge(render, shelf.rounds)
        shelf.cataloged.add(name)
        return changed


async def derive_catalog(shelf: RegistryContext) -> bool:
    """Make the catalog what the repositories say; whether it had to be written."""

    async def render(current: bytes | None) -> bytes | None:
        body = await _rendered(shelf)
        return None if current is None and body == layout.catalog_body(()) else body

    async with shelf.catalog_lock:
        shelf.cataloged.clear()
        return await _derived(shelf).converge(render, shelf.rounds)


async def read_catalog(shelf: RegistryContext) -> list[str] | None:
    """The names in the catalog; None when there is none, or a damaged one."""
    _, body, _ = await _derived(shelf).read()
    names = layout.names_in(body)
    return None if names is None else sorted(names)


async def remove_catalog(shelf: RegistryContext) -> bool:
    """Remove the catalog: the registry is to have none."""
    if await shelf.store.head(layout.CATALOG_KEY) is None:
        return False
    await shelf.store.delete([layout.CATALOG_KEY])
    return True


async def _rendered(shelf: RegistryContext) -> bytes:
    return layout.catalog_body([name async for name in repository_names(shelf.store)])


def _derived(shelf: RegistryContext) -> DerivedObject:
    return DerivedObject(shelf.store, layout.CATALOG_KEY, layout.JSON_HEADERS, "catalog")


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
        async with aclosing_if_possible(following):
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
