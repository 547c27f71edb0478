"""Time, as the daemon sees it; tests bring a clock of their own."""

from __future__ import annotations

import time
from typing import Protocol

import anyio

from ocisync.content.concurrency import Wakeup
from ocisync.drop.rule import TimeSource


class Clock(TimeSource, Protocol):
    """Both clocks, and how to wait by the one that only goes forward."""

    async def sleep(self, seconds: float) -> None:
        """Wait on the monotonic clock."""
        ...

    async def wait(self, wakeup: Wakeup, seconds: float) -> None:
        """Wait for a change, at most so long."""
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

    async def wait(self, wakeup: Wakeup, seconds: float) -> None:
        """By anyio's deadline."""
        await wakeup.wait(seconds)
