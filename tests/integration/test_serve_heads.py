"""Heads of requests: how long one may be, also one without an end, and what those of many connections cost."""

import sys
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync

from ocisync.serve.head_limit import HEAD
from ocisync.serve.server import ServerLimits
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


def test_long_heads_of_many_connections_take_little_memory(tmp_path: Path) -> None:
    """Each connection sends heads for as long as they are taken, and reads nothing."""
    (tmp_path / "v2/app/manifests").mkdir(parents=True)
    (tmp_path / "v2/app/manifests/1").write_text("{}")
    port = free_port()
    command = [sys.executable, "-m", "ocisync", "serve", str(tmp_path), "--listen", f"127.0.0.1:{port}"]
    with running(command, tmp_path) as started, ExitStack() as stack:
        started.wait_until(partial(answers, port), "the server to answer")
        before = memory(started.process.pid)
        for _ in range(100):
            one = stack.enter_context(connection(port, b""))
            one.settimeout(0.1)
            with suppress(TimeoutError, ConnectionError):
                for _ in range(10):
                    one.sendall(headers(40, 8000) + b"\r\n")
        time.sleep(1)
        assert memory(started.process.pid) - before <= 40 * MIB
