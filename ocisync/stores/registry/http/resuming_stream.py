"""A body that survives broken connections: it is opened again where it stopped.

Spec: distribution v1.1, "Pulling blobs": a registry SHOULD support Range (RFC 9110, 14.2).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import structlog

from ocisync.errors import OcisyncError, RegistryError, SizeMismatch, Truncated
from ocisync.model.descriptor import Descriptor
from ocisync.stores.registry.http.response import Response

log = structlog.get_logger(__name__)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z", re.ASCII)

Reopen = Callable[[int], Awaitable[Response]]
"""Ask for the body from a byte on; 0 asks for all of it."""

Rest = Callable[[int, OcisyncError], Awaitable[None]]
"""Wait after so many failures in a row."""


class ResumingStream:
    """The chunks of one content, in order and at most one byte too many.

    A body whose announced length is not the descriptor's is refused before it is read. When the registry ignores Range,
    what has been delivered already is read again and dropped; the consumer's digest tells whether it was the same.
    """

    def __init__(self, desc: Descriptor, reopen: Reopen, rest: Rest, retries: int, start: int = 0) -> None:
        self._desc = desc
        self._reopen = reopen
        self._rest = rest
        self._retries = retries
        self._answer: Response | None = None
        self._seen = start  # bytes delivered
        self._skip = 0  # bytes to drop: delivered before
        self._failures = 0  # since the last progress
        self._ranges = True  # until the registry is seen to answer Range wrongly

    async def start(self) -> None:
        """Open for the first time, so that absence shows before anything is read."""
        self._answer = await self._opened(self._seen)

    def close(self) -> None:
        """Stop, also half-way."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def __aiter__(self) -> ResumingStream:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                chunk = self._fresh(await self._read())
            except OcisyncError as exc:
                await self._recover(exc)
                continue
            if chunk is None:
                continue
            if not chunk or self._seen > self._desc.size:
                raise StopAsyncIteration
            chunk = chunk[: self._desc.size + 1 - self._seen]
            self._seen += len(chunk)
            self._failures = 0
            return chunk

    async def _read(self) -> bytes:
        if self._answer is None:
            self._answer = await self._opened(self._seen)
        chunk = await self._answer.chunk()
        if not chunk and self._seen < self._desc.size and self._answer.ends_with_connection:
            raise Truncated(f"{self._desc.digest}: the connection ended after {self._seen} of {self._desc.size} bytes")
        return chunk

    def _fresh(self, chunk: bytes) -> bytes | None:
        """The part not delivered before; None when there is none, empty only at the end."""
        if not chunk or not self._skip:
            return chunk
        dropped = min(self._skip, len(chunk))
        self._skip -= dropped
        return chunk[dropped:] or None

    async def _recover(self, exc: OcisyncError) -> None:
        self.close()
        self._failures += 1
        if not exc.retryable or self._failures > self._retries:
            raise exc
        log.debug("blob.resumed", digest=self._desc.digest, at=self._seen, code=exc.code)
        await self._rest(self._failures, exc)

    async def _opened(self, start: int) -> Response:
        start = start if self._ranges else 0
        answer = await self._reopen(start)
        try:
            first = self._first_byte(answer, start)
        except BaseException:
            answer.close()
            raise
        if first is None:  # the range cannot be trusted: once more, from the beginning
            answer.close()
            self._ranges = False
            return await self._opened(0)
        self._skip = self._seen - first
        return answer

    def _first_byte(self, answer: Response, start: int) -> int | None:
        size = self._desc.size
        if answer.status == 200:
            _check_length(self._desc, answer.content_length, size)
            return 0
        found = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
        if answer.status == 206 and start == 0:
            raise RegistryError(f"{self._desc.digest}: a part (status 206) came where the whole was asked for")
        right = found and int(found[1]) == start and int(found[2]) == size - 1 and found[3] in ("*", str(size))
        right = right and answer.content_length in (None, size - start)
        return start if answer.status == 206 and right else None


def _check_length(desc: Descriptor, announced: int | None, expected: int) -> None:
    if announced is not None and announced != expected:
        raise SizeMismatch(f"{desc.digest}: the registry announces {announced} bytes instead of {expected}")
