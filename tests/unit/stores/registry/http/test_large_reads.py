"""Reading a connection into a shared buffer."""

import asyncio

import pytest
from aiohttp.client_proto import ResponseHandler

from ocisync.stores.registry.http.large_reads import PIECE, LargeReadProtocol
from ocisync.stores.registry.http.session import open_session

pytestmark = pytest.mark.anyio
_BODY = bytes(range(256)) * (4 * PIECE // 256)


class _Reader(ResponseHandler):
    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.seen: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.seen.append(data)


async def test_what_was_handed_over_stays_as_it_was_when_the_buffer_is_used_again() -> None:
    reader, buffer = _Reader(), memoryview(bytearray(4))
    receivers = [LargeReadProtocol(reader, buffer), LargeReadProtocol(reader, buffer)]
    for receiver, data in zip(receivers, (b"one", b"four"), strict=True):
        receiver.get_buffer(-1)[: len(data)] = data
        receiver.buffer_updated(len(data))
    assert reader.seen == [b"one", b"four"]


async def test_a_connection_is_read_by_it_and_the_body_is_whole() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_BODY) + _BODY)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_session() as session, session.get(f"http://127.0.0.1:{port}/") as response:
        assert response.connection is not None
        assert response.connection.transport is not None
        assert isinstance(response.connection.transport.get_protocol(), LargeReadProtocol)
        assert await response.read() == _BODY
