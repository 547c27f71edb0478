"""Answers whose bodies are made whole: manifests and lists. What waits for slow readers is shared, and bounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from aiohttp import web

from ocisync.serve.errors import ApiError, ErrorCode, Interrupted
from ocisync.serve.send_file import IDLE

MOST = 64 * 1024 * 1024  # bytes of large bodies that wait at a time
READERS = 16  # manifests that are read at a time
LISTERS = 2  # lists that are made at a time
_SMALL = 64 * 1024  # bytes; what a slow reader may cost anyway
_SLICE = 16 * 1024  # bytes


@dataclass(slots=True)
class _Body:
    data: bytes
    readers: int = 0


class WholeBodies:
    """The large bodies that are on their way, each once however many clients read it.

    A thousand clients that take their time over one manifest of 4 MiB so cost 4 MiB. How many different ones wait is
    bounded by their bytes; then the next is answered 503.
    """

    def __init__(self, most: int = MOST) -> None:
        # Held while an answer is made, not while it is sent.
        self.reading = anyio.Semaphore(READERS, fast_acquire=True)
        self.listing = anyio.Semaphore(LISTERS, fast_acquire=True)
        self._most = most
        self._bodies: dict[str, _Body] = {}  # by ETag
        self._size = 0

    async def send(self, request: web.Request, response: web.Response) -> web.StreamResponse:
        """Send an answer slice by slice when it is long; its ETag stands for its bytes.

        Raises:
            ApiError: 503: too much waits already.
            Interrupted: the client takes nothing any more.
        """
        body, etag = response.body, response.headers.get("ETag", "")
        if not isinstance(body, bytes) or len(body) <= _SMALL or request.method == "HEAD" or not etag:
            return response
        response.body = None  # or each client would keep its own
        with self._share(etag, body) as shared:
            del body
            streamed = web.StreamResponse(status=response.status, headers=response.headers)
            streamed.content_length = len(shared)
            await streamed.prepare(request)
            if request.transport is not None:
                request.transport.set_write_buffer_limits(high=0)
            for start in range(0, len(shared), _SLICE):
                try:
                    with anyio.fail_after(IDLE):
                        await streamed.write(shared[start : start + _SLICE])
                        await request.writer.drain()
                except TimeoutError as exc:
                    raise Interrupted(f"{request.path[:300]}: the client took nothing for {IDLE:.0f} s") from exc
            return streamed

    @contextmanager
    def _share(self, etag: str, data: bytes) -> Iterator[bytes]:
        body = self._bodies.get(etag)
        if body is None:
            if self._size + len(data) > self._most:
                message = "many slow clients read long answers at the moment"
                raise ApiError(503, ErrorCode.UNAVAILABLE, message, {"Retry-After": "5"})
            body = self._bodies[etag] = _Body(data)
            self._size += len(data)
        del data  # this frame would keep it as long as the client reads
        body.readers += 1
        try:
            yield body.data
        finally:
            body.readers -= 1
            if not body.readers:
                del self._bodies[etag]
                self._size -= len(body.data)
