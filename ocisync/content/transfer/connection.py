"""HTTP connections whose bytes are moved by threads. Sockets never block: the event loop waits for them.

One request at a time is under way on a connection. Who may be asked, with which credentials, certificates and proxy,
and what an answer means, is decided by the callers: here are bytes only.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from ocisync.content.transfer.http_head import LONGEST, Head, parse_head, render_head, split_head
from ocisync.content.transfer.mover import PATIENCE, may_wait, run_mover

_T = TypeVar("_T")
_ENOUGH = 256 * 1024  # bytes; so much is worth hashing and sending at once
_HEAD = 16 * 1024  # bytes that are read at a time for a head
_GATHER = 0.004  # seconds that bytes get to gather when they come slowly
_BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class EarlyAnswer(Exception):
    """The other side answered before it had the whole body."""


@dataclass(slots=True)
class Connection:
    """One connection. What the methods raise is an OSError, ssl.SSLError or http.client.HTTPException."""

    sock: socket.socket
    key: object = None  # what it can be used for
    used: float = 0.0  # when it was given back; seconds of the loop's clock
    idle_timeout: float = 60.0  # seconds
    _ahead: bytes = b""  # what came behind a head
    _failure: OSError | None = None  # that the next read meets
    _starved: bool = False  # whether a thread found nothing to read
    _since: int = 0  # bytes since it last waited
    _reading: select.poll = field(default_factory=select.poll)
    _writing: select.poll = field(default_factory=select.poll)

    def __post_init__(self) -> None:
        self._watch()

    async def start_tls(self, context: ssl.SSLContext, hostname: str, seconds: float) -> None:
        """Begin TLS; raises ssl.SSLError, and TimeoutError when that takes longer than so many seconds."""
        self.sock = context.wrap_socket(self.sock, server_hostname=hostname, do_handshake_on_connect=False)
        self._watch()
        await self._repeat(self._shake_hands, seconds)

    async def send_head(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        """Send a request's head; it is short, so the event loop does it."""
        rest = memoryview(render_head(method, target, headers))
        while rest:
            try:
                rest = rest[self.sock.send(rest) :]
            except _BLOCKED:
                await self.wait_writable()

    async def read_head(self, method: str, seconds: float) -> Head:
        """The answer's head, read by the event loop; raises TimeoutError when it does not come in so many seconds."""
        with anyio.fail_after(seconds):
            while (found := split_head(self._ahead)) is None:
                await self._read_ahead()
        raw, self._ahead = found
        self._since = 0
        return parse_head(raw, method)

    def read_into(self, buffer: memoryview, *, is_patient: bool = True) -> int | None:
        """In a thread: some bytes; 0 at the connection's end; None: nothing came.

        Who reads again and again without an end of a turn must not be patient: bytes that drip would hold the thread.
        """
        filled = 0
        if self._failure is not None:
            raise self._failure
        if self._ahead:
            filled = min(len(buffer), len(self._ahead))
            buffer[:filled], self._ahead = self._ahead[:filled], self._ahead[filled:]
        while filled < min(len(buffer), _ENOUGH):
            try:
                count = self.sock.recv_into(buffer[filled:])
            except _BLOCKED:
                if filled:
                    break
                if not self._reading.poll((may_wait() if is_patient else PATIENCE) * 1000):
                    self._starved = True
                    return None
                continue
            except OSError as exc:
                if not filled:
                    raise
                self._failure = exc  # what came before it counts
                break
            if not count:
                break
            filled += count
        self._since += filled
        return filled

    def write(self, data: memoryview) -> int:
        """In a thread: how many bytes were taken; raises EarlyAnswer when something came back meanwhile."""
        if self._reading.poll(0):
            self._look_for_answer()
        for is_first in (True, False):
            try:
                return self.sock.send(data)
            except _BLOCKED:
                if is_first and not self._writing.poll(may_wait() * 1000):
                    break
        return 0

    async def wait_readable(self, seconds: float | None = None) -> None:
        """Return when there is something to read, at once unless a thread just found nothing.

        What comes slowly is left to gather a little, so that a thread is worth while. Raises TimeoutError.
        """
        if not self._starved:
            return
        self._starved = False
        with anyio.fail_after(self.idle_timeout if seconds is None else seconds):
            await anyio.wait_readable(self.sock)
        if 0 < self._since < _ENOUGH:
            await anyio.sleep(_GATHER)
        self._since = 0

    async def wait_writable(self) -> None:
        """Return when the other side takes more; raises TimeoutError."""
        with anyio.fail_after(self.idle_timeout):
            await anyio.wait_writable(self.sock)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing came, be it bytes or the end."""
        return not self._ahead and not self._reading.poll(0)

    def close(self) -> None:
        """Drop it, with what has not left yet."""
        self.sock.close()

    def _watch(self) -> None:
        self.sock.setblocking(False)
        self._reading, self._writing = select.poll(), select.poll()
        self._reading.register(self.sock, select.POLLIN | select.POLLRDHUP)
        self._writing.register(self.sock, select.POLLOUT)

    async def _repeat(self, act: Callable[[], _T | None], seconds: float) -> _T:
        """What an act gives in a thread, done again as long as it finds nothing to read."""
        with anyio.fail_after(seconds):
            while (result := await run_mover(act)) is None:
                self._starved = True
                await self.wait_readable(seconds)
        return result

    def _shake_hands(self) -> bool | None:
        assert isinstance(self.sock, ssl.SSLSocket), "start_tls wrapped it"
        while True:
            try:
                self.sock.do_handshake()
            except _BLOCKED:
                if not self._reading.poll(PATIENCE * 1000):
                    return None
            else:
                return True

    async def _read_ahead(self) -> None:
        """More of a head. What drips is left to gather, so that it does not keep the event loop busy."""
        if len(self._ahead) >= LONGEST:
            raise http.client.LineTooLong("head")
        if self._ahead:
            await anyio.sleep(_GATHER)
        try:
            received = self.sock.recv(_HEAD)
        except _BLOCKED:
            await anyio.wait_readable(self.sock)
            return
        if not received:
            raise http.client.RemoteDisconnected("the server closed the connection without an answer")
        self._ahead += received

    def _look_for_answer(self) -> None:
        """See whether it is an answer: TLS sends its own messages, which are none."""
        byte = bytearray(1)
        try:
            if not self.sock.recv_into(byte):
                raise BrokenPipeError("the server closed the connection")
        except _BLOCKED:
            return
        self._ahead += byte
        raise EarlyAnswer
