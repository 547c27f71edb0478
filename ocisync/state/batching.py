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
    """Hands all calls that wait to one thread at a time.

    The caller who finds no round under way leads the next: it takes along all that wait at that moment. `run_batch`
    runs in the thread and finishes the calls that it is given; those that it did not finish, because it was cut short,
    go back to the front. So nobody waits for a time to pass, and the more callers there are, the larger the batches.
    """

    def __init__(self, run_batch: Callable[[Sequence[PendingCall]], None], limiter: CapacityLimiter) -> None:
        self._run_batch = run_batch
        self._limiter = limiter
        self._pending: list[PendingCall] = []
        self._round: anyio.Event | None = None

    async def ask(self, call: PendingCall) -> Any:
        """What came of it, with what others want at the same moment."""
        self._pending.append(call)
        try:
            while not call.is_done:
                if self._round is None:
                    await self._lead()
                else:
                    await self._round.wait()
        finally:
            if call in self._pending:  # cancelled before its turn came
                self._pending.remove(call)
        return call.outcome()

    async def _lead(self) -> None:
        calls, self._pending = self._pending, []
        self._round = ended = anyio.Event()
        try:
            await to_thread.run_sync(self._run_batch, calls, limiter=self._limiter)
        finally:
            self._pending[:0] = [call for call in calls if not call.is_done]
            self._round = None
            ended.set()
