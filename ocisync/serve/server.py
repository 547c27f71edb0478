"""A bounded HTTP server: how many connections, how long they may be idle, and who may ask for what on loopback.

`ocisync serve` and the daemon use it alike. What one client can cost is bounded (a descriptor, some 100 KiB), and all
of them together leave half of the process's descriptors to its own work.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import anyio
import structlog
from aiohttp import web, web_protocol
from aiohttp.typedefs import Handler
from yarl import URL

from ocisync.errors import ConfigError
from ocisync.serve.headers import NO_PAGE
from ocisync.serve.log_filter import SERVER_LOGGER
from ocisync.serve.request_limit import PIPELINED, limit_requests
from ocisync.serve.routes import PUBLIC_PAGES

log = structlog.get_logger(__name__)

_BY_ANOTHER_NAME = web.RequestKey("by another name", bool)  # a mark: it came for a host name that is not this machine's
BUFFER = 32 * 1024  # bytes of an answer that wait in memory for a slow reader
RECEIVED = 16 * 1024  # bytes that wait in the kernel to be read; Linux doubles it
UNREAD = 16 * 1024  # bytes of a body that nobody takes; twice as much, and what is read in one go, is in memory
UNSENT = 128 * 1024  # bytes of an answer that wait in the kernel; what is on its way comes on top
MOST_HEADERS = 48  # of a request, of 8 KiB each; browsers and proxies send some 30
_MOST = 4096  # connections
_LOG_EVERY = 60.0  # seconds

_RequestHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What clients may cost."""

    connections: int = 0  # at a time; 0: half of the descriptors that the process may have, 4096 at most
    idle: float = 60.0  # seconds for the headers of a request, and between requests
    body: float = 30.0  # seconds for the body of a request, and for what is done with it
    grace: float = 10.0  # seconds for answers on their way when the server stops


_LIMITS = ServerLimits()


@asynccontextmanager
async def serve(app: web.Application, host: str, port: int, limits: ServerLimits = _LIMITS) -> AsyncIterator[str]:
    """Listen while the context lasts; yields the URL, with the port that the system picked when `port` is 0.

    At the end, answers on their way have `limits.grace` seconds, and as long again to notice that they are cancelled.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    runner = web.AppRunner(
        app, access_log=None, logger=SERVER_LOGGER, handler_cancellation=True, shutdown_timeout=limits.grace,
        keepalive_timeout=limits.idle, lingering_time=2.0, max_headers=MOST_HEADERS, auto_decompress=False,
        read_bufsize=UNREAD,
    )  # fmt: skip
    web_protocol.MAX_MSG_QUEUE_SIZE = PIPELINED  # for connections to come
    limit = ConnectionLimit(limits.connections or _most_connections(), limits.body)
    app.middlewares.insert(0, limit.track)
    if _is_loopback(host):
        app.middlewares.insert(0, check_host)
    app.on_response_prepare.append(_restrict_refusal)
    await runner.setup()
    limit.server = server = cast("web.Server", runner.server)
    server.request_handler = _check_expectation(server.request_handler)
    listener = None
    try:
        listener = await _listen(limit, host, port, limits.idle)
        yield _url(listener)
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(2 * limits.grace + 1):
            if listener is not None:
                listener.close()
            await runner.cleanup()


class ConnectionLimit:
    """Most connections at a time. A new one takes the place of the one that was idle longest.

    Clients that open connections and send nothing, or half of a request, so keep nobody out. When all connections are
    busy, a new one is answered 503 at once.
    """

    def __init__(self, most: int, body_timeout: float) -> None:
        self.most = most
        self._body_timeout = body_timeout  # seconds
        self.server: web.Server | None = None
        self._idle: dict[web.RequestHandler, None] = {}  # in the order in which they became idle
        self._logged = -_LOG_EVERY  # when; by the monotonic clock

    def __call__(self) -> asyncio.BaseProtocol:
        """A protocol for a connection that was accepted."""
        assert self.server is not None
        live = self.server.connections
        if len(self._idle) > 2 * len(live) + 64:  # most of them are closed by now
            self._idle = {one: None for one in self._idle if one in set(live)}
        if len(live) >= self.most and not self._drop_idle():
            return _Overloaded()
        protocol = self.server()
        limit_requests(protocol)
        self._idle[protocol] = None
        return protocol

    @web.middleware
    async def track(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Know a connection as busy while it is answered, and bound its buffer; a body has to come in time."""
        self._idle.pop(request.protocol, None)
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=BUFFER)
        try:
            if not request.can_read_body:
                return await handler(request)
            with anyio.move_on_after(self._body_timeout):
                return await handler(request)
            return web.Response(status=408, text="the body did not come in time\n", headers={"Connection": "close"})
        except RuntimeError:
            if request.transport is not None:
                raise
            return web.Response(status=499)  # the sender left in the middle of the body, which aiohttp tells like that
        finally:
            self._idle[request.protocol] = None

    def _drop_idle(self) -> bool:
        assert self.server is not None
        live = set(self.server.connections)
        while self._idle:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            if oldest in live:
                _drop(oldest)
                self._warn("an idle one was closed for a new one")
                return True
        self._warn("all are busy: a new one was answered 503")
        return False

    def _warn(self, what: str) -> None:
        """Say it, but not for each of thousands."""
        if time.monotonic() - self._logged >= _LOG_EVERY:
            self._logged = time.monotonic()
            log.warning("connections.exhausted", most=self.most, what=what)


