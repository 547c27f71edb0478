"""One request to a bucket as a value, and the ways in which its reply is read."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

import aiohttp
import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ocisync.content.repository import ByteStream, Opener
from ocisync.content.transfer.exchange import BulkAnswer, BulkBody
from ocisync.content.transfer.mover import make_bulk_reader
from ocisync.content.transfer.parts import MemoryReader
from ocisync.content.verify import UploadCheck, hold_last_chunk
from ocisync.model.digest import Digest
from ocisync.stores.s3.documents import MAX_DOCUMENT, ListingPage, PageReader
from ocisync.stores.s3.errors import S3Refusal, fault_from_reply
from ocisync.stores.s3.sign import EMPTY

_READ = 64 * 1024  # bytes
_UNRESERVED = "-_.~"
_ERROR_DOCUMENT = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?<Error[\s>]")  # spaces keep a connection alive


@dataclass(frozen=True, slots=True)
class S3Request:
    """One request. It can be sent as often as a retry needs: a body is bytes, chunks, or what opens a stream anew.

    `payload` is the body's sha256 in hex as it is signed, or UNSIGNED. An empty key means the bucket itself.
    """

    method: str
    key: str = ""  # with the bucket's prefix
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    payload: str = EMPTY
    body: bytes | tuple[memoryview, ...] | Opener | None = None
    size: int = 0  # bytes of the body
    operation: str = ""  # for messages; empty: the method
    checksum: Digest | None = None  # of the body, for the store to check, where it takes the header

    def __str__(self) -> str:
        return f"{self.operation or self.method} {self.key or self.query.get('prefix', '')}"

    @property
    def target(self) -> str:
        """Path and query below the bucket's URL, encoded as they are signed: the query is sorted."""
        query = urlencode(sorted(self.query.items()), quote_via=quote, safe=_UNRESERVED)
        path = f"/{quote(self.key, safe='/' + _UNRESERVED)}" if self.key else ""
        return f"{path}?{query}" if query else path

    @asynccontextmanager
    async def open_bulk_body(self) -> AsyncIterator[BulkBody]:
        """The body from its first byte, for threads to send."""
        if isinstance(self.body, CheckedBody):
            check = self.body.renew_check()
            async with self.body.opener(0) as stream:
                yield BulkBody(make_bulk_reader(stream), check, self.size)
        elif callable(self.body):
            async with self.body(0) as stream:
                yield BulkBody(make_bulk_reader(stream), UploadCheck(self.size, None), self.size)
        else:
            yield BulkBody(MemoryReader(self.chunks), UploadCheck(self.size, None), self.size)

    @asynccontextmanager
    async def open_body(self) -> AsyncIterator[ByteStream]:
        """The body as a stream from its first byte."""
        if callable(self.body):
            async with self.body(0) as stream:
                yield stream
        else:
            yield _iterate(self.chunks)

    @property
    def chunks(self) -> tuple[bytes | memoryview, ...]:
        """A body that lies in memory; nothing where it is read from elsewhere."""
        if isinstance(self.body, bytes):
            return (self.body,)
        return self.body if isinstance(self.body, tuple) else ()


class CheckedBody:
    """A body that is hashed while it is read, as often as it is opened; its last piece comes only when all is right."""

    def __init__(self, opener: Opener, size: int, digest: Digest | None, *, md5: bool) -> None:
        self.opener = opener
        self._size = size
        self._digest = digest
        self._md5 = md5
        self.check = self.renew_check()

    def renew_check(self) -> UploadCheck:
        """What hashes the next reading."""
        self.check = UploadCheck(self._size, self._digest, md5=self._md5)
        return self.check

    @asynccontextmanager
    async def __call__(self, start: int) -> AsyncIterator[ByteStream]:
        """The checked bytes."""
        check = self.renew_check()
        async with self.opener(start) as stream:
            yield hold_last_chunk(stream, check)


