"""One HTTP request whose body, or whose answer's, is moved by threads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import anyio
from multidict import CIMultiDictProxy

from ocisync.content.openers import BulkReader
from ocisync.content.transfer.connection import Connection, EarlyAnswer
from ocisync.content.transfer.http_head import Head, decode_body
from ocisync.content.transfer.mover import BulkCheck, Transfer, run_mover
from ocisync.content.transfer.pool import ConnectionPool, Route

_END_OF_CHUNKS = b"0\r\n\r\n"
_WORDS_TIME = 30.0  # seconds for the body of an answer that only says why


class Patience(NamedTuple):
    """How long the other side may take, each in seconds."""

    connect: float
    idle: float  # without a byte
    answer: float  # until the answer's head, once the request has left


class BulkBody:
    """The body of one upload, read and checked while it is sent; it can be sent once."""

    def __init__(self, reader: BulkReader, check: BulkCheck, length: int) -> None:
        self.length = length  # bytes
        self.failure: Exception | None = None  # what the source or the check raised
        self._reader = reader
        self._check = check

    async def send(self, connection: Connection) -> None:
        """Send it; raises EarlyAnswer when something came back before its end."""
        transfer = Transfer(self._reader, self._check, connection, self.length)
        try:
            await transfer.run()
        finally:
            self.failure = transfer.failure


class BulkAnswer:
    """Status, headers, and a body that a thread reads; whoever gets one closes it."""

    def __init__(
        self, head: Head, method: str, connection: Connection, pool: ConnectionPool, *, is_early: bool
    ) -> None:
        self.status = head.status
        self.headers: CIMultiDictProxy[str] = head.headers
        self.left = head.length  # bytes of the body that are still to come; None: unknown
        self._head = head
        self._method = method
        self._connection: Connection | None = connection
        self._pool = pool
        self._is_early = is_early

    async def wait_readable(self) -> None:
        """Return when a thread may read on; raises TimeoutError when nothing came for too long."""
        await self._open_connection.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        """In a thread: some bytes; 0 at the end, also where it comes too early (`left`); None: nothing came."""
        return self._read_piece(buffer, is_patient=True)

    def _read_piece(self, buffer: memoryview, *, is_patient: bool) -> int | None:
        if self.left is None:
            return self._open_connection.read_into(buffer, is_patient=is_patient)
        if not self.left:
            return 0
        count = self._open_connection.read_into(buffer[: self.left], is_patient=is_patient)
        self.left -= count or 0
        return count

    async def read(self, limit: int) -> bytes:
        """The next bytes of the body, at least one unless it ends; raises TimeoutError."""
        buffer = memoryview(bytearray(limit))
        while (count := await run_mover(partial(self._fill, buffer))) is None:
            await self.wait_readable()
        return bytes(buffer[:count])

    def _fill(self, buffer: memoryview) -> int | None:
        """In a thread: as many bytes as come without waiting, so that a hop brings a whole chunk."""
        filled = 0
        while filled < len(buffer):
            try:
                count = self._read_piece(buffer[filled:], is_patient=False)
            except OSError:
                if filled:
                    break  # what came counts; the next reading meets the failure
                raise
            if not count:
                return filled or count
            filled += count
        return filled

    async def read_words(self, limit: int) -> bytes:
        """The beginning of a short body, in whichever way it is sent; what breaks off or drips is taken as it came."""
        raw = b""
        with anyio.move_on_after(_WORDS_TIME):
            while self.left != 0 and len(raw) < limit and not (self.left is None and raw.endswith(_END_OF_CHUNKS)):
                try:
                    piece = await self.read(limit)
                except OSError:
                    break
                if not piece:
                    break
                raw += piece
        return raw if self._head.length is not None else decode_body(self._head.raw, raw, self._method)

    def close(self) -> None:
        """Give the connection back, or drop it when more is to come; harmless when repeated."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self.left == 0 and self._head.keeps_open and not self._is_early:
            self._pool.release(connection)
        else:
            connection.close()

    @property
    def _open_connection(self) -> Connection:
        if self._connection is None:
            raise ConnectionError("the answer was closed")
        return self._connection


async def exchange(
    pool: ConnectionPool,
    route: Route,
    method: str,
    headers: Mapping[str, str],
    patience: Patience,
    body: BulkBody | None = None,
) -> BulkAnswer:
    """Send a request, and return its answer whatever the status.

    Raises:
        OSError, ssl.SSLError, http.client.HTTPException, ProxyRefused: no answer came; TimeoutError: not in time.
        OcisyncError: what the body's source or its check raised, which `body.failure` is.
    """
    connection = await pool.acquire(route, patience.connect, patience.idle)
    is_early = False
    try:
        await connection.send_head(method, route.target, {"Host": route.authority, **headers})
        if body is not None:
            is_early = not await _send_body(connection, body)
        head = await connection.read_head(method, patience.answer)
    except BaseException:
        connection.close()
        raise
    return BulkAnswer(head, method, connection, pool, is_early=is_early)


async def _send_body(connection: Connection, body: BulkBody) -> bool:
    """Send a body; False when an answer came before its end, which says why.

    Who refuses a body may answer and close at once: then the answer, if there is one, lies behind a broken pipe.
    """
    try:
        await body.send(connection)
    except EarlyAnswer:
        return False
    except OSError as exc:
        if isinstance(exc, TimeoutError) or body.failure is not None:
            raise
        return False
    return True
