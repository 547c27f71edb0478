"""Pushing a blob in chunks, for registries and proxies that refuse large bodies; a chunk that broke is gone on with.

Spec: distribution v1.1, "Pushing a blob in chunks".
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import structlog
from yarl import URL

from ocisync.content.openers import BulkReader
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.transfer.exchange import BulkBody
from ocisync.content.transfer.mover import make_bulk_reader
from ocisync.content.verify import CHUNK, Verifier, rechunk, update
from ocisync.errors import Handling, OcisyncError, RegistryError
from ocisync.model.descriptor import Descriptor
from ocisync.stores.registry.auth.scopes import Grant
from ocisync.stores.registry.http.body import PacedBody
from ocisync.stores.registry.http.policy import upload_location
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.transport import Request, Transport, UploadMoved

log = structlog.get_logger(__name__)
_TAKEN = frozenset({200, 201, 202, 204})
_OTHER_POSITION = 416  # the chunk does not begin where the upload stands
_STANDS = frozenset({200, 202, 204})
_RANGE = re.compile(r"(?:bytes[=\s]\s*)?0-(\d{1,18})(?:/(?:\d+|\*))?\Z", re.ASCII | re.IGNORECASE)


class _Broken(Exception):
    """A chunk did not arrive, or not all of it."""

    def __init__(self, error: OcisyncError, *, is_position_known: bool = False) -> None:
        self.error = error
        self.is_position_known = is_position_known  # the registry said by itself where to go on


class ChunkedUpload:
    """The body of one upload, up to the request that ends it."""

    def __init__(self, transport: Transport, grant: Grant, desc: Descriptor, chunk_size: int) -> None:
        self._transport = transport
        self._grant = grant
        self._desc = desc
        self._chunk_size = max(CHUNK, chunk_size - chunk_size % CHUNK)  # bytes
        self._check = Verifier(desc.digest, desc.size)  # of what the registry has
        self._sent = 0  # bytes that it has
        self._claimed = 0  # bytes that were sent when it said that it had less, and nothing was taken since
        self._hears_range = True  # until what it says of a chunk that it took is seen to be wrong
        self._at = URL()  # where to send what follows

    async def run(self, session: URL, opener: Opener) -> URL | OcisyncError:
        """Where the upload can be ended, or what went wrong at the registry. The content's own errors are raised."""
        self._at, failures = session, 0
        while True:
            before = self._sent
            try:
                async with opener(self._check.seen) as stream:
                    return await self._send(stream)
            except _Broken as broken:
                failures = 1 if self._sent > before else failures + 1
                is_worth_it = broken.error.retryable or broken.error.facts.get("status") == _OTHER_POSITION
                if not is_worth_it or failures > self._transport.options.retries:
                    return broken.error
                if self._claimed and not broken.is_position_known and not broken.error.retryable:
                    self._sent, self._claimed, self._hears_range = self._claimed, 0, False
                    continue
                if broken.is_position_known:
                    continue
                if broken.error.retryable:
                    await self._transport.backoff(failures, broken.error)
                if not await self._find_progress(is_elsewhere=not broken.error.retryable):
                    return broken.error

    async def _send(self, stream: ByteStream) -> URL:
        first = await self._catch_up(stream)
        if not first and self._can_bulk():
            await self._send_in_bulk(make_bulk_reader(stream))
        else:
            async with aclosing(_chain(first, stream)) as rest:
                pieces = rechunk(rest)
                while self._sent < self._desc.size:
                    check, count = self._check.copy(), self._next_count
                    body = PacedBody(_verify(pieces, count, check), count, self._transport.options.idle_timeout)
                    await self._send_chunk(body, check)
        self._check.finish()
        return self._at

    async def _send_in_bulk(self, reader: BulkReader) -> None:
        """Send the rest by threads, for as long as they may send to where the registry wants it."""
        while self._sent < self._desc.size:
            if not self._can_bulk():
                raise _Broken(_make_moved_error(f"{self._desc.digest}: the upload moved"), is_position_known=True)
            check = self._check.copy()
            part = _BulkPart(reader, check, self._next_count)
            await self._send_chunk(BulkBody(part, part, self._next_count), check)

    def _can_bulk(self) -> bool:
        return self._transport.can_bulk(self._at, self._chunk_size)

    @property
    def _next_count(self) -> int:
        """Bytes of the next chunk."""
        return min(self._chunk_size, self._desc.size - self._sent)

    async def _catch_up(self, stream: ByteStream) -> bytes:
        """Hash what the registry has beyond what was hashed; what was read too much comes back."""
        while (missing := self._sent - self._check.seen) > 0:
            chunk = await anext(stream, b"")
            if not chunk:
                self._check.finish()
            await update(self._check, chunk[:missing])
            if len(chunk) > missing:
                return chunk[missing:]
        return b""

    async def _send_chunk(self, body: PacedBody | BulkBody, check: Verifier) -> None:
        """Send a chunk, which `check` sees."""
        first, count = self._sent, body.length
        headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{first}-{first + count - 1}"}
        try:
            request = Request("PATCH", self._at, self._grant, _TAKEN, headers, body, is_upload=True)
            async with self._transport.send(request) as answer:
                self._at = _next_location(answer, self._at)
                has = _parse_progress(answer)
        except UploadMoved as moved:
            self._at = moved.location
            raise _Broken(_make_moved_error(moved.message), is_position_known=True) from moved
        except OcisyncError as exc:
            if exc is body.failure:
                raise
            raise _Broken(exc) from exc
        # A chunk of which nothing was taken would have been refused: who says so tells of the one before (ECR), or how
        # long this one was (zot). Who took a part of it is believed until the next chunk is refused for its place.
        if self._hears_range and first < has < first + count:
            self._sent, self._claimed = has, first + count
            raise _Broken(_took_less(self._desc, has, first + count), is_position_known=True)
        self._sent, self._check, self._claimed = first + count, check, 0
        log.debug("chunk.sent", host=self._transport.host, digest=self._desc.digest, at=self._sent)

    async def _find_progress(self, *, is_elsewhere: bool) -> bool:
        """Ask how much is there, and where to go on; False when the session is lost, or has less than before.

        After a 416 the registry must stand elsewhere than was thought (`is_elsewhere`), also further back: then what it
        lacks is read and hashed once more. If it stands where it was thought, the chunk was refused for its size.
        """
        try:
            async with self._transport.send(Request("GET", self._at, self._grant, _STANDS)) as answer:
                has = _parse_progress(answer)
                following = _next_location(answer, self._at)
        except OcisyncError as exc:
            log.debug("upload.lost", host=self._transport.host, digest=self._desc.digest, error=exc.message)
            return False
        if is_elsewhere and has == self._sent:
            return False
        if not (0 if is_elsewhere else self._sent) <= has <= self._desc.size:
            return False
        if has < self._check.seen:
            self._check = Verifier(self._desc.digest, self._desc.size)
        self._sent, self._at = has, following
        return True