def _drop(connection: web.RequestHandler) -> None:
    """Close a connection at once. An answer that nobody reads would keep it open for as long as it is not read."""
    transport = connection.transport
    connection.force_close()
    if transport is not None and transport.get_write_buffer_size():
        transport.abort()


class _Overloaded(asyncio.Protocol):
    """Answers 503 to whatever is asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer and close."""
        head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        cast("asyncio.Transport", transport).write(head)
        transport.close()


@web.middleware
async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse pages for this machine only to whoever came by another name.

    A web page can have its own name lead to 127.0.0.1 ("DNS rebinding") and then read what is served there; its Host
    tells. The registry and its page to browse are public, and proxies pass them on under their own names; probes and
    webhooks come by any name too.
    """
    given = request.headers.get("Host", "localhost")  # browsers send one
    try:
        name = (URL(f"http://{given}").host or "").lower()
    except ValueError:
        name = ""
    if _is_loopback(name) or name.endswith(".localhost"):
        return await handler(request)
    if PUBLIC_PAGES.match(request.path):
        request[_BY_ANOTHER_NAME] = True
        return await handler(request)
    return web.Response(status=421, text="this page is served to this machine only: ask for it as localhost\n")


async def _restrict_refusal(_: web.Request, answer: web.StreamResponse) -> None:
    """What refuses is no page, also where aiohttp writes it."""
    if answer.status >= 400:
        for name, value in NO_PAGE.items():
            answer.headers.setdefault(name, value)


def _check_expectation(handler: _RequestHandler) -> _RequestHandler:
    """Refuse an `Expect` other than 100-continue (RFC 9110, 10.1.1).

    aiohttp would quote it in its answer, which fails for bytes that are no UTF-8: a traceback for each such request.
    No middleware comes before that.
    """

    async def check(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", "100-continue").lower() != "100-continue":
            text = "the only expectation that is met is 100-continue\n"
            return web.Response(status=417, text=text, headers=NO_PAGE)
        return await handler(request)

    return check


def came_by_another_name(request: web.Request) -> bool:
    """Whether a request for a public page of a server on loopback did not come from this machine: by a front."""
    return bool(request.get(_BY_ANOTHER_NAME))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _most_connections() -> int:
    """Half of the descriptors that the process may have: the rest is for its own work."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(16, min(_MOST, soft // 2))


async def _listen(limit: ConnectionLimit, host: str, port: int, idle: float) -> asyncio.Server:
    try:
        listener = await asyncio.get_running_loop().create_server(limit, host, port, backlog=256)
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)  # the loop's own text repeats the address
        raise ConfigError(
            f"cannot listen on {host}:{port}: {reason}; choose another address, or stop what listens there",
            code="listen.failed",
        ) from exc
    for one in listener.sockets:
        _bound_buffers(one.fileno(), idle)
    return listener


def _bound_buffers(listener: int, idle: float) -> None:
    """Let little wait in the kernel in both directions; connections inherit it.

    What was sent to us is read whole, up to a quarter of a MiB at a time, and kept while requests before it are
    answered. Linux lets what was not sent yet grow to 4 MiB for each connection, and when all of them together reach
    its limit, every connection of the machine becomes slow. A slow reader has `idle` seconds, also for short answers to
    who asks again and again and reads nothing: aiohttp waits for such a client without an end. Long answers have their
    own.
    """
    bounds = {"TCP_NOTSENT_LOWAT": UNSENT, "TCP_USER_TIMEOUT": int(idle * 1000)}
    with socket.socket(fileno=os.dup(listener)) as own:  # the loop's own object takes no options
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED)
        for name, value in bounds.items():
            if hasattr(socket, name):
                own.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _url(listener: asyncio.Server) -> str:
    host, port = listener.sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
