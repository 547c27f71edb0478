"""Bytes that drip, a few at a time and without an end, hold no thread."""

import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio import to_thread

from ocisync.content.transfer.connection import Connection
from ocisync.content.transfer.exchange import BulkAnswer
from ocisync.content.transfer.http_head import parse_head
from ocisync.content.transfer.mover import movers
from ocisync.content.transfer.pool import ConnectionPool

PAUSE, DRIPS = 0.03, 60  # seconds between two bytes, and how many come


def _drip(sock: socket.socket, stop: threading.Event, raw: bytes) -> None:
    for at in range(DRIPS):
        if stop.wait(PAUSE):
            return
        sock.sendall(raw[at : at + 1] or b"x")


@asynccontextmanager
async def _dripping(raw: bytes) -> AsyncIterator[Connection]:
    ours, theirs = socket.socketpair()
    connection, stop = Connection(ours), threading.Event()
    dripping = threading.Thread(target=_drip, args=(theirs, stop, raw))
    dripping.start()
    try:
        yield connection
    finally:
        stop.set()
        await to_thread.run_sync(dripping.join)
        connection.close()
        theirs.close()


async def test_a_thread_goes_back_after_what_came() -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "GET")
    async with _dripping(b"") as connection:
        answer = BulkAnswer(head, "GET", connection, ConnectionPool.__new__(ConnectionPool), is_early=False)
        began = time.monotonic()
        assert len(await answer.read(1_000_000)) < 5
        assert time.monotonic() - began < DRIPS * PAUSE / 3


async def test_a_head_takes_no_thread() -> None:
    async with _dripping(b"HTTP/1.1 204 No\r\nX: y\r\n\r\n") as connection, anyio.create_task_group() as group:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, movers.borrowed_tokens)
                await anyio.sleep(PAUSE / 10)

        group.start_soon(watch)
        head = await connection.read_head("GET", 60)
        group.cancel_scope.cancel()
    assert (head.status, head.headers["X"], most) == (204, "y", 0)


async def test_a_head_that_does_not_end_in_time_is_not_waited_for() -> None:
    async with _dripping(b"HTTP/1.1 200 OK\r\nX: ") as connection:
        with pytest.raises(TimeoutError):
            await connection.read_head("GET", DRIPS * PAUSE / 3)


@pytest.mark.parametrize("length", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_the_words_of_a_refusal_that_drip_are_taken_as_far_as_they_came(
    length: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocisync.content.transfer.exchange._WORDS_TIME", DRIPS * PAUSE / 3)
    head = parse_head(f"HTTP/1.1 503 No\r\n{length}\r\n\r\n".encode(), "GET")
    async with _dripping(b"5\r\nlater\r\n") as connection:
        answer = BulkAnswer(head, "GET", connection, ConnectionPool.__new__(ConnectionPool), is_early=False)
        began = time.monotonic()
        assert b"later" in await answer.read_words(16 * 1024)
        assert time.monotonic() - began < DRIPS * PAUSE * 2 / 3
