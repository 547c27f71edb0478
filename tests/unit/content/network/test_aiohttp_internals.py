"""What is used of aiohttp beside its public names: these tests tell when a new version of it breaks that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from ocisync.content.network.aiohttp_internals import PIECE, SizedReadConnector, SizedReadProtocol, never_resend

pytestmark = pytest.mark.anyio
_BODY = bytes(range(256)) * (4 * PIECE // 256)
_EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class _Reader(ResponseHandler):
    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.seen: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.seen.append(data)


async def test_what_was_handed_over_stays_as_it_was_when_the_buffer_is_used_again() -> None:
    reader, buffer = _Reader(), memoryview(bytearray(4))
    receivers = [SizedReadProtocol(reader, buffer), SizedReadProtocol(reader, buffer)]
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
    async with (
        server,
        aiohttp.ClientSession(connector=SizedReadConnector()) as session,
        session.get(f"http://127.0.0.1:{port}/") as response,
    ):
        assert response.connection is not None
        assert response.connection.transport is not None
        assert isinstance(response.connection.transport.get_protocol(), SizedReadProtocol)
        assert await response.read() == _BODY


@asynccontextmanager
async def forgetful_server() -> AsyncIterator[tuple[str, list[int]]]:
    """A server that answers the first request of each connection, and closes it at the second without an answer."""
    requests: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client has closed the connection before
            for position in range(2):
                await reader.readuntil(b"\r\n\r\n")
                requests.append(position)
                if position == 0:
                    writer.write(_EMPTY)
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", requests


async def test_a_request_whose_connection_was_closed_is_not_sent_again_behind_our_back() -> None:
    async with forgetful_server() as (url, requests), aiohttp.ClientSession() as session:
        never_resend(session)
        await session.put(url)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.put(url)
    assert requests == [0, 1]


async def test_aiohttp_itself_sends_it_again_so_that_the_switch_is_needed() -> None:
    async with forgetful_server() as (url, requests), aiohttp.ClientSession() as session:
        await session.put(url)
        await session.put(url)
    assert requests == [0, 1, 0]
