"""Requests for objects: signed here, sent by aiohttp, one attempt each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import aiohttp
import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from yarl import URL

from ocisync.content.cost import count_request
from ocisync.content.repository import ByteStream
from ocisync.errors import Stalled
from ocisync.stores.s3.errors import error_from_exception, error_from_fault, fault_from_reply
from ocisync.stores.s3.session import S3Session
from ocisync.stores.s3.sign import EMPTY, signed

_ERROR_BODY = 64 * 1024  # bytes of an error document that are read


@dataclass(frozen=True, slots=True)
class Upload:
    """What a PUT carries; `payload` is its sha256 in hex as it is signed, or UNSIGNED."""

    headers: Mapping[str, str]
    payload: str
    size: int  # bytes


class ObjectExchange:
    """Single requests to one bucket. Errors of the store carry the fact `store`."""

    def __init__(self, session: S3Session) -> None:
        self._session = session

    @asynccontextmanager
    async def asked(
        self, method: str, key: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A reply to a request without a body, open for reading; a refusal is an error."""
        response = await self._request(method, key, {}, dict(headers or {}), EMPTY, None)
        async with response:
            yield response

    async def upload(
        self, key: str, upload: Upload, chunks: ByteStream | bytes, query: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        """PUT a body; the reply's headers. Errors of `chunks` end the request and are raised as they are."""
        headers = {"Content-Length": str(upload.size), **upload.headers}
        if isinstance(chunks, bytes):
            async with await self._request("PUT", key, query or {}, headers, upload.payload, chunks) as response:
                return response.headers
        sending = _Sending(self._session, chunks)
        async with anyio.create_task_group() as group:
            send, receive = anyio.create_memory_object_stream[bytes](0)
            with receive:
                group.start_soon(sending.feed, send)
                await sending.exchange(
                    self._request("PUT", key, query or {}, headers, upload.payload, _drained(receive))
                )
            group.cancel_scope.cancel()
        if sending.failure:
            raise sending.failure
        return sending.reply

    async def copy(self, from_key: str, to_key: str, headers: Mapping[str, str]) -> None:
        """Copy an object inside the store. A failure may come after the status said that all was well."""
        options, doing = self._session.options, f"copy {from_key} to {to_key}"
        source = quote(f"{options.bucket}/{options.key_prefix}{from_key}", safe="/-_.~")
        sent = {"x-amz-copy-source": source, "x-amz-metadata-directive": "REPLACE", **headers}
        async with await self._request("PUT", to_key, {}, sent, EMPTY, None) as response:
            try:
                document = await response.read()
            except (aiohttp.ClientError, OSError) as exc:
                raise error_from_exception(exc, self._session.where, doing) from exc
        if b"<Error>" in document:
            raise error_from_fault(fault_from_reply(500, response.headers, document), self._session.where, doing)

    async def listing(self, query: Mapping[str, str]) -> bytes:
        """One page of the bucket's listing, as the document it is."""
        doing = f"list {query.get('prefix', '')}"
        response = await self._exchange("GET", self._session.base_url + _query(query), {}, EMPTY, None, doing)
        async with response:
            try:
                return await response.read()
            except (aiohttp.ClientError, OSError) as exc:
                raise error_from_exception(exc, self._session.where, doing) from exc

    async def _request(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: dict[str, str],
        payload: str,
        body: AsyncIterator[bytes] | bytes | None,
    ) -> aiohttp.ClientResponse:
        session = self._session
        url = f"{session.base_url}/{quote(session.options.key_prefix + key, safe='/-_.~')}{_query(query)}"
        return await self._exchange(method, url, headers, payload, body, f"{method} {key}")

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        payload: str,
        body: AsyncIterator[bytes] | bytes | None,
        doing: str,
    ) -> aiohttp.ClientResponse:
        session = self._session
        length = {"Content-Length": headers.pop("Content-Length")} if "Content-Length" in headers else {}
        headers["Accept-Encoding"] = "identity"
        sent = signed(method, url, headers, payload, await session.credentials(), session.region) | length
        try:
            count_request()
            response = await session.http.request(
                method, URL(url, encoded=True), data=body, headers=sent, allow_redirects=False, proxy=session.proxy
            )
            if response.status < 300:
                return response
            async with response:
                document = await response.content.read(_ERROR_BODY)
        except (aiohttp.ClientError, OSError) as exc:  # a TimeoutError is an OSError
            raise error_from_exception(exc, session.where, doing) from exc
        raise error_from_fault(fault_from_reply(response.status, response.headers, document), session.where, doing)


class _Sending:
    """One PUT on its way: the body is read here, in a task of ours, and handed to aiohttp piece by piece."""

    def __init__(self, session: S3Session, chunks: ByteStream) -> None:
        self._session = session
        self._chunks = chunks
        self._scope = anyio.CancelScope()
        self.failure: Exception | None = None
        self.reply: Mapping[str, str] = {}

    async def feed(self, send: MemoryObjectSendStream[bytes]) -> None:
        """Read the body; a body that fails or that the server stops taking ends the request."""
        try:
            with send:
                async for chunk in self._chunks:
                    with anyio.move_on_after(self._session.options.idle_timeout) as waiting:
                        await send.send(chunk)
                    if waiting.cancelled_caught:
                        self._fail(_stalled(self._session.where))
                        return
                    del chunk  # or it would stay in memory until the next has come
        except anyio.BrokenResourceError:
            pass  # the request ended before its body: the reply says why
        except Exception as exc:  # noqa: BLE001 (raised again by `upload`, outside the task group)
            self._fail(exc)

    async def exchange(self, request: Awaitable[aiohttp.ClientResponse]) -> None:
        """Wait for the reply."""
        with self._scope:
            try:
                response = await request
                async with response:
                    self.reply = response.headers
            except Exception as exc:  # noqa: BLE001 (as above; a body's failure comes first)
                self.failure = self.failure or exc

    def _fail(self, exc: Exception) -> None:
        self.failure = exc
        self._scope.cancel()


def _query(query: Mapping[str, str]) -> str:
    return f"?{urlencode(sorted(query.items()), quote_via=quote, safe='-_.~')}" if query else ""


async def _drained(receive: MemoryObjectReceiveStream[bytes]) -> AsyncIterator[bytes]:
    async for chunk in receive:
        yield chunk
        del chunk  # as in `feed`


def _stalled(where: str) -> Stalled:
    return Stalled(f"{where}: the store stopped taking what was sent", store=where)
