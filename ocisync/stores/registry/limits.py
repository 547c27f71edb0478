"""How fast one host is asked: requests at a time, requests a second, and the pause it asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from ocisync.stores.registry.options import RegistryOptions

Release = Callable[[], None]


class Pace:
    """A token bucket that holds one second's worth; plain arithmetic on the caller's clock."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second if per_second > 0 else 0.0
        self._slack = max(0.0, 1.0 - self._interval)  # seconds that an idle host may save up
        self._next = float("-inf")

    def reserve(self, now: float) -> float:
        """Seconds to wait before the next request; each call takes one turn."""
        turn = max(self._next, now - self._slack)
        self._next = turn + self._interval
        return max(0.0, turn - now)


class Gate:
    """The way to one host. Uploads have places of their own: an upload may wait for a download from the same host."""

    def __init__(self, options: RegistryOptions) -> None:
        self._requests = anyio.Semaphore(options.concurrency, fast_acquire=True)
        self._uploads = anyio.Semaphore(options.concurrency, fast_acquire=True)
        self._pace = Pace(options.requests_per_second)
        self._paused_until = float("-inf")

    async def enter(self) -> Release:
        """Wait for a place and for one's turn; the result gives the place back, once."""
        await self._requests.acquire()
        try:
            await self.turn()
        except BaseException:
            self._requests.release()
            raise
        return _once(self._requests.release)

    @asynccontextmanager
    async def upload_place(self) -> AsyncIterator[None]:
        """A place for one upload with all its requests, taken before its source is opened: nobody waits in a circle."""
        async with self._uploads:
            yield

    async def turn(self) -> None:
        """Wait for the end of a pause and for the pace."""
        if wait := self._pace.reserve(anyio.current_time()):
            await anyio.sleep(wait)
        while (pause := self._paused_until - anyio.current_time()) > 0:  # noqa: ASYNC110  # it may grow meanwhile
            await anyio.sleep(pause)

    def pause(self, seconds: float) -> None:
        """Let no request start for so long."""
        self._paused_until = max(self._paused_until, anyio.current_time() + seconds)


def _once(release: Release) -> Release:
    pending = [release]

    def released() -> None:
        if pending:
            pending.pop()()

    return released
