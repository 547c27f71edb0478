"""Heads and chunked bodies of requests: how long one may be, also without an end, and what many connections cost."""

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from anyio.to_thread import run_sync

from ocisync.serve.log_filter import SERVER_LOGGER
from ocisync.serve.request_limit import FRAMING, HEAD
from ocisync.serve.server import UNREAD, ServerLimits
from tests.integration.serving import drain
from tests.integration.test_serve_bounds import MIB, answers, connection, memory, server
from tests.servers.process import free_port, running

BODY = b"x" * 300_000
POST = f"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n".encode()


def headers(count: int, size: int) -> bytes:
    """The beginning of a head: so many headers of so many bytes."""
    lines = (f"X-{number}: ".encode().ljust(size - 2, b"a") + b"\r\n" for number in range(count))
    return b"GET /fast HTTP/1.1\r\nHost: localhost\r\n" + b"".join(lines)


TOO_LONG = headers(HEAD // 1024 + 1, 1024)
LONG = headers(HEAD // 1024 - 2, 1024) + b"\r\n"
SHORT = headers(1, 100) + b"\r\n"


async def converse(sent: bytes, piece: int) -> bytes:
    """What the server answers until it closes the connection."""
    async with server(ServerLimits(idle=60)) as (_, port):
        with connection(port, b"") as one, anyio.fail_after(8):
            for start in range(0, len(sent), piece):
                await run_sync(one.sendall, sent[start : start + piece])
                await anyio.sleep(0.01)
            return await run_sync(drain, one)


@pytest.mark.parametrize("piece", [5000, 1 << 20])
@pytest.mark.parametrize(
    ("sent", "good"),
    [
        (TOO_LONG + b"\r\n", 0),
        (TOO_LONG, 0),
        (SHORT + TOO_LONG + b"\r\n", 1),
        (POST + b"\r\n" + BODY + TOO_LONG + b"\r\n", 1),
    ],
    ids=["whole", "without an end", "the second", "after a body"],
)
async def test_a_head_that_is_too_long_is_refused(sent: bytes, good: int, piece: int) -> None:
    answer = await converse(sent, piece)
    assert answer.count(b" 431 ") == 1
    assert answer.count(b" 200 ") in {good, 0}  # what came in one piece with it may go unanswered


@pytest.mark.parametrize("piece", [5000, 1 << 20])
async def test_long_heads_and_longer_bodies_are_taken(piece: int) -> None:
    answer = await converse(LONG + LONG + POST + b"Connection: close\r\n\r\n" + BODY, piece)
    assert answer.count(b" 200 ") == 3
    assert answer.endswith(str(len(BODY)).encode())


def chunks(body: bytes, size: int) -> bytes:
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


CHUNKED = b"POST /read HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
CLOSE = b"GET /fast HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("piece", [5000, 1 << 20])
@pytest.mark.parametrize("size", [1, 64, 70_000])
async def test_chunks_are_taken(size: int, piece: int) -> None:
    body = BODY if size > 1 else BODY[:1000]
    answer = await converse((CHUNKED + chunks(body, size) + END) * 3 + CLOSE, piece)
    assert answer.count(b" 200 ") == 4
    assert answer.count(f"\r\n\r\n{len(body)}HTTP".encode()) == 3


@pytest.mark.parametrize("piece", [5000, 1 << 20])
@pytest.mark.parametrize("size", [1, 2 * UNREAD - 10, 2 * UNREAD + 10, 2 * UNREAD + 5000, 100_000])
async def test_a_body_that_nobody_reads_keeps_no_request_waiting(size: int, piece: int) -> None:
    post = f"POST /fast HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
    answer = await converse((post + b"x" * size) * 2 + CLOSE, piece)
    assert (answer.count(b" 405 "), answer.count(b" 200 ")) == (2, 1)


@pytest.mark.parametrize("piece", [5000, 1 << 20])
@pytest.mark.parametrize(
    "sent",
    [
        chunks(BODY[: 2 * FRAMING], 1),
        b"1;" + b"a" * 3 * FRAMING,
        b"0" * 3 * FRAMING,
        b"1\r\na\r\n0\r\n" + b"".join(b"T%d: %b\r\n" % (number, b"a" * 4000) for number in range(6)),
    ],
    ids=["of a byte", "extension", "size", "trailers"],
)
async def test_a_body_of_next_to_nothing_but_chunks_ends_the_connection(sent: bytes, piece: int) -> None:
    with suppress(ConnectionError):
        assert await converse(CHUNKED + sent, piece) == b""


@contextmanager
def serving(folder: Path) -> Iterator[tuple[int, int]]:
    """`ocisync serve` of one manifest: its port and its process."""
    (folder / "v2/app/manifests").mkdir(parents=True)
    (folder / "v2/app/manifests/1").write_text("{}")
    port = free_port()
    command = [sys.executable, "-m", "ocisync", "serve", str(folder), "--listen", f"127.0.0.1:{port}"]
    with running(command, folder) as started:
        started.wait_until(partial(answers, port), "the server to answer")
        yield port, started.process.pid


def send_most(one: socket.socket, data: bytes) -> None:
    """Send what is taken, without waiting for more to be."""
    one.setblocking(False)
    with suppress(BlockingIOError, ConnectionError):
        while data:
            data = data[one.send(data) :]


def test_bodies_that_nobody_reads_take_little_memory(tmp_path: Path) -> None:
    """The answer is long and not read either, so that the connection stays."""
    blob = tmp_path / "v2/app/blobs" / ("sha256:" + "a" * 64)
    blob.parent.mkdir(parents=True)
    with blob.open("wb") as file:
        file.truncate(64 * MIB)
    get = f"GET /v2/app/blobs/{blob.name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MIB}\r\n\r\n".encode()
    with serving(tmp_path) as (port, pid), ExitStack() as stack:
        before = memory(pid)
        for _ in range(100):
            send_most(stack.enter_context(connection(port, b"")), get + bytes(MIB))
        assert answers(port)
        assert memory(pid) - before <= 25 * MIB


def test_chunks_of_a_byte_take_little_memory(tmp_path: Path) -> None:
    """They come without an end, are answered 405, and nothing of them stays."""
    sent = CHUNKED.replace(b"/read", b"/v2/") + chunks(BODY, 1)
    with serving(tmp_path) as (port, pid):
        before = memory(pid)
        for _ in range(3):
            with ExitStack() as stack:
                for _ in range(100):
                    send_most(stack.enter_context(connection(port, b"")), sent)
                assert answers(port)
        assert memory(pid) - before <= 40 * MIB


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost:a\r\n\r\n", POST + b"\r\n" + BODY], ids=["heads", "body"])
def test_what_waits_behind_unread_answers_takes_little_memory(sent: bytes, tmp_path: Path) -> None:
    with serving(tmp_path) as (port, pid), ExitStack() as stack:
        before = memory(pid)
        for _ in range(100):
            send_most(stack.enter_context(connection(port, b"")), sent * (2 * MIB // len(sent)))
        assert answers(port)
        assert memory(pid) - before <= 30 * MIB


@pytest.mark.parametrize("path", [b"/read", b"/fast"])  # of which one answers 405 at once
async def test_a_sender_that_leaves_in_the_middle_of_a_body_is_no_error(
    path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with server(ServerLimits()) as (_, port):
        for _ in range(20):
            with connection(port, CHUNKED.replace(b"/read", path)) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
                await anyio.sleep(0.01)
                one.sendall(chunks(b"x" * 100, 50) + chunks(BODY[: 2 * FRAMING], 1))
        await anyio.sleep(0.1)
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


async def test_what_aiohttp_says_of_a_sender_that_left_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    body = StreamReader(BaseProtocol(loop), 10, loop=loop)
    with pytest.raises(RuntimeError) as caught:
        await body.readany()
    SERVER_LOGGER.error("Unhandled exception", exc_info=caught.value)
    assert caplog.text == ""
    SERVER_LOGGER.error("Unhandled exception", exc_info=RuntimeError("a defect"))
    assert "a defect" in caplog.text


def test_long_heads_of_many_connections_take_little_memory(tmp_path: Path) -> None:
    """Each connection sends heads for as long as they are taken, and reads nothing."""
    with serving(tmp_path) as (port, pid), ExitStack() as stack:
        before = memory(pid)
        for _ in range(100):
            send_most(stack.enter_context(connection(port, b"")), (headers(40, 8000) + b"\r\n") * 10)
        assert answers(port)
        assert memory(pid) - before <= 40 * MIB
