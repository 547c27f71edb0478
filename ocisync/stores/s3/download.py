"""Reading an object, and going on where a connection broke."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp

from ocisync.content.object_store import ObjectInfo
from ocisync.errors import OcisyncError, StoreError
from ocisync.stores.s3.client import S3Client
from ocisync.stores.s3.errors import error_from_exception
from ocisync.stores.s3.headers import info_from_headers

_READ = 256 * 1024  # bytes
_PARTIAL = 206


class Download:
    """One object, or a range of it, as an iterator of chunks; to be closed."""

    def __init__(self, client: S3Client, key: str, start: int, length: int | None) -> None:
        self._client = client
        self._key = key
        self._at = start  # the next byte
        self._end = None if length is None else start + length
        self._stack = AsyncExitStack()
        self._response: aiohttp.ClientResponse | None = None
        self._info: ObjectInfo | None = None
        self._failures = 0
        # aiohttp keeps up to twice what is asked for, so this bounds what waits for a slow reader.
        self._read_size = client.options.read_size or _READ

    async def start(self) -> ObjectInfo:
        """Ask for it.

        Raises:
            NotFound: no such key.
        """
        self._response = await self._ask()
        info = await self._head() if self._response is None else info_from_headers(self._key, self._response.headers)
        if info.size < 0:
            raise StoreError(f"{self._key} at {self._client.where}: no Content-Length; turn compression off there")
        self._info = info
        self._end = info.size if self._end is None else min(self._end, info.size)
        return info

    async def close(self) -> None:
        """Let go of the connection."""
        self._response = None
        await self._stack.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._response is None or self._end is None or self._at >= self._end:
                raise StopAsyncIteration
            try:
                chunk = await self._response.content.read(min(self._read_size, self._end - self._at))
                if not chunk:
                    raise aiohttp.ClientPayloadError("the body ended early")
            except (aiohttp.ClientError, OSError) as exc:
                await self._resume(exc)
                continue
            self._at += len(chunk)
            return chunk

    async def _ask(self) -> aiohttp.ClientResponse | None:
        """The reply from the next byte on; None when there is none."""
        if self._end is not None and self._end <= self._at:
            return None
        try:
            response = await self._stack.enter_async_context(await self._client.open(self._key, self._conditions()))
        except OcisyncError as exc:
            if exc.facts.get("status") == 416:  # nothing at or after the offset
                return None
            raise
        if self._info is not None and info_from_headers(self._key, response.headers).size != self._info.size:
            raise StoreError(f"{self._key} at {self._client.where}: the object was replaced while it was read")
        if self._at and response.status != _PARTIAL:
            await self._skip_to(response)
        return response

    def _conditions(self) -> dict[str, str]:
        match = {"If-Match": self._info.etag} if self._info and self._info.etag else {}
        if not self._at and self._end is None:
            return match
        return match | {"Range": f"bytes={self._at}-{'' if self._end is None else self._end - 1}"}

    async def _skip_to(self, response: aiohttp.ClientResponse) -> None:
        try:
            await _skip(response.content, self._at, self._read_size)
        except (aiohttp.ClientError, OSError) as exc:
            raise error_from_exception(exc, self._client.where, f"GET {self._key}") from exc

    async def _head(self) -> ObjectInfo:
        found = await self._client.head(self._key)
        if found is None:
            raise StoreError(f"{self._key} at {self._client.where}: nothing there to read a part of")
        return found

    async def _resume(self, exc: Exception) -> None:
        self._failures += 1
        await self._stack.aclose()
        if self._failures >= self._client.options.attempts:
            raise error_from_exception(exc, self._client.where, f"GET {self._key}") from exc
        self._response = await self._ask()


async def _skip(content: aiohttp.StreamReader, count: int, at_a_time: int) -> None:
    """Read over what a server sent that ignores ranges."""
    while count:
        chunk = await content.read(min(at_a_time, count))
        if not chunk:
            raise aiohttp.ClientPayloadError("the body ended before the offset")
        count -= len(chunk)