def _next_location(answer: Response, at: URL) -> URL:
    location = answer.headers.get("Location")
    return upload_location(answer.url, location) if location else at


def _parse_progress(answer: Response) -> int:
    """How many bytes the registry says it has, by its Range; an empty upload answers 0-0."""
    found = _RANGE.match(answer.headers.get("Range", "").strip())
    last = int(found[1]) if found else 0
    return last + 1 if last else 0


def _make_moved_error(message: str) -> RegistryError:
    return RegistryError(message, handling=Handling.RETRY)


def _took_less(desc: Descriptor, has: int, sent: int) -> RegistryError:
    return RegistryError(
        f"{desc.digest}: the registry took {has} of the {sent} bytes that were sent to it", handling=Handling.RETRY
    )


class _BulkPart:
    """One chunk of a blob as threads read and check it: the blob's last one only when all of the blob was right."""

    is_bulk = True

    def __init__(self, reader: BulkReader, check: Verifier, count: int) -> None:
        self._reader = reader
        self._check = check
        self._end = check.seen + count
        self._is_last = self._end == check.size

    async def wait_readable(self) -> None:
        """Return when a thread may read on."""
        if self._is_last or self._check.seen < self._end:
            await self._reader.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        """In a thread: a piece of it; what follows the blob's end counts, for there should be nothing."""
        if self._is_last:
            return self._reader.read_into(buffer)
        left = self._end - self._check.seen
        return self._reader.read_into(buffer[:left]) if left else 0

    def end_turn(self) -> None:
        """As the reader does."""
        self._reader.end_turn()

    def update(self, chunk: bytes | bytearray | memoryview, /) -> None:
        """Hash what was read."""
        self._check.update(chunk)

    def finish(self) -> None:
        """Check the blob, at its end; raises as `Verifier.finish` does."""
        if self._is_last or self._check.seen < self._end:
            self._check.finish()


async def _verify(pieces: AsyncIterator[bytes], count: int, check: Verifier) -> AsyncGenerator[bytes, None]:
    """The next `count` bytes; a blob's last piece only when all of it was right."""
    while count > 0:
        piece = await anext(pieces, b"")
        if not piece:
            check.finish()
        await update(check, piece)
        if check.seen == check.size:
            check.finish()
        count -= len(piece)
        yield piece


async def _chain(first: bytes, stream: ByteStream) -> AsyncGenerator[bytes, None]:
    if first:
        yield first
    async for chunk in stream:
        yield chunk