class BulkReply:
    """The answer to what threads have sent, with all that the readers below ask of one of aiohttp's."""

    def __init__(self, answer: BulkAnswer) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.content = self
        self._answer = answer

    async def __aenter__(self) -> BulkReply:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._answer.close()

    async def read(self, limit: int) -> bytes:
        """The beginning of the body."""
        return await self._answer.read_words(limit)


async def _iterate(chunks: tuple[bytes | memoryview, ...]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield bytes(chunk)


async def read_headers(response: aiohttp.ClientResponse) -> Mapping[str, str]:
    """The headers; a body is of no interest."""
    async with response:
        return response.headers


async def read_document(response: aiohttp.ClientResponse) -> bytes:
    """A small document whole.

    Raises:
        S3Refusal: it is an error document: copies and completions may fail after the status said that all was well.
        ValueError: it is too large to be what was asked for.
    """
    chunks, size = [], 0
    async with response:
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_DOCUMENT:
                response.close()
                raise ValueError(f"the answer is larger than {MAX_DOCUMENT >> 20} MiB")
        document = b"".join(chunks)
        if _ERROR_DOCUMENT.match(document):
            raise S3Refusal(fault_from_reply(500, response.headers, document))
        return document


async def read_page(response: aiohttp.ClientResponse) -> ListingPage:
    """A page of a listing, read as it comes.

    Raises:
        ValueError: it is none.
    """
    reader = PageReader()
    async with response:
        try:
            async for chunk in response.content.iter_chunked(_READ):
                reader.feed(chunk)
        except ValueError:
            response.close()  # what follows is of no interest
            raise
    return reader.finish()


async def keep_open(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    """The reply itself, for the caller to read and close."""
    return response


class SourceFailed(Exception):
    """The body of a request could not be read: the source's affair, never the store's."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


class StreamedUpload:
    """One PUT of a stream.

    The body is read here, in a task of ours, and handed to aiohttp piece by piece: aiohttp would read it in a task of
    its own, where an error of the source is lost and a server that takes nothing is noticed by nobody.
    """

    def __init__(self, chunks: ByteStream, idle_timeout: float) -> None:
        self._chunks = chunks
        self._idle_timeout = idle_timeout  # seconds in which a chunk must be taken
        self._scope = anyio.CancelScope()
        self._failure: Exception | None = None
        self._response: aiohttp.ClientResponse | None = None

    async def exchange(
        self, request: Callable[[AsyncIterator[bytes]], Awaitable[aiohttp.ClientResponse]]
    ) -> aiohttp.ClientResponse:
        """Send the body and wait for the reply.

        Raises:
            SourceFailed: the body could not be read.
            TimeoutError: the server stopped taking it.
        """
        async with anyio.create_task_group() as group:
            send, receive = anyio.create_memory_object_stream[bytes](0)
            with receive:
                group.start_soon(self._feed, send)
                with self._scope:
                    try:
                        self._response = await request(_drain(receive))
                    except Exception as exc:  # noqa: BLE001 (raised again outside the group; a body's failure comes first)
                        self._failure = self._failure or exc
            group.cancel_scope.cancel()
        if self._failure or self._response is None:
            raise self._failure or TimeoutError
        return self._response

    async def _feed(self, send: MemoryObjectSendStream[bytes]) -> None:
        """Read the body; a body that fails or that the server stops taking ends the request."""
        try:
            with send:
                async for chunk in self._chunks:
                    with anyio.move_on_after(self._idle_timeout) as waiting:
                        await send.send(chunk)
                    if waiting.cancelled_caught:
                        self._fail(TimeoutError("the store stopped taking what was sent"))
                        return
                    del chunk  # or it would stay in memory until the next has come
        except anyio.BrokenResourceError:
            return  # the request ended before its body: the reply says why
        except Exception as exc:  # noqa: BLE001 (raised again by `exchange`, outside the task group)
            self._fail(SourceFailed(exc))

    def _fail(self, reason: Exception) -> None:
        self._failure = reason
        self._scope.cancel()


async def _drain(receive: MemoryObjectReceiveStream[bytes]) -> AsyncIterator[bytes]:
    async for chunk in receive:
        yield chunk
        del chunk  # as in `_feed`
