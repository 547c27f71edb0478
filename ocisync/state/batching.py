"""Work for one thread, done together: a hop there costs a tenth of a millisecond, whatever is done in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
from anyio import CapacityLimiter, to_thread


class PendingCall:
    """What one caller wants done, and what came of it."""

    __slots__ = ("act", "error", "is_done", "is_write", "result")

    def __init__(self, act: Callable[[Any], Any], *, is_write: bool) -> None:
        self.act = act
        self.is_write = is_write
        self.is_done = False
        self.result: Any = None
        self.error: Exception | None = None

    def finish(self, result: object, error: Exception | None = None) -> None:
        """It is done, or failed."""
        self.result, self.error, self.is_done = result, error, True

    def outcome(self) -> Any:
        """What came of it, or what it raised."""
        if self.error is not None:
            raise self.error
        return self.result


class BatchExecutor:
    """Hands all that waits to one thread at a time: `settle_all` runs there, and settles what it is given."""

    def __init__(self, settle_all: Callable[[Sequence[PendingCall]], None], limiter: CapacityLimiter) -> None:
        self._settle_all = settle_all
        self._limiter = limiter
        self._waiting: list[PendingCall] = []
        self._round: anyio.Event | None = None

    async def ask(self, asked: PendingCall) -> Any:
        """What came of it, with what others want at the same moment."""
        self._waiting.append(asked)
        try:
            while not asked.is_done:
                if self._round is None:
                    await self._lead()
                else:
                    await self._round.wait()
        finally:
            if asked in self._waiting:  # cancelled before its turn came
                self._waiting.remove(asked)
        return asked.outcome()

    async def _lead(self) -> None:
        together, self._waiting = self._waiting, []
        self._round = ended = anyio.Event()
        try:
            await to_thread.run_sync(self._settle_all, together, limiter=self._limiter)
        finally:
            self._waiting[:0] = [one for one in together if not one.is_done]
            self._round = None
            ended.set()
