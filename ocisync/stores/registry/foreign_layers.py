"""Foreign layers, read from the URLs in their descriptors. No registry's credentials are ever sent there.

Spec: image-spec v1.1, descriptor.md, "urls".
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from aiohttp import ClientSession
from yarl import URL

from ocisync.content.repository import ByteStream
from ocisync.errors import NotFound, OcisyncError, RedirectRefused, RegistryError
from ocisync.model.descriptor import Descriptor
from ocisync.stores.registry.http.errors import refusal
from ocisync.stores.registry.http.exchange import HttpExchange
from ocisync.stores.registry.http.hosts import safe_url
from ocisync.stores.registry.http.policy import MAX_REDIRECTS, REDIRECTS, redirect_target, resolve_location
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.resuming_stream import ResumingStream
from ocisync.stores.registry.options import RegistryOptions

_MAX_URLS = 8  # of one layer
_NOWHERE = URL("http://localhost/")  # what a URL without a scheme is relative to, so that it is refused or harmless
_WHOLE_OR_PART = frozenset({200, 206, 416})
_LOGIN = frozenset({401, 403})


class ExternalContent:
    """A Fetcher of what descriptors say lies elsewhere; whoever stores it verifies it, as always."""

    def __init__(self, session: ClientSession, options: RegistryOptions) -> None:
        self._options = RegistryOptions(
            connect_timeout=options.connect_timeout,
            idle_timeout=options.idle_timeout,
            retries=options.retries,
            first_wait=options.first_wait,
            longest_wait=options.longest_wait,
        )
        self._exchange = HttpExchange(session, "", self._options)

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """The layer without its first `start` bytes, from the first of its URLs that has it.

        Raises:
            NotFound: it names no URL.
            OcisyncError: what the first of them answered.
        """
        stream = await self._open_first(desc, start)
        try:
            yield stream
        finally:
            stream.close()

    async def _open_first(self, desc: Descriptor, start: int) -> ResumingStream:
        failure: OcisyncError = NotFound(f"{desc.digest}: a foreign layer that names no URL to read it from")
        for position, url in enumerate(desc.urls[:_MAX_URLS]):
            stream = ResumingStream(desc, _Location(url, self._exchange, self._options), start)
            try:
                await stream.open()
            except OcisyncError as exc:
                failure = exc if position == 0 else failure
            else:
                return stream
        raise failure


class _Location:
    """One URL of a layer, asked for as long as that may help."""

    def __init__(self, url: str, exchange: HttpExchange, options: RegistryOptions) -> None:
        self._url = url
        self._exchange = exchange
        self._options = options
        self.retries = options.retries

    async def fetch(self, desc: Descriptor, start: int) -> Response:
        """The body from a byte on."""
        del desc  # the URL alone says what is wanted
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(resolve_location(_NOWHERE, self._url), start)
            except OcisyncError as exc:
                if not exc.retryable or attempt > self.retries:
                    raise
                await self.backoff(attempt, exc)

    async def backoff(self, attempt: int, reason: OcisyncError) -> None:
        """Wait before the next try."""
        del reason
        await anyio.sleep(self._options.backoff.wait(attempt, random.random()))

    async def _attempt(self, url: URL, start: int) -> Response:
        headers = {"Range": f"bytes={start}-"} if start else {}
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._exchange.exchange("GET", url, headers)
            if answer.status == 200 or (start and answer.status in _WHOLE_OR_PART):
                return answer
            said = await answer.beginning()
            if answer.status not in REDIRECTS:
                raise _refusal(url, answer, said)
            url = redirect_target("GET", answer.status, url, answer.headers.get("Location"))
        raise RedirectRefused(f"{safe_url(url)}: more than {MAX_REDIRECTS} redirects")


def _refusal(url: URL, answer: Response, said: bytes) -> OcisyncError:
    if answer.status in _LOGIN:
        words = "it wants a login, and none is sent to where a foreign layer lies"
        return RegistryError(
            f"GET {safe_url(url)}: status {answer.status}; {words}", host=url.host, status=answer.status
        )
    return refusal("GET", url, answer.status, said, retry_after=answer.headers.get("Retry-After"))
