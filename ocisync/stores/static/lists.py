"""The lists that are derived from keys: `tags/list` of each repository, and `v2/_catalog` of them all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from ocisync.content.concurrency import aclosing_if_possible
from ocisync.content.object_store import ObjectInfo, ObjectStore
from ocisync.model.digest import HEX_LENGTHS
from ocisync.model.image_name import is_tag
from ocisync.stores.static import layout
from ocisync.stores.static.derived import DerivedObject, RetryPolicy
from ocisync.stores.static.layout import Key
from ocisync.stores.static.options import TagOrder
from ocisync.stores.static.registry_context import RegistryContext

_PAGE = 1000  # objects that S3 tells by one request: fewer that are not wanted cost less than another


async def list_tag_objects(store: ObjectStore, name: str) -> AsyncIterator[ObjectInfo]:
    """The objects of a repository's tags, in lexical order; many digests between them are jumped over."""
    prefix = f"{layout.repository_prefix(name)}{layout.MANIFESTS}/"
    start_after: str | None = ""
    while start_after is not None:
        following, start_after, digests = store.list(prefix, start_after=start_after), None, 0
        async with aclosing_if_possible(following):
            async for info in following:
                reference = info.key.removeprefix(prefix)
                if is_tag(reference):
                    yield info
                elif (algorithm := reference.partition(":")[0]) in HEX_LENGTHS:
                    digests += 1
                    if digests == _PAGE:
                        start_after = f"{prefix}{algorithm};"  # the character after the colon
                        break


async def list_tags(store: ObjectStore, name: str) -> list[str]:
    """Every tag, in lexical order."""
    return [info.key.rpartition("/")[2] async for info in list_tag_objects(store, name)]


async def list_tags_in_order(store: ObjectStore, name: str, order: TagOrder) -> list[str]:
    """Every tag in the order in which tags/list names them."""
    if order == "lexical":
        return await list_tags(store, name)
    found = [(-info.modified, info.key.rpartition("/")[2]) async for info in list_tag_objects(store, name)]
    return [tag for _, tag in sorted(found)]


async def converge(
    store: ObjectStore, name: str, retries: RetryPolicy, order: TagOrder = "lexical", known: Collection[str] = ()
) -> bool:
    """Make tags/list name the tags that are there; whether it had to be written.

    `known` are tags that are there. If the list lacks some of them and names no others, it is written before a listing
    shows whether there are more: after each write it is rendered again.

    Raises:
        StoreError: other writers kept changing it for all the retries.
    """
    is_listed = order != "lexical"

    async def render(current: bytes | None) -> bytes | None:
        nonlocal is_listed
        if not is_listed and (layout.tags_in(current) or set()) < set(known):
            is_listed = True
            return layout.tags_list_body(name, known)
        tags = await list_tags_in_order(store, name, order)
        return None if current is None and not tags else layout.tags_list_body(name, tags, as_given=True)

    return await DerivedObject(store, layout.tags_key(name), layout.JSON_HEADERS, "tags_list").converge(render, retries)


async def add_to_catalog(context: RegistryContext, name: str) -> bool:
    """See that the catalog names a repository that was just published; whether it had to be written.

    Where the provider honours conditions the name is added, which no other writer can undo unseen; elsewhere the whole
    catalog is derived.
    """
    if name in context.cataloged:
        return False
    async with context.catalog_lock:
        if name in context.cataloged:
            return False
        is_conditional = await context.is_conditional()

        async def render(current: bytes | None) -> bytes | None:
            names = layout.names_in(current)
            if names is not None and name in names:
                return current
            if names is None or not is_conditional:
                return await _render(context)
            return layout.catalog_body({*names, name})

        changed = await _catalog_object(context).converge(render, context.retries)
        context.cataloged.add(name)
        return changed


async def derive_catalog(context: RegistryContext) -> bool:
    """Make the catalog what the repositories say; whether it had to be written."""

    async def render(current: bytes | None) -> bytes | None:
        body = await _render(context)
        return None if current is None and body == layout.catalog_body(()) else body

    async with context.catalog_lock:
        context.cataloged.clear()
        return await _catalog_object(context).converge(render, context.retries)


async def read_catalog(context: RegistryContext) -> list[str] | None:
    """The names in the catalog; None when there is none, or a damaged one."""
    _, body, _ = await _catalog_object(context).read()
    names = layout.names_in(body)
    return None if names is None else sorted(names)


async def remove_catalog(context: RegistryContext) -> bool:
    """Remove the catalog: the registry is to have none."""
    if await context.store.head(layout.CATALOG_KEY) is None:
        return False
    await context.store.delete([layout.CATALOG_KEY])
    return True


async def _render(context: RegistryContext) -> bytes:
    return layout.catalog_body([name async for name in find_repositories(context.store)])


def _catalog_object(context: RegistryContext) -> DerivedObject:
    return DerivedObject(context.store, layout.CATALOG_KEY, layout.JSON_HEADERS, "catalog")


async def find_repositories(
    store: ObjectStore, kinds: Collection[str] = (layout.MANIFESTS,), within: str = ""
) -> AsyncIterator[str]:
    """Repositories that have a key of one of these kinds, each once; `within` one name and those that go on from it."""
    seen: set[str] = set()
    prefix = layout.repository_prefix(within) if within else layout.ROOT
    start_after: str | None = ""
    while start_after is not None:
        following, start_after = store.list(prefix, start_after=start_after), None
        folder, count = "", 0
        async with aclosing_if_possible(following):
            async for info in following:
                found = layout.parse_key(info.key)
                if found is None:
                    continue
                if folder != (here := _folder_of(found)):
                    folder, count = here, 0
                    if found.kind in kinds and found.name not in seen:
                        seen.add(found.name)
                        yield found.name
                count += 1
                if count > _PAGE:
                    start_after = f"{folder}0"  # the character after the slash
                    break


def _folder_of(key: Key) -> str:
    return f"{layout.ROOT}{key.name}/{key.kind}"
