"""Bytes that drip, a few at a time and without an end, hold no thread."""

import socket
import threading
import time

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread

from ocisync.content.transfer.connection import Connection
from ocisync.content.transfer.exchange import BulkAnswer
from ocisync.content.transfer.http_head import parse_head
from ocisync.content.transfer.pool import ConnectionPool

PAUSE, DRIPS = 0.03, 60  # seconds between two bytes, and how many come


def _drip(sock: socket.socket, stop: threading.Event, raw: bytes) -> None:
    for at in range(DRIPS):
        if stop.wait(PAUSE):
            return
        sock.sendall(raw[at : at + 1] or b"x")


@pytest.mark.parametrize("what", ["body", "head"])
async def test_a_thread_goes_back_after_what_came(what: str) -> None:
    ours, theirs = socket.socketpair()
    connection, stop = Connection(ours), threading.Event()
    dripping = threading.Thread(target=_drip, args=(theirs, stop, b"HTTP/1.1 200 OK\r\nX: "))
    dripping.start()
    try:
        if what == "body":
            head = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "GET")
            answer = BulkAnswer(head, "GET", connection, ConnectionPool.__new__(ConnectionPool), is_early=False)
            began = time.monotonic()
            assert len(await answer.read(1_000_000)) < 5
            assert time.monotonic() - began < DRIPS * PAUSE / 3
        else:
            longest, began = 0.0, time.monotonic()
            while time.monotonic() - began < DRIPS * PAUSE / 2:
                asked = time.monotonic()
                await to_thread.run_sync(connection._read_head, "GET")
                longest = max(longest, time.monotonic() - asked)
                await anyio.lowlevel.checkpoint()
            assert longest < DRIPS * PAUSE / 3
    finally:
        stop.set()
        await to_thread.run_sync(dripping.join)
        connection.close()
        theirs.close()
