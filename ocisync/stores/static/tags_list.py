"""tags/list, derived: whatever the writers that share a repository do, the last to finish leaves it right.

Read its ETag, list the tags, compare, write if it is still what was read, and always look again after writing.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import anyio

from ocisync.content.checkpoints import reached
from ocisync.content.memory import bytes_opener
from ocisync.content.protocols import ObjectInfo, ObjectStore
from ocisync.errors import NotFound, PreconditionFailed, StoreError
from ocisync.spec.digest import HEX_LENGTHS, sha256
from ocisync.spec.reference import is_tag
from ocisync.stores.static import layout
from ocisync.stores.static.listing import closed_after


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often to look, and how long to wait after a lost race."""

    limit: int = 40
    first_wait: float = 0.05  # seconds; doubled with every lost race, of which a random part is waited
    longest_wait: float = 2.0  # seconds
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Callable[[], float] = random.random

    async def back_off(self, lost: int) -> None:
        """Wait after the `lost`-th lost race."""
        await self.sleep(self.random() * min(self.longest_wait, self.first_wait * 2**lost))


async def tag_objects(store: ObjectStore, name: str) -> AsyncIterator[ObjectInfo]:
    """The objects of a repository's tags, in lexical order; the digests between them are jumped over."""
    prefix = f"{layout.repository_prefix(name)}{layout.MANIFESTS}/"
    start_after: str | None = ""
    while start_after is not None:
        following, start_after = store.list(prefix, start_after=start_after), None
        async with closed_after(following):
            async for info in following:
                reference = info.key.removeprefix(prefix)
                if is_tag(reference):
                    yield info
                elif (algorithm := reference.partition(":")[0]) in HEX_LENGTHS:
                    start_after = f"{prefix}{algorithm};"  # the character after the colon
                    break


async def list_tags(store: ObjectStore, name: str) -> list[str]:
    """Every tag, in lexical order."""
    return [info.key.rpartition("/")[2] async for info in tag_objects(store, name)]


async def converge(store: ObjectStore, name: str, rounds: Rounds) -> bool:
    """Make tags/list name the tags that are there; whether it had to be written.

    Raises:
        StoreError: other writers kept changing it for all the rounds.
    """
    lost = written = 0
    for _ in range(rounds.limit):
        found = await store.head(layout.tags_key(name))
        tags = await list_tags(store, name)
        body = layout.tags_list_body(name, tags)
        if (found is None and not tags) or (found and await _holds(store, found, body)):
            return bool(written)
        try:
            await _write(store, name, body, found)
            written += 1
        except PreconditionFailed:
            await rounds.back_off(lost)
            lost += 1
    raise StoreError(
        f"{layout.tags_key(name)} at {store}: other writers changed it {rounds.limit} times while it was brought up to "
        "date; the tags themselves are published, and the next pass repairs the list"
    )


async def _holds(store: ObjectStore, found: ObjectInfo, body: bytes) -> bool:
    if found.size != len(body):
        return False
    try:
        async with store.open(found.key) as (_, stream):
            return b"".join([chunk async for chunk in stream]) == body
    except NotFound:
        return False


async def _write(store: ObjectStore, name: str, body: bytes, found: ObjectInfo | None) -> None:
    await store.put(
        layout.tags_key(name),
        bytes_opener(body),
        layout.JSON_HEADERS,
        size=len(body),
        digest=sha256(body),
        if_match=found.etag if found else "",
    )
    reached("tags_list")
