"""Foreign layers, read from the URLs in their descriptors. No registry's credentials are ever sent there.

Spec: image-spec v1.1, descriptor.md, "urls".
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
from aiohttp import ClientSession
from yarl import URL

from ocisync.content.repository import ByteStream
from ocisync.errors import NotFound, OcisyncError, RedirectRefused, RegistryError
from ocisync.model.descriptor import Descriptor
from ocisync.stores.registry.http.errors import refusal
from ocisync.stores.registry.http.exchange import HttpExchange
from ocisync.stores.registry.http.hosts import shown
from ocisync.stores.registry.http.policy import MAX_REDIRECTS, REDIRECTS, redirected, resolve_location
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
        self._wire = HttpExchange(session, "", self._options)

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """The layer without its first `start` bytes, from the first of its URLs that has it.

        Raises:
            NotFound: it names no URL.
            OcisyncError: what the first of them answered.
        """
        stream = await self._first(desc, start)
        try:
            yield stream
        finally:
            stream.close()

    async def _first(self, desc: Descriptor, start: int) -> ResumingStream:
        failure: OcisyncError = NotFound(f"{desc.digest}: a foreign layer that names no URL to read it from")
        for position, url in enumerate(desc.urls[:_MAX_URLS]):
            stream = ResumingStream(desc, partial(self._ask, url), self._rest, self._options.retries, start)
            try:
                await stream.start()
            except OcisyncError as exc:
                failure = exc if position == 0 else failure
            else:
                return stream
        raise failure

    async def _ask(self, url: str, start: int) -> Response:
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._followed(resolve_location(_NOWHERE, url), start)
            except OcisyncError as exc:
                if not exc.retryable or attempt > self._options.retries:
                    raise
                await self._rest(attempt, exc)

    async def _followed(self, url: URL, start: int) -> Response:
        headers = {"Range": f"bytes={start}-"} if start else {}
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._wire.exchange("GET", url, headers)
            if answer.status == 200 or (start and answer.status in _WHOLE_OR_PART):
                return answer
            said = await answer.beginning()
            if answer.status not in REDIRECTS:
                raise _refused(url, answer, said)
            url = redirected("GET", answer.status, url, answer.headers.get("Location"))
        raise RedirectRefused(f"{shown(url)}: more than {MAX_REDIRECTS} redirects")

    async def _rest(self, attempt: int, reason: OcisyncError) -> None:
        del reason
        await anyio.sleep(self._options.backoff.wait(attempt, random.random()))


def _refused(url: URL, answer: Response, said: bytes) -> OcisyncError:
    if answer.status in _LOGIN:
        told = "it wants a login, and none is sent to where a foreign layer lies"
        return RegistryError(f"GET {shown(url)}: status {answer.status}; {told}", host=url.host, status=answer.status)
    return refusal("GET", url, answer.status, said, retry_after=answer.headers.get("Retry-After"))
