"""Threads that move bytes scale over cores: eight of them do nearly eight times the work of one, the loop next to none.

The source and the target cost the machine nothing: each sleeps, without the interpreter's lock, for the time that a
link of 400 MB/s takes. So what is measured is what lies between them, on a machine with any number of cores.
"""

import time
from dataclasses import dataclass

import anyio
import pytest
from anyio import CapacityLimiter

from ocisync.content.transfer.mover import Transfer

pytestmark = pytest.mark.prove
LINK = 400e6  # bytes a second
SIZE = 200_000_000  # bytes of one blob


@dataclass(slots=True)
class Link:
    """A source and a target at once."""

    left: int = SIZE
    taken: int = 0
    is_bulk: bool = True

    async def wait_readable(self) -> None:
        """There is always something."""

    def read_into(self, buffer: memoryview) -> int:
        count = min(len(buffer), self.left)
        time.sleep(count / LINK)
        self.left -= count
        return count

    def end_turn(self) -> None:
        """Nothing is held."""

    async def wait_writable(self) -> None:
        """It takes what it is given."""

    def write(self, data: memoryview) -> int:
        time.sleep(len(data) / LINK)
        self.taken += len(data)
        return len(data)

    def __aiter__(self) -> "Link":
        return self

    async def __anext__(self) -> bytes:
        raise AssertionError("a thread reads it")


class NoCheck:
    def update(self, chunk: bytes | bytearray | memoryview, /) -> None:
        """Hashing would use cores that a small machine does not have."""

    def finish(self) -> None:
        """All is right."""


async def _move(count: int, threads: int) -> tuple[float, float]:
    """The bytes per second of so many blobs at a time, and the share of a core that the event loop took."""
    limiter, links = CapacityLimiter(threads), [Link() for _ in range(count)]
    started, used = time.monotonic(), time.thread_time()
    async with anyio.create_task_group() as group:
        for link in links:
            group.start_soon(Transfer(link, NoCheck(), link, SIZE, limiter).run)
    seconds = time.monotonic() - started
    assert all(link.taken == SIZE for link in links)
    return count * SIZE / seconds, (time.thread_time() - used) / seconds


async def test_eight_threads_do_seven_times_the_work_of_one() -> None:
    alone, _ = await _move(1, 1)
    together, loop = await _move(16, 8)
    told = f"one thread {alone / 1e6:.0f} MB/s, eight {together / 1e6:.0f}; the loop {loop:.1%} of a core"
    assert together >= 7 * alone, told
    assert loop < 0.2, told
