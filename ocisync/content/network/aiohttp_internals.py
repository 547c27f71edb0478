"""What ocisync uses of aiohttp that aiohttp does not promise to keep: two names that begin with an underscore.

They are used nowhere else, and `tests/unit/content/test_aiohttp_internals.py` fails when a new version of aiohttp drops
one of them or changes what it does. docs/adr/0007-aiohttp-internals.md has the reasons.

- `TCPConnector._wrap_create_connection` makes a connection for a protocol factory. It is the only place where the
  protocol that reads the connection can be replaced: uvloop hands a plain protocol pieces of at most 256 KiB, and a
  buffered one as much as its buffer holds. Large pieces save a fifth of the CPU time of a large blob; small ones
  bound what waits in memory for each of many slow clients.
- `ClientSession._retry_connection` lets aiohttp send a request again when a kept-alive connection was closed before it
  answered. A body that is read from a stream cannot be sent again: its rest would be taken for its whole.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

PIECE = 768 * 1024  # bytes; less costs CPU time, more costs memory, of which a transfer holds five


def never_resend(session: aiohttp.ClientSession) -> None:
    """Leave it to the caller whether a request whose connection was closed is sent again."""
    session._retry_connection = False


class SizedReadConnector(aiohttp.TCPConnector):
    """A pool of connections that are read in pieces of one size, into a buffer that they share."""

    def __init__(self, *, piece: int = PIECE, **options: Any) -> None:
        super().__init__(**options)
        self._buffer = memoryview(bytearray(piece))

    async def _wrap_create_connection(self, *args: Any, **options: Any) -> tuple[asyncio.Transport, ResponseHandler]:
        make_reader, *others = args

        def make_protocol() -> SizedReadProtocol:
            return SizedReadProtocol(make_reader(), self._buffer)

        transport, protocol = await super()._wrap_create_connection(make_protocol, *others, **options)
        return transport, cast("SizedReadProtocol", protocol).reader


class SizedReadProtocol(asyncio.BufferedProtocol):
    """Reads a connection for aiohttp, up to a piece at a time, into a buffer that all connections share.

    Sharing is safe because `buffer_updated` copies what has come before the loop can read for another connection.
    """

    def __init__(self, reader: ResponseHandler, buffer: memoryview) -> None:
        self.reader = reader
        self._buffer = buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell aiohttp that the connection stands."""
        self.reader.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell aiohttp that the connection is gone."""
        self.reader.connection_lost(exc)

    def eof_received(self) -> None:
        """Tell aiohttp that nothing more will come."""
        self.reader.eof_received()

    def pause_writing(self) -> None:
        """Tell aiohttp to stop writing for now."""
        self.reader.pause_writing()

    def resume_writing(self) -> None:
        """Tell aiohttp to go on writing."""
        self.reader.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        """The buffer to read into; the loop's hint, which is smaller, does not matter."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Give aiohttp a copy of what has come."""
        self.reader.data_received(bytes(self._buffer[:nbytes]))
