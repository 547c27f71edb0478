"""The session that all hosts share: keep-alive connections, and nothing done behind our back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from ocisync import __version__
from ocisync.content.network.aiohttp_internals import SizedReadConnector
from ocisync.content.transfer.pool import ConnectionPool
from ocisync.stores.registry.http.body import uploading
from ocisync.stores.registry.http.hosts import is_internal_only

_HEADERS = {"User-Agent": f"ocisync/{__version__}", "Accept-Encoding": "identity"}
_HEADER_LIMIT = 64 * 1024  # bytes; signed URLs are long
_AHEAD = 256 * 1024  # bytes; with twice as many unread, a connection waits: that is one piece, be it a large one


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session without cookies, decompression, redirects or credentials of its own."""
    connector = Connector(limit=0, ttl_dns_cache=30, resolver=PublicResolver(), keepalive_timeout=30)
    async with aiohttp.ClientSession(
        connector=connector,
        headers=_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Content-Type", "Accept"),
        trust_env=False,  # it would read ~/.netrc too; proxies are looked up here
        read_bufsize=_AHEAD,
        max_line_size=_HEADER_LIMIT,
        max_field_size=_HEADER_LIMIT,
    ) as session:
        try:
            yield session
        finally:
            connector.close_bulk()


class Connector(SizedReadConnector):
    """Connections that are read in large pieces; the body of an upload learns on which of them it is sent.

    So a broken upload can be dropped at once: an ordinary close would wait, for ever when the receiver does not read,
    until the last chunk has left. Beside them are those that threads read and write (`bulk`).
    """

    def __init__(self, resolver: AbstractResolver, **options: Any) -> None:
        super().__init__(resolver=resolver, **options)
        self._bulk: ConnectionPool | None = None

    @property
    def bulk(self) -> ConnectionPool:
        """The connections of threads, from the first large body on."""
        if self._bulk is None:
            from ocisync.content.transfer.pool import ConnectionPool

            self._bulk = ConnectionPool(self._resolver)
        return self._bulk

    def close_bulk(self) -> None:
        """Close them, if there are any."""
        if self._bulk is not None:
            self._bulk.close()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """A connection from the pool, or a new one."""
        connection = await super().connect(req, traces, timeout)
        if (body := uploading.get()) is not None:
            body.transport = connection.transport
        return connection


class PublicResolver(AbstractResolver):
    """Name look-ups that never lead to link-local or cloud metadata addresses."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """The addresses of a name.

        Raises:
            OSError: not found, or internal addresses only.
        """
        found = await self._inner.resolve(host, port, family)  # type: ignore[arg-type]  # ints are families here
        public = [one for one in found if not is_internal_only(one["host"])]
        if found and not public:
            raise OSError(None, "the name leads to an internal address")
        return public

    async def close(self) -> None:
        """Nothing is held."""
        await self._inner.close()
