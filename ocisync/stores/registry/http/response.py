"""One HTTP answer whose body is read with time-outs, a least rate and limits."""

from __future__ import annotations

import time
import zlib
from abc import ABC, abstractmethod

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from ocisync.errors import LimitExceeded, RegistryError, Stalled, Truncated
from ocisync.stores.registry.http.errors import check_not_web_page, network_error
from ocisync.stores.registry.http.host_limiter import Release, Throttle
from ocisync.stores.registry.http.hosts import safe_url
from ocisync.stores.registry.options import RegistryOptions

CHUNK = 1024 * 1024  # bytes
_LARGE = 128 * 1024  # bytes; such a piece is worth passing on as it is, smaller ones are joined
_NO_ENCODING = frozenset({"", "identity", "aws-chunked"})
_TRANSFORMED = 203  # 200 from a proxy that may have changed something, such as the encoding
SMALL = 16 * 1024  # bytes of an error's or a redirect's body worth reading


class Response(ABC):
    """Status, headers and a body to read; whoever gets one closes it."""

    def __init__(
        self,
        status: int,
        headers: CIMultiDictProxy[str],
        method: str,
        url: URL,
        options: RegistryOptions,
        throttle: Throttle | None = None,
    ) -> None:
        self.status = 200 if status == _TRANSFORMED else status
        self.headers = headers
        self.url = url
        self._method = method
        self._options = options
        self._rate: RateWatch | None = None  # of a body, once one is read
        self._throttle = throttle
        self._releases: list[Release] = []

    @property
    def content_length(self) -> int | None:
        """The announced length of the body in bytes."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    @property
    def encoding(self) -> str:
        """Content-Encoding: empty for none. S3's `aws-chunked` is about how it was stored, and tells nothing."""
        given = self.headers.get("Content-Encoding")
        if not given:
            return ""
        kept = [one for part in given.lower().split(",") if (one := part.strip()) not in _NO_ENCODING]
        return ",".join(kept).replace("x-gzip", "gzip")

    @property
    def content_size(self) -> int | None:
        """The announced length of the content in bytes; None also where the body is that of an encoding of it."""
        return None if self.encoding else self.content_length

    @property
    def ends_with_connection(self) -> bool:
        """Whether nothing but the end of the connection tells where the body ends."""
        return self.content_length is None and not self._is_chunked

    @property
    def _is_chunked(self) -> bool:
        return "chunked" in self.headers.get("Transfer-Encoding", "").lower()

    @property
    def media_type(self) -> str:
        """Content-Type without its parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def when_closed(self, release: Release) -> None:
        """What to call when nothing more is read."""
        self._releases.append(release)

    async def chunk(self) -> bytes:
        """The next bytes, as many as have come and at most 1 MiB; empty at the end.

        Raises:
            Truncated, Stalled, NetworkError: the body broke off, stood still, or trickled.
        """
        asked = time.monotonic()
        try:
            chunk = await self._receive()
        except (aiohttp.ClientError, OSError) as exc:
            self.close()
            raise network_error(exc, self._method, self.url) from exc
        if not chunk:
            self.close()
            return chunk
        self._check_rate(time.monotonic() - asked, len(chunk))
        if self._throttle is not None:
            await self._throttle.wait(len(chunk))
        return chunk

    def _check_rate(self, waited: float, size: int) -> None:
        """Take what came in so many seconds of waiting; raises Stalled when that is too little for too long."""
        if self._rate is None:
            self._rate = RateWatch(self._options.minimum_rate, self._options.rate_window)
        if self._rate.too_slow(waited, size):
            self.close()
            raise Stalled(f"{self._method} {safe_url(self.url)}: the body trickles below the minimum rate")

    @abstractmethod
    async def _receive(self) -> bytes:
        """The next bytes, at most `CHUNK`; empty at the end."""

    async def read(self, limit: int, what: str) -> bytes:
        """The whole body; gzip is undone, although it was not asked for: some proxies compress whatever passes.

        Raises:
            LimitExceeded: longer than `limit` bytes, also when it is decompressed.
            RegistryError: it came with another Content-Encoding, or is not what that says.
        """
        encoding = self.encoding
        if encoding not in ("", "gzip"):
            raise RegistryError(f"{safe_url(self.url)}: sent {what} as {encoding[:20]!r}, which was not asked for")
        if (self.content_length or 0) > limit:
            raise _too_long(self.url, what, limit)
        chunks: list[bytes] = []
        left = limit
        while chunk := await self.chunk():
            left -= len(chunk)
            if left < 0:
                raise _too_long(self.url, what, limit)
            chunks.append(chunk)
        body = b"".join(chunks)
        return self._decompress(body, limit, what) if encoding else body

    async def read_document(self, limit: int, what: str) -> bytes:
        """The same for JSON, which a page of HTML is not: a sign-in page, or a wrong host.

        Raises:
            LimitExceeded, RegistryError: as `read`; also, it is a page.
        """
        body = await self.read(limit, what)
        if "json" not in self.media_type:
            check_not_web_page(self.url, self.media_type, body)
        return body

    def _decompress(self, body: bytes, limit: int, what: str) -> bytes:
        decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # gzip's frame
        try:
            plain = decompressor.decompress(body, limit + 1)
        except zlib.error as exc:
            raise RegistryError(f"{safe_url(self.url)}: {what} is said to be gzip, and is not") from exc
        if len(plain) > limit:
            raise _too_long(self.url, what, limit)
        if not decompressor.eof:
            raise Truncated(f"{safe_url(self.url)}: {what} ends too early")
        return plain

    async def beginning(self) -> bytes:
        """The start of an error's or redirect's body; the answer is closed, and its connection kept if that was all."""
        chunks: list[bytes] = []
        try:
            while sum(map(len, chunks)) < SMALL and (chunk := await self.chunk()):
                chunks.append(chunk)
        finally:
            self.close()
        return b"".join(chunks)[:SMALL]

    def close(self) -> None:
        """Give the connection back, or drop it when a part of the body is still to come; harmless when repeated."""
        self._end()
        while self._releases:
            self._releases.pop()()

    @abstractmethod
    def _end(self) -> None:
        """Give the connection back, or drop it."""


class StreamedResponse(Response):
    """An answer that aiohttp reads."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        method: str,
        url: URL,
        options: RegistryOptions,
        throttle: Throttle | None = None,
    ) -> None:
        super().__init__(response.status, response.headers, method, url, options, throttle)
        self._response = response

    async def _receive(self) -> bytes:
        """What has come, uncopied where it came in a large piece."""
        content = self._response.content
        if self._throttle is not None or self._is_chunked:
            return await content.read(self._throttle.piece if self._throttle else CHUNK)
        piece, _ = await content.readchunk()
        return piece if not piece or len(piece) >= _LARGE else piece + content.read_nowait(CHUNK - len(piece))

    def _end(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class RateWatch:
    """Notices a body that trickles; only time spent waiting for the server counts."""

    def __init__(self, minimum: int, window: float) -> None:
        self._minimum = minimum  # bytes a second
        self._window = window  # seconds
        self._waited = 0.0
        self._bytes = 0

    def too_slow(self, waited: float, size: int) -> bool:
        """Take one chunk and the seconds it took; whether a whole window stayed below the minimum."""
        self._waited += waited
        self._bytes += size
        if self._waited < self._window:
            return False
        slow = self._bytes < self._minimum * self._waited
        self._waited, self._bytes = 0.0, 0
        return slow


def _too_long(url: URL, what: str, limit: int) -> LimitExceeded:
    return LimitExceeded(f"{safe_url(url)}: {what} has more than {limit} bytes", code="limit.manifest")
