"""Sending a file by the kernel, without its bytes passing through this process."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import BinaryIO

import anyio
from aiohttp import web
from anyio import CapacityLimiter, to_thread

from ocisync.content.transfer.mover import PATIENCE, find_turn, run_mover
from ocisync.errors import Truncated
from ocisync.serve.server import BUFFER

IDLE = 60.0  # seconds in which a client must take _SLICE, or is given up
_SLICE = 256 * 1024  # bytes
_PIECE = 4 << 20  # bytes; most that one call of sendfile sends: it may read from the disk, and a turn must end
_READ = 32 * 1024  # bytes that are read where the kernel does not send files
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_threads = CapacityLimiter(16)


async def send_file(
    request: web.Request, response: web.StreamResponse, file: BinaryIO, start: int, length: int
) -> None:
    """Send a stretch of a file as a response's body, once its headers are prepared.

    uvloop has no sendfile, and asyncio's keeps what a slow reader has not taken; so the socket is waited for here. A
    call may read from the disk, so it is made in a thread.

    Raises:
        TimeoutError: the client takes nothing any more.
        ConnectionError: it went away.
        Truncated: the file became shorter.
    """
    async with own_socket(request) as own:
        end = start + length
        while start < end:
            with anyio.fail_after(IDLE):
                start = await _send_slice(own, response, file, start, end)


@asynccontextmanager
async def own_socket(request: web.Request) -> AsyncIterator[socket.socket]:
    """A descriptor of our own for a request's connection, once all that was written to it has left; it does not block.

    What is sent by it waits in the kernel and nowhere else.

    Raises:
        ConnectionError: the client went away.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client went away")
    transport.set_write_buffer_limits(high=0)
    with anyio.move_on_after(IDLE) as scope:
        await request.writer.drain()
    if scope.cancelled_caught:
        raise ConnectionResetError(f"the client took nothing for {IDLE:.0f} s")
    descriptor = transport.get_extra_info("socket").fileno()
    with socket.socket(fileno=os.dup(descriptor)) as own:
        own.setblocking(False)
        yield own
    transport.set_write_buffer_limits(high=BUFFER)


async def _send_slice(own: socket.socket, response: web.StreamResponse, file: BinaryIO, start: int, end: int) -> int:
    """Send a slice and what the socket takes at once behind it; where to go on."""
    enough = min(start + _SLICE, end)
    while start < enough:
        try:
            sent, is_full = await run_mover(partial(_fill, own, file, start, end), _threads)
        except OSError as exc:
            if exc.errno not in _NO_SENDFILE:
                raise
            data = await to_thread.run_sync(os.pread, file.fileno(), min(_READ, end - start), start, limiter=_threads)
            if not data:
                raise _truncated(start, end) from exc
            await response.write(data)
            sent, is_full = len(data), False
        start += sent
        if is_full and start < end:
            await anyio.wait_writable(own)
    return start


def _fill(own: socket.socket, file: BinaryIO, start: int, end: int) -> tuple[int, bool]:
    """In a thread: send for a turn, or until the socket stays full; how many bytes it took, and whether it is full.

    A hop to a thread costs much more than a wait in it for a reader who goes on at once. Raises Truncated.
    """
    writing = select.poll()
    writing.register(own, select.POLLOUT)
    began, at = time.monotonic(), start
    while at < end and time.monotonic() - began < find_turn():
        try:
            sent = os.sendfile(own.fileno(), file.fileno(), at, min(end - at, _PIECE))
        except BlockingIOError:
            if not writing.poll(PATIENCE * 1000):
                return at - start, True
            continue
        if not sent:
            raise _truncated(at, end)
        at += sent
    return at - start, False


def _truncated(at: int, end: int) -> Truncated:
    return Truncated(f"the file of a blob became shorter while it was sent: it ends at {at} of {end} bytes")
