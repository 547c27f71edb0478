"""Parts of the daemon that must not end: one that a defect ends is started again, after a growing pause."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from ocisync.content.backoff import Backoff
from ocisync.daemon.clock import Clock, SystemClock

PAUSES = Backoff(1.0, 300.0)  # seconds before a part is started again
LASTING = 600.0  # seconds after which a part that fails is taken to have worked

log = structlog.get_logger(__name__)


class Supervisor:
    """Keeps parts running, each by itself, so that a defect in one does not end the others.

    Errors that belong to a job, an input or a rule are handled where they are met, and reach nobody else. What arrives
    here is a defect of ocisync: the log gets its traceback, and `failed_parts` says for the time of the pause that the
    part is not at work. Cancellation passes.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._failed: dict[str, str] = {}

    def failed_parts(self) -> Sequence[str]:
        """What does not work now, and why."""
        return tuple(self._failed.values())

    async def keep_running(self, part: str, run: Callable[[], Awaitable[object]]) -> None:
        """Run a part until it ends by itself. `part` is what people call it, as in "the drop folder of rule builds"."""
        failures = 0
        while True:
            started = self._clock.monotonic()
            try:
                await run()
            except Exception as exc:
                failures = 1 if self._clock.monotonic() - started >= LASTING else failures + 1
                pause = PAUSES.ceiling(failures)
                log.exception("part.failed", part=part, restart_seconds=pause)
                self._failed[part] = f"{part} was ended by a defect ({_name_first(exc)}); it is started again"
            else:
                return
            try:
                await self._clock.sleep(pause)
            finally:
                del self._failed[part]


def _name_first(error: BaseException) -> str:
    """The kind of an error, or of the first in a group."""
    return _name_first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else type(error).__name__
