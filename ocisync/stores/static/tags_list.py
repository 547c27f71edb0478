"""tags/list, derived from the tags themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from ocisync.content.concurrency import aclosing_if_possible
from ocisync.content.object_store import ObjectInfo, ObjectStore
from ocisync.model.digest import HEX_LENGTHS
from ocisync.model.image_name import is_tag
from ocisync.stores.static import layout
from ocisync.stores.static.derived import DerivedObject, RetryPolicy
from ocisync.stores.static.options import TagOrder

_PAGE = 1000  # objects that S3 tells by one request: fewer digests cost less than another


async def tag_objects(store: ObjectStore, name: str) -> AsyncIterator[ObjectInfo]:
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
    return [info.key.rpartition("/")[2] async for info in tag_objects(store, name)]


async def ordered_tags(store: ObjectStore, name: str, order: TagOrder) -> list[str]:
    """Every tag in the order in which tags/list names them."""
    if order == "lexical":
        return await list_tags(store, name)
    found = [(-info.modified, info.key.rpartition("/")[2]) async for info in tag_objects(store, name)]
    return [tag for _, tag in sorted(found)]


async def converge(
    store: ObjectStore, name: str, rounds: RetryPolicy, order: TagOrder = "lexical", known: Collection[str] = ()
) -> bool:
    """Make tags/list name the tags that are there; whether it had to be written.

    `known` are tags that are there. If the list lacks some of them and names no others, it is written before a listing
    shows whether there are more: after each write it is rendered again.

    Raises:
        StoreError: other writers kept changing it for all the rounds.
    """
    is_listed = order != "lexical"

    async def render(current: bytes | None) -> bytes | None:
        nonlocal is_listed
        if not is_listed and (layout.tags_in(current) or set()) < set(known):
            is_listed = True
            return layout.tags_list_body(name, known)
        tags = await ordered_tags(store, name, order)
        return None if current is None and not tags else layout.tags_list_body(name, tags, as_given=True)

    return await DerivedObject(store, layout.tags_key(name), layout.JSON_HEADERS, "tags_list").converge(render, rounds)
