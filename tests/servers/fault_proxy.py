"""A proxy between ocisync and a real server that does to chosen requests what networks and servers do."""

import re
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream, TaskGroup
from anyio.lowlevel import checkpoint
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSListener

from .faults import Action, Answer, Body, Cut, Exchange
from .loop import in_thread
from .messages import Head, Headers, read_body, read_head, write_body
from .tls import Certificate

_BODILESS = (204, 304)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, zero seconds
_TLS_HANDSHAKE = b"\x16"
_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, anyio.IncompleteRead, OSError)


@dataclass(slots=True)
class Rule:
    """An action for the requests that match; the first matching rule acts.

    `method` must match wholly, `path` anywhere in the target with its query. The first `skip` matches pass, then
    `times` are acted on (None: all).
    """

    action: Action
    method: str = ".*"
    path: str = ""
    times: int | None = None
    skip: int = 0
    hits: int = 0

    def takes(self, method: str, path: str) -> bool:
        """Whether to act on this request; counts it."""
        if not re.fullmatch(self.method, method) or not re.search(self.path, path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


@dataclass(slots=True)
class Recorded:
    """One request as the proxy saw it; sizes are bytes of bodies, `status` is 0 while there is no reply."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    status: int = 0
    received: int = 0
    sent: int = 0
    faulty: bool = False


@dataclass(slots=True)
class FaultProxy:
    """A running proxy. Rules may be added and cleared at any time."""

    upstream: str
    url: str = ""
    rules: list[Rule] = field(default_factory=list)
    requests: list[Recorded] = field(default_factory=list)

    @property
    def host(self) -> str:
        """`127.0.0.1:port`, as a reference begins."""
        return urlsplit(self.url).netloc

    def on(self, method: str, path: str, action: Action, *, times: int | None = None, skip: int = 0) -> Rule:
        """Add a rule; `rule.hits` tells how often it acted."""
        rule = Rule(action, method, path, times, skip)
        self.rules.append(rule)
        return rule

    def seen(self, method: str = ".*", path: str = "") -> list[Recorded]:
        """The recorded requests that match, as a rule would."""
        return [one for one in self.requests if re.fullmatch(method, one.method) and re.search(path, one.path)]

    async def serve(self, client: ByteStream) -> None:
        """One client connection, to its end."""
        stream = BufferedByteReceiveStream(client)
        try:
            first = await client.receive()
            if first.startswith(_TLS_HANDSHAKE):  # skopeo tries https first; hang up at once, as servers do
                return
            stream.feed_data(first)
            while await self._exchange(client, stream):
                pass
        except Cut as cut:
            if cut.reset:
                raw: socket.socket = client.extra(SocketAttribute.raw_socket)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                await anyio.aclose_forcefully(client)
        except _GONE:
            pass
        finally:
            await anyio.aclose_forcefully(client)

    async def _exchange(self, client: ByteStream, stream: BufferedByteReceiveStream) -> bool:
        """One request and its reply; whether the connection stays open."""
        head = await read_head(stream)
        method, path, _ = head.start
        record = Recorded(method, path, {name.lower(): value for name, value in head.headers.pairs})
        rule = next((rule for rule in self.rules if rule.takes(method, path)), None)
        record.faulty = rule is not None
        self.requests.append(record)
        if head.headers.get("Expect"):
            head.headers.drop("Expect")
            await client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        exchange = Exchange(head, _counted(read_body(stream, head.headers, to_end=False), record, "received"))
        await self._answer(client, exchange, rule.action if rule else Action(), record)
        return head.headers.get("Connection").lower() != "close"

    async def _answer(self, client: ByteStream, exchange: Exchange, action: Action, record: Recorded) -> None:
        if own := await action.before(exchange):
            await _reply(client, own, record)
            return
        parts = urlsplit(self.upstream)
        async with await anyio.connect_tcp(parts.hostname or "", parts.port or 80) as server:
            answer = await _forward(server, exchange)
            record.status = answer.status
            await action.after(answer)
            await _reply(client, answer, record)


async def _forward(server: SocketStream, exchange: Exchange) -> Answer:
    """Send the request on, with the client's Host, on a connection of its own."""
    method, path, version = exchange.head.start
    outgoing = Head((method, path, version), Headers(list(exchange.head.headers.pairs)))
    outgoing.headers.set("Connection", "close")
    try:
        await server.send(outgoing.encode())
        await write_body(server, exchange.head.headers, exchange.body)
    except (anyio.BrokenResourceError, ConnectionError):  # the server answered before it had read everything
        async for _ in exchange.body:
            pass
    stream = BufferedByteReceiveStream(server)
    head = await read_head(stream)
    status = int(head.start[1])
    empty = method == "HEAD" or status in _BODILESS
    body = read_body(stream, Headers() if empty else head.headers, to_end=not empty)
    head.headers.drop("Connection")
    return Answer(status, head.headers, body, head.start[2])


async def _reply(client: ByteStream, answer: Answer, record: Recorded) -> None:
    record.status = answer.status
    bodiless = record.method == "HEAD" or answer.status in _BODILESS
    framed = answer.headers.chunked or answer.headers.get("Content-Length") or bodiless
    if not framed:
        answer.headers.set("Transfer-Encoding", "chunked")
    await client.send(Head(("HTTP/1.1", str(answer.status), answer.reason), answer.headers).encode())
    if not bodiless:
        await write_body(client, answer.headers, _counted(answer.body, record, "sent"))


async def _counted(body: Body, record: Recorded, name: str) -> AsyncIterator[bytes]:
    async for piece in body:
        setattr(record, name, getattr(record, name) + len(piece))
        yield piece


@contextmanager
def fault_proxy(upstream: str, tls: Certificate | None = None) -> Iterator[FaultProxy]:
    """A proxy on loopback in front of `upstream` (an http origin), itself on https when a certificate is given."""
    proxy = FaultProxy(upstream)

    @asynccontextmanager
    async def serving() -> AsyncIterator[str]:
        plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
        listener = TLSListener(plain, tls.server_context(), standard_compatible=False) if tls else plain
        accepting = anyio.CancelScope()

        async def accept(tasks: TaskGroup) -> None:
            with accepting:
                await listener.serve(proxy.serve, tasks)

        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(accept, tasks)
            port = plain.extra(SocketAttribute.local_port)
            yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
            accepting.cancel()
            for _ in range(3):  # whoever was accepted last begins: a task that never did would close nothing
                await checkpoint()
            tasks.cancel_scope.cancel()

    with in_thread(serving) as proxy.url:
        yield proxy
