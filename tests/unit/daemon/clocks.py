"""A clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from anyio.lowlevel import checkpoint

from ocisync.content.concurrency import Wakeup


class TestClock:
    """A Clock that stands still until it is advanced."""

    __test__ = False

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self.now = 1000.0
        self.wall_offset = wall - self.now
        self.sleeping: list[float] = []
        self._moved = anyio.Event()

    def monotonic(self) -> float:
        """The time that the test set."""
        return self.now

    def wall(self) -> float:
        """The same, from another start."""
        return self.now + self.wall_offset

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been advanced so far."""
        until = self.now + seconds
        self.sleeping.append(until)
        try:
            while self.now < until:
                await self._moved.wait()
        finally:
            self.sleeping.remove(until)

    async def wait(self, wakeup: Wakeup, seconds: float) -> None:
        """Wait for a change, or until the clock has been advanced so far."""

        async def sleep(scope: anyio.CancelScope) -> None:
            await self.sleep(seconds)
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleep, tasks.cancel_scope)
            await wakeup.wait()
            tasks.cancel_scope.cancel()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self._moved.set()
        self._moved = anyio.Event()


async def until(holds: Callable[[], bool]) -> None:
    """Let other tasks run until something holds; a minute at most."""
    with anyio.fail_after(60):
        while not holds():
            await checkpoint()
