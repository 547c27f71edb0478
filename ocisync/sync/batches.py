"""Batches of a queue: a publication to a listing target costs a handful of requests, however many tags it has."""

from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

import anyio
from anyio import EndOfStream, WouldBlock
from anyio.streams.memory import MemoryObjectReceiveStream

T = TypeVar("T")


async def batch_of(first: T, queue: MemoryObjectReceiveStream[T], most: int, linger: float) -> list[T]:
    """The first, and what comes within `linger` seconds of it; less when the queue ends before."""
    found = [first]
    with anyio.move_on_after(linger) as waiting, suppress(EndOfStream):
        while linger and len(found) < most:
            found.append(await queue.receive())
    if waiting.cancelled_caught or not linger:
        _take_waiting(queue, found, most)
    return found


def _take_waiting(queue: MemoryObjectReceiveStream[T], found: list[T], most: int) -> None:
    with suppress(WouldBlock, EndOfStream):
        while len(found) < most:
            found.append(queue.receive_nowait())
