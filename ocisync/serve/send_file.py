"""Sending a file by the kernel, without its bytes passing through this process."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

import anyio
from aiohttp import web
from anyio import CapacityLimiter, to_thread

from ocisync.errors import Truncated
from ocisync.serve.server import BUFFER

IDLE = 60.0  # seconds in which a client must take _SLICE, or is given up
_SLICE = 256 * 1024  # bytes
_TURN = 4 << 20  # bytes; most that one hop to a thread sends
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
            sent = await to_thread.run_sync(_fill, own, file, start, end, limiter=_threads)
        except BlockingIOError:
            await anyio.wait_writable(own)
            continue
        except OSError as exc:
            if exc.errno not in _NO_SENDFILE:
                raise
            data = await to_thread.run_sync(os.pread, file.fileno(), min(_READ, end - start), start, limiter=_threads)
            await response.write(data)
            sent = len(data)
        if not sent:
            raise Truncated(f"the file of a blob became shorter while it was sent: it ends at {start} of {end} bytes")
        start += sent
    return start


def _fill(own: socket.socket, file: BinaryIO, start: int, end: int) -> int:
    """In a thread: send until the socket is full, or for one turn; how many bytes it took.

    A hop to a thread costs more than a call of sendfile. Raises BlockingIOError when the socket takes nothing.
    """
    at, end = start, min(end, start + _TURN)
    while at < end:
        try:
            sent = os.sendfile(own.fileno(), file.fileno(), at, end - at)
        except BlockingIOError:
            if at == start:
                raise
            break
        if not sent:
            break
        at += sent
    return at - start
