"""A body that survives broken connections: it is opened again where it stopped.

Spec: distribution v1.1, "Pulling blobs": a registry SHOULD support Range (RFC 9110, 14.2).
"""

from __future__ import annotations

import re
from typing import Protocol

import structlog

from ocisync.content.transfer.mover import ChunkReader
from ocisync.errors import OcisyncError, RegistryError, SizeMismatch, Truncated
from ocisync.model.descriptor import Descriptor
from ocisync.stores.registry.http.bulk_response import BulkResponse
from ocisync.stores.registry.http.decoding import ContentReader
from ocisync.stores.registry.http.errors import is_web_page
from ocisync.stores.registry.http.response import Response

log = structlog.get_logger(__name__)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z", re.ASCII)


class BodySource(Protocol):
    """Where a body can be asked for."""

    @property
    def retries(self) -> int:
        """How often in a row a body that broke off is asked for again."""
        ...

    async def fetch(self, desc: Descriptor, start: int) -> Response:
        """Ask for a body from a byte on; 0 asks for all of it. The caller closes the answer."""
        ...

    async def backoff(self, attempt: int, reason: OcisyncError) -> None:
        """Wait after so many failures in a row."""
        ...


class ResumingStream:
    """The chunks of one content, in order and at most one byte too many.

    A body that breaks off is asked for again from the byte where it broke. When the registry ignores Range, what has
    been delivered already is read again and dropped; the consumer's digest tells whether it was the same. A body whose
    announced length is not the descriptor's is refused before it is read.
    """

    def __init__(self, desc: Descriptor, source: BodySource, start: int = 0) -> None:
        self._desc = desc
        self._source = source
        self._answer: Response | None = None
        self._decoder: ContentReader | None = None  # of an answer that something on the way may have compressed
        self._seen = start  # bytes delivered
        self._skip = 0  # bytes to drop: delivered before
        self._failures = 0  # since the last progress
        self._ranges = True  # until the registry is seen to answer Range wrongly
        self._broken: OcisyncError | None = None  # what a thread met
        self._chunks: ChunkReader | None = None  # once aiohttp reads for a thread

    async def open(self) -> Response:
        """Ask for what is missing; called before anything is read, so that absence shows then.

        Raises:
            SizeMismatch: another length is announced than the descriptor's.
            OcisyncError: whatever the source raises.
        """
        start = self._seen if self._ranges else 0
        answer = await self._source.fetch(self._desc, start)
        try:
            first = self._first_byte(answer, start)
        except BaseException:
            answer.close()
            raise
        if first is None:  # the range cannot be trusted: once more, from the beginning
            answer.close()
            self._ranges = False
            return await self.open()
        self._answer = answer
        self._decoder = ContentReader(answer, self._desc) if answer.encoding else None
        self._ranges &= not self._may_be_encoded
        self._skip = self._seen - first
        return answer

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
                chunk = self._drop_delivered(await self._read())
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

    @property
    def is_bulk(self) -> bool:
        """Whether a thread reads the answer."""
        return self._bulk_answer is not None

    @property
    def _bulk_answer(self) -> BulkResponse | None:
        """The answer, when its bytes are the content's."""
        return self._answer if isinstance(self._answer, BulkResponse) and not self._may_be_encoded else None

    @property
    def _may_be_encoded(self) -> bool:
        return self._decoder is not None and self._decoder.may_be_encoded

    async def wait_readable(self) -> None:
        """Return when a thread may read on; what broke off was asked for again by then.

        What comes then may be an answer that no thread can read by itself: from then on all comes in chunks.
        """
        while self._chunks is None:
            try:
                if self._broken is not None:
                    raise self._broken
                if self._answer is None:
                    await self.open()
                if (answer := self._bulk_answer) is not None:
                    return await answer.wait_readable()
                self._chunks = ChunkReader(self)
            except OcisyncError as exc:
                self._broken = None
                await self._recover(exc)
        return await self._chunks.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        """In a thread: some bytes that were not delivered yet, 0 at the end; None: nothing came."""
        if self._chunks is not None:
            return self._chunks.read_into(buffer)
        if (answer := self._bulk_answer) is None:
            return None
        try:
            while self._skip:  # a registry that ignores Range begins anew
                if not (count := answer.read_into(buffer[: self._skip])):
                    return count
                self._skip -= count
            count = answer.read_into(buffer)
        except OcisyncError as exc:
            self._broken = exc
            return None
        if count:
            self._seen += count
            self._failures = 0
        return count

    def end_turn(self) -> None:
        """Nothing is held."""

    async def _read(self) -> bytes:
        answer = self._answer or await self.open()
        chunk = await (self._decoder or answer).chunk()
        if not chunk and self._seen < self._desc.size and answer.ends_with_connection:
            raise Truncated(f"{self._desc.digest}: the connection ended after {self._seen} of {self._desc.size} bytes")
        return chunk

    def _drop_delivered(self, chunk: bytes) -> bytes | None:
        """The part not delivered before; None when there is none, empty only at the end."""
        if not chunk or not self._skip:
            return chunk
        dropped = min(self._skip, len(chunk))
        self._skip -= dropped
        return chunk[dropped:] or None

    async def _recover(self, exc: OcisyncError) -> None:
        self.close()
        self._failures += 1
        if not exc.retryable or self._failures > self._source.retries:
            raise exc
        log.debug("blob.resumed", digest=self._desc.digest, at=self._seen, code=exc.code)
        await self._source.backoff(self._failures, exc)

    def _first_byte(self, answer: Response, start: int) -> int | None:
        size = self._desc.size
        if answer.status == 200:
            if answer.encoding != "gzip":  # else its length is another's, unless it is the right one
                _check_length(self._desc, answer, size)
            return 0
        found = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
        if answer.status == 206 and start == 0 and not (found and int(found[1]) == 0 and int(found[2]) == size - 1):
            raise RegistryError(f"{self._desc.digest}: a part (status 206) came where the whole was asked for")
        right = found and int(found[1]) == start and int(found[2]) == size - 1 and found[3] in ("*", str(size))
        right = right and answer.content_length in (None, size - start)
        return start if answer.status == 206 and right else None


def _check_length(desc: Descriptor, answer: Response, expected: int) -> None:
    announced = answer.content_length
    if announced is not None and announced != expected:
        page = "; it is a web page (HTML), perhaps of a login" if is_web_page(answer.media_type, b"") else ""
        raise SizeMismatch(f"{desc.digest}: the registry announces {announced} bytes instead of {expected}{page}")
