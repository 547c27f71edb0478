"""Pushing a blob in chunks, for registries and proxies that refuse large bodies; a chunk that broke is gone on with.

Spec: distribution v1.1, "Pushing a blob in chunks".
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import structlog
from yarl import URL

from ocisync.content.repository import ByteStream, Opener
from ocisync.content.verify import CHUNK, Verifier, rechunk, update
from ocisync.errors import OcisyncError
from ocisync.model.descriptor import Descriptor
from ocisync.stores.registry.auth.scopes import Grant
from ocisync.stores.registry.http.body import PacedBody
from ocisync.stores.registry.http.policy import resolve_location
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.transport import Request, Transport

log = structlog.get_logger(__name__)
_TAKEN = frozenset({202, 204})
_STANDS = frozenset({200, 202, 204})
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})\Z", re.ASCII)


class _Broken(Exception):
    """A chunk did not arrive."""

    def __init__(self, error: OcisyncError) -> None:
        self.error = error


class ChunkedUpload:
    """The body of one upload, up to the request that ends it."""

    def __init__(self, transport: Transport, grant: Grant, desc: Descriptor, chunk_size: int) -> None:
        self._transport = transport
        self._grant = grant
        self._desc = desc
        self._chunk_size = max(CHUNK, chunk_size - chunk_size % CHUNK)  # bytes
        self._check = Verifier(desc.digest, desc.size)  # of what the registry has
        self._sent = 0  # bytes that it has
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
                if not broken.error.retryable or failures > self._transport.options.retries:
                    return broken.error
                await self._transport.backoff(failures, broken.error)
                if not await self._find_progress():
                    return broken.error

    async def _send(self, stream: ByteStream) -> URL:
        first = await self._catch_up(stream)
        async with aclosing(_chain(first, stream)) as rest:
            pieces = rechunk(rest)
            while self._sent < self._desc.size:
                await self._send_chunk(pieces)
        self._check.finish()
        return self._at

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

    async def _send_chunk(self, pieces: AsyncIterator[bytes]) -> None:
        first, count = self._sent, min(self._chunk_size, self._desc.size - self._sent)
        check = self._check.copied()
        headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{first}-{first + count - 1}"}
        body = PacedBody(_verify(pieces, count, check), count, self._transport.options.idle_timeout)
        try:
            request = Request("PATCH", self._at, self._grant, _TAKEN, headers, body, is_upload=True)
            async with self._transport.send(request) as answer:
                self._at = _next_location(answer, self._at)
        except OcisyncError as exc:
            if exc is body.failure:
                raise
            raise _Broken(exc) from exc
        self._sent, self._check = first + count, check
        log.debug("chunk.sent", host=self._transport.host, digest=self._desc.digest, at=self._sent)

    async def _find_progress(self) -> bool:
        """Ask how much is there, and where to go on; False when the session is lost, or has less than before."""
        try:
            async with self._transport.send(Request("GET", self._at, self._grant, _STANDS)) as answer:
                found = _RANGE.match(answer.headers.get("Range", "").strip())
                following = _next_location(answer, self._at)
        except OcisyncError as exc:
            log.debug("upload.lost", host=self._transport.host, digest=self._desc.digest, error=exc.message)
            return False
        last = int(found[1]) if found else 0
        has = last + 1 if last else 0  # an empty upload answers 0-0
        if not self._sent <= has <= self._desc.size:
            return False
        self._sent, self._at = has, following
        return True


def _next_location(answer: Response, at: URL) -> URL:
    location = answer.headers.get("Location")
    return resolve_location(answer.url, location) if location else at


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
