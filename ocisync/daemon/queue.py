"""Jobs that wait for a place: bounded, coalescing, fair between rules, never two at once on one target repository.

A job whose host must be left alone (it is over its limit of pulls, or asked for a pause) keeps no place from others.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
import structlog
from anyio.abc import TaskGroup

from ocisync.daemon.fair_queue import FairQueue, QueuedJob
from ocisync.daemon.schedule import AnyJob
from ocisync.errors import OcisyncError
from ocisync.sync.reports import STOPPED, Failure, JobReport, failure_of

_BUG = "this is a bug in ocisync, please report it with the traceback in the log"

_LOOK = 5.0  # seconds between two looks whether those that run stand still, while others wait
_MOST_STILL = 32  # jobs that stand still at a time; what they have found out so far is in memory

log = structlog.get_logger(__name__)

Runner = Callable[[AnyJob], Awaitable[JobReport]]
IsStalled = Callable[[AnyJob], bool]
"""Whether a job cannot go on for long, because a host that it works with must be left alone."""


def never_stalled(job: AnyJob) -> bool:
    """Every job moves all the time."""
    del job
    return False


class JobQueue:
    """A queue for one event loop.

    `capacity` bounds the jobs that wait. `observe` is told every report of a job that ran.
    """

    def __init__(self, capacity: int = 1000, observe: Callable[[JobReport], None] = lambda _: None) -> None:
        self._capacity = capacity
        self._observe = observe
        self._waiting = FairQueue()
        self._running: dict[str, QueuedJob] = {}
        self._places = 1
        self._stands_still: IsStalled = never_stalled
        self._drain = 0.0
        self._closing = anyio.Event()
        self._changed = anyio.Event()

    @property
    def depth(self) -> int:
        """How many jobs wait."""
        return self._waiting.count

    @property
    def running(self) -> tuple[AnyJob, ...]:
        """The jobs that run now."""
        return tuple(entry.job for entry in self._running.values())

    @property
    def stalled(self) -> tuple[AnyJob, ...]:
        """Those of the running jobs that cannot go on for long: a host that they work with must be left alone."""
        return tuple(job for job in self.running if self._stands_still(job))

    @property
    def is_closed(self) -> bool:
        """Whether no new jobs start."""
        return self._closing.is_set()

    def waiting(self) -> dict[str, int]:
        """How many jobs of each rule wait."""
        return self._waiting.by_rule()

    def submit(self, job: AnyJob) -> bool:
        """Whether the job will run: it waits now, or coalesced with an equal one; False when full or closed.

        An equal job that already runs does not count: the new one is its one follow-up.
        """
        return self._enter(job) is not None

    async def run_now(self, job: AnyJob) -> JobReport:
        """Submit a job and wait for room, its turn and its end; after `close` the report's code is `job.stopped`."""
        while (entry := self._enter(job)) is None:
            if self.is_closed:
                return _stopped(job)
            await self._changed.wait()
        return await _result(entry)

    async def await_report(self, job: AnyJob) -> JobReport | None:
        """The report of an equal job that waits or runs, when it comes; None when there is none."""
        running = self._running.get(job.lock_name)
        entry = self._waiting.find(job)
        if entry is None and running is not None and running.job.key == job.key:
            entry = running
        return None if entry is None else await _result(entry)

    async def run(self, runner: Runner, places: int, stands_still: IsStalled = never_stalled) -> None:
        """Run so many jobs at a time until `close`; no rule gets all places when there are several.

        Those that stand still do not count; when they go on, more may run for a while, of which none was begun then.
        """
        self._places, self._stands_still = places, stands_still
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._start_jobs, runner, tasks)
                await self._closing.wait()
                with anyio.move_on_after(self._drain):
                    await self._emptied()
                tasks.cancel_scope.cancel()
        finally:
            self._abandon()

    def close(self, drain: float = 0.0) -> None:
        """Start no more jobs; those that run may finish within `drain` seconds, then they are cancelled."""
        self._drain = drain
        self._closing.set()
        self._abandon()

    def _enter(self, job: AnyJob) -> QueuedJob | None:
        entry = self._waiting.find(job)
        if entry is not None:
            entry.job = job
            return entry
        if self.is_closed or self.depth >= self._capacity:
            return None
        entry = QueuedJob(job)
        self._waiting.add(entry)
        self._notify()
        return entry

    async def _start_jobs(self, runner: Runner, tasks: TaskGroup) -> None:
        while True:
            while (entry := self._next()) is not None:
                tasks.start_soon(self._run_one, entry, runner)
            with anyio.move_on_after(_LOOK if self.depth else math.inf):
                await self._changed.wait()

    def _next(self) -> QueuedJob | None:
        if self.is_closed or not self.depth:
            return None
        moving = [job for job in self.running if not self._stands_still(job)]
        if len(moving) >= self._places:
            return None
        has_room = len(self._running) - len(moving) < _MOST_STILL

        def may_run(job: AnyJob) -> bool:  # asked once per rule: its other jobs read from the same host
            busy = sum(one.rule == job.rule for one in moving)
            return busy < max(1, self._places - 1) and (has_room or not self._stands_still(job))

        entry = self._waiting.pop(may_run, lambda lock: lock not in self._running)
        if entry is not None:
            self._running[entry.job.lock_name] = entry
            self._notify()
        return entry

    async def _run_one(self, entry: QueuedJob, runner: Runner) -> None:
        try:
            entry.report = await _report_of(entry.job, runner)
            self._observe(entry.report)
        finally:
            del self._running[entry.job.lock_name]
            entry.done.set()
            self._notify()

    async def _emptied(self) -> None:
        while self._running:
            await self._changed.wait()

    def _abandon(self) -> None:
        for entry in self._waiting.drain():
            entry.done.set()
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


async def _result(entry: QueuedJob) -> JobReport:
    await entry.done.wait()
    return entry.report or _stopped(entry.job)


async def _report_of(job: AnyJob, runner: Runner) -> JobReport:
    """What the runner reports; an error becomes a report, because one job's failure must not end a worker."""
    try:
        return await runner(job)
    except OcisyncError as exc:
        return job.report(failure_of(exc))
    except Exception as exc:
        known = _known(exc)
        if known is not None:
            return job.report(failure_of(known))
        crashed = job.report(Failure("internal", f"{type(exc).__name__}: {exc} ({_BUG})", "fail"))
        log.exception("job.crashed", rule=job.rule, source=crashed.source, target=crashed.target)
        return crashed


def _known(error: BaseException) -> OcisyncError | None:
    """The first error of a group in which all are ours."""
    if isinstance(error, OcisyncError):
        return error
    if not isinstance(error, ExceptionGroup):
        return None
    inner = [_known(part) for part in error.exceptions]
    return inner[0] if all(inner) else None


def _stopped(job: AnyJob) -> JobReport:
    return job.report(Failure(STOPPED, "ocisync stops; the job runs again after the next start", "retry"))
