"""Time, as the daemon sees it; tests bring a clock of their own."""

from __future__ import annotations

import time
from typing import Protocol

import anyio


class Clock(Protocol):
    """Two clocks: one that only ever goes forward, to wait by, and one for people and for records."""

    def monotonic(self) -> float:
        """Seconds since some moment; jumps of the wall clock do not touch it."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait on the monotonic clock."""
        ...

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        """Wait for an event, at most so long."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """The system's monotonic clock."""
        return time.monotonic()

    def wall(self) -> float:
        """The system's time of day."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """anyio's sleep."""
        await anyio.sleep(seconds)

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        """By anyio's deadline."""
        with anyio.move_on_after(seconds):
            await event.wait()
