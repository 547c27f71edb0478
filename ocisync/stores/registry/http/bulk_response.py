"""An answer whose body is read by threads: of a blob that is worth it."""

from __future__ import annotations

import time

from yarl import URL

from ocisync.content.transfer.exchange import BulkAnswer
from ocisync.errors import OcisyncError, Stalled, Truncated
from ocisync.stores.registry.http.errors import network_error
from ocisync.stores.registry.http.hosts import safe_url
from ocisync.stores.registry.http.response import CHUNK, SMALL, Response
from ocisync.stores.registry.options import RegistryOptions


class BulkResponse(Response):
    """As any answer; with a known length its body can be read by threads too."""

    def __init__(self, answer: BulkAnswer, method: str, url: URL, options: RegistryOptions) -> None:
        super().__init__(answer.status, answer.headers, method, url, options)
        self._answer = answer
        self._waited = 0.0  # seconds in which bytes were waited for, since the rate was looked at
        self._came = 0  # bytes since then

    @property
    def is_bulk(self) -> bool:
        """Whether a thread may read the body: it has a length, and is what it seems."""
        return self._answer.left is not None

    async def wait_readable(self) -> None:
        """Return when a thread may read on.

        Raises:
            Stalled, NetworkError: the body stood still, trickled, or broke off.
        """
        if self._came or self._waited:
            waited, came, self._waited, self._came = self._waited, self._came, 0.0, 0
            self._check_rate(waited, came)
        asked = time.monotonic()
        try:
            await self._answer.wait_readable()
        except OSError as exc:
            raise self._translate(exc) from exc
        self._waited += time.monotonic() - asked

    def read_into(self, buffer: memoryview) -> int | None:
        """In a thread: some bytes, 0 at the end; None: nothing came.

        Raises:
            Truncated, NetworkError: the body broke off.
        """
        asked = time.monotonic()
        try:
            count = self._answer.read_into(buffer)
        except OSError as exc:
            raise self._translate(exc) from exc
        self._waited += time.monotonic() - asked
        if count == 0 and self._answer.left:
            raise Truncated(f"{self._method} {safe_url(self.url)}: the body ended too early", host=self.url.host)
        self._came += count or 0
        return count

    async def _receive(self) -> bytes:
        try:
            piece = await self._answer.read(min(CHUNK, self._answer.left or CHUNK))
        except OSError as exc:
            self.close()
            raise self._translate(exc) from exc
        if not piece and self._answer.left:
            raise Truncated(f"{self._method} {safe_url(self.url)}: the body ended too early", host=self.url.host)
        return piece

    async def beginning(self) -> bytes:
        """The start of an error's or redirect's body; the answer is closed."""
        try:
            return await self._answer.read_words(SMALL)
        finally:
            self.close()

    def _end(self) -> None:
        self._answer.close()

    def _translate(self, exc: OSError) -> OcisyncError:
        if isinstance(exc, TimeoutError):
            where = f"{self._method} {safe_url(self.url)}"
            return Stalled(f"{where}: no byte came within the idle time-out", host=self.url.host)
        return network_error(exc, self._method, self.url)
