"""Connections that are made, and kept for the next request to the same place."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohappyeyeballs
import anyio
from aiohttp.abc import AbstractResolver, ResolveResult
from anyio import to_thread
from yarl import URL

from ocisync.content.transfer.connection import Connection

_KEPT = 30.0  # seconds that a connection is kept without a request
_MOST_KEPT = 16  # connections to one place
_STAGGER = 0.25  # seconds between two tries when a name has several addresses (RFC 8305)
_NO_HEADERS: Mapping[str, str] = {}


class CannotConnect(OSError):
    """No connection came about; `proxy` is the one that could not be reached, if it was one."""

    def __init__(self, reason: OSError, proxy: URL | None) -> None:
        super().__init__(reason.errno, reason.strerror or str(reason))
        self.proxy = proxy


class ConnectTimeout(TimeoutError):
    """No connection came about in time."""


class ProxyRefused(Exception):
    """A proxy did not let the connection through."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Route:
    """How the host of a URL is reached."""

    url: URL
    context: ssl.SSLContext | None = None  # of an https URL
    proxy: URL | None = None  # an http one
    proxy_headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS, repr=False)  # its login

    @property
    def target(self) -> str:
        """What a request names: the path, or all of the URL where a proxy must know it."""
        return str(self.url.with_fragment(None)) if self._is_relayed else self.url.raw_path_qs

    @property
    def authority(self) -> str:
        """Host and port, the port only where it does not go without saying."""
        host = self.url.raw_host or ""
        host = f"[{host}]" if ":" in host else host
        return host if self.url.is_default_port() else f"{host}:{self.url.port}"

    @property
    def key(self) -> object:
        """What a connection must have been made for to serve this URL."""
        peer = self.proxy if self._is_relayed else (self.url.scheme, self.url.raw_host, self.url.port, self.proxy)
        return peer, self.context, tuple(self.proxy_headers.items())

    @property
    def _is_relayed(self) -> bool:
        return self.proxy is not None and self.url.scheme == "http"


class ConnectionPool:
    """The connections of one session, closed with it."""

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver
        self._idle: defaultdict[object, list[Connection]] = defaultdict(list)
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self, route: Route, connect_timeout: float, idle_timeout: float) -> Connection:
        """A connection to a route's host: one that is kept and still stands, else a new one.

        Raises:
            CannotConnect, ConnectTimeout, ProxyRefused, ssl.SSLError, OSError: none came about.
        """
        kept = self._idle[route.key]
        while kept:
            connection = kept.pop()
            if connection.is_quiet:
                connection.idle_timeout = idle_timeout
                return connection
            connection.close()
        try:
            connection = await self._connect(route, connect_timeout, idle_timeout)
        except TimeoutError as exc:
            raise ConnectTimeout from exc
        connection.key, connection.idle_timeout = route.key, idle_timeout
        return connection

    def release(self, connection: Connection) -> None:
        """Keep a connection whose last answer was read to its end."""
        kept = self._idle[connection.key]
        if len(kept) >= _MOST_KEPT or not connection.is_quiet:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        connection.used = loop.time()
        kept.append(connection)
        if self._timer is None:
            self._timer = loop.call_later(_KEPT, self._drop_old)

    def close(self) -> None:
        """Drop all that is kept."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for kept in self._idle.values():
            for connection in kept:
                connection.close()
        self._idle.clear()

    def _drop_old(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for key, kept in list(self._idle.items()):
            for connection in [one for one in kept if one.used + _KEPT <= loop.time()]:
                kept.remove(connection)
                connection.close()
            if not kept:
                del self._idle[key]
        if self._idle:
            self._timer = loop.call_later(_KEPT, self._drop_old)

    async def _connect(self, route: Route, seconds: float, idle_timeout: float) -> Connection:
        peer = route.proxy or route.url
        with anyio.fail_after(seconds):
            found = await self._resolver.resolve(peer.raw_host or "", peer.port or 0, socket.AF_UNSPEC)
            try:
                sock = await aiohappyeyeballs.start_connection(
                    _addresses(found), happy_eyeballs_delay=_STAGGER, interleave=1
                )
            except OSError as exc:
                raise CannotConnect(exc, route.proxy) from exc
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # or the kernel keeps what a dead peer does not take
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(idle_timeout * 1000))
        connection = Connection(sock)
        try:
            if route.context is not None:
                if route.proxy is not None:
                    await _open_tunnel(connection, route, seconds)
                await connection.start_tls(route.context, route.url.raw_host or "", seconds)
        except BaseException:
            connection.close()
            raise
        return connection


def _addresses(found: Sequence[ResolveResult]) -> list[tuple[int, int, int, str, tuple[str | int, ...]]]:
    return [
        (
            one["family"],
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,
            "",
            (one["host"], one["port"], 0, 0) if one["family"] == socket.AF_INET6 else (one["host"], one["port"]),
        )
        for one in found
    ]


async def _open_tunnel(connection: Connection, route: Route, seconds: float) -> None:
    """Spec: RFC 9110, "CONNECT"."""
    host = route.url.raw_host or ""
    place = f"{f'[{host}]' if ':' in host else host}:{route.url.port}"
    await connection.send_head("CONNECT", place, {"Host": place, **route.proxy_headers})
    head = await connection.read_head("CONNECT", seconds)
    if not 200 <= head.status < 300:
        raise ProxyRefused(head.status)


async def make_unverified_context() -> ssl.SSLContext:
    """TLS with whoever answers, where that was asked for."""

    def make() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    return await to_thread.run_sync(make)
