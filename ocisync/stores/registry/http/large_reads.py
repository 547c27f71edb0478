"""Larger pieces from the network than uvloop's quarter of a MiB: a fifth of the CPU time of a large blob."""

from __future__ import annotations

import asyncio

from aiohttp.client_proto import ResponseHandler

PIECE = 768 * 1024  # bytes; less costs CPU time, more costs memory, of which a transfer holds five


class LargeReadProtocol(asyncio.BufferedProtocol):
    """Reads a connection for aiohttp, up to `PIECE` at a time, into a buffer that the connections of a loop share."""

    def __init__(self, reader: ResponseHandler, buffer: memoryview) -> None:
        self.reader = reader
        self._buffer = buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let aiohttp know."""
        self.reader.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let aiohttp know."""
        self.reader.connection_lost(exc)

    def eof_received(self) -> None:
        """Let aiohttp know."""
        self.reader.eof_received()

    def pause_writing(self) -> None:
        """Let aiohttp know."""
        self.reader.pause_writing()

    def resume_writing(self) -> None:
        """Let aiohttp know."""
        self.reader.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to, whatever is thought enough."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over a copy of what has come."""
        self.reader.data_received(bytes(self._buffer[:nbytes]))
