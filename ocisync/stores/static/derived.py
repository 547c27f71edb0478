"""Objects that are derived from others, such as tags/list: kept right by several writers without a lock.

A writer reads the object, renders what it should be, and writes it if it is still what was read. Then it renders once
more. That last step is the point: of writers that overlap, the one whose write comes last sees what all of them did,
and repairs what it overwrote. That holds on providers that ignore conditions too. What a writer wrote it need not read
again: whoever writes later does all of this as well (docs/adr/0013-how-tags-list-converges.md).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from ocisync.content.backoff import Backoff
from ocisync.content.failpoints import failpoint
from ocisync.content.object_store import ObjectHeaders, ObjectInfo, ObjectStore
from ocisync.content.openers import BytesOpener
from ocisync.errors import NotFound, PreconditionFailed, StoreError
from ocisync.model.digest import md5_in_etag, md5_of, sha256

Render = Callable[[bytes | None], Awaitable[bytes | None]]
"""The bytes that should be there, from those that are (None: absent); None leaves an absent object absent."""


_BACKOFF = Backoff(first=0.05, longest=2.0)  # seconds


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often to look, and how long to wait after a lost race."""

    limit: int = 40
    backoff: Backoff = _BACKOFF
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Callable[[], float] = random.random

    async def back_off(self, lost: int) -> None:
        """Wait after a lost race; `lost` counts those before it."""
        await self.sleep(self.backoff.wait(lost + 1, self.random()))


@dataclass(frozen=True, slots=True)
class DerivedObject:
    """One derived object; `checkpoint` names the failpoint after its write."""

    store: ObjectStore
    key: str
    headers: ObjectHeaders
    checkpoint: str

    async def converge(self, render: Render, retries: RetryPolicy) -> bool:
        """Make the object what `render` says; whether it had to be written.

        Raises:
            StoreError: other writers kept changing it for all the retries.
        """
        lost = written = 0
        written_last: tuple[str, bytes | None, str] | None = None
        for _ in range(retries.limit):
            etag, body, media_type = written_last or await self.read()
            wanted = await render(body)
            if wanted is None or (wanted == body and media_type == self.headers.content_type):
                return bool(written)
            try:
                written_last = await self.write(wanted, etag), wanted, self.headers.content_type
                written += 1  # and round again: what it is derived from may have changed before the write
            except PreconditionFailed:
                written_last = None
                await retries.back_off(lost)
                lost += 1
        raise StoreError(
            f"{self.key} at {self.store}: other writers changed it {retries.limit} times while it was brought up to "
            "date; what it is derived from is published, and the next pass repairs it"
        )

    async def read(self) -> tuple[str, bytes | None, str]:
        """The object's ETag, bytes and media type; an absent one has none of them."""
        try:
            async with self.store.open(self.key) as (info, stream):
                return info.etag, b"".join([chunk async for chunk in stream]), info.content_type
        except NotFound:
            return "", None, ""

    async def write(self, body: bytes, etag: str) -> str:
        """Write the object if it still has the ETag, "" meaning absent; its new ETag.

        Raises:
            PreconditionFailed: another writer came first.
        """
        info = await self.store.put(
            self.key, BytesOpener(body), self.headers, size=len(body), digest=sha256(body), if_match=etag
        )
        failpoint(self.checkpoint)
        return info.etag


def may_hold(found: ObjectInfo | None, data: bytes) -> bool:
    """Whether an object may be these bytes, by its size and, where it is an MD5, its ETag."""
    if found is None or found.size != len(data):
        return False
    return md5_in_etag(found.etag) in (None, md5_of(data))
