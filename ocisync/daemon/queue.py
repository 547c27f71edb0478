"""Jobs that wait for a place: bounded, coalescing, fair between rules, never two at once on one target repository.

A job whose host must be left alone (it is over its limit of pulls, or asked for a pause) keeps no place from others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.abc import TaskGroup

from ocisync.content.concurrency import Wakeup
from ocisync.daemon.rule_set import JobRunner
from ocisync.daemon.schedule import AnyJob
from ocisync.errors import find_ours
from ocisync.sync.reports import STOPPED, Failure, JobReport, describe_failure

_BUG = "this is a bug in ocisync, please report it with the traceback in the log"

_LOOK = 5.0  # seconds between two looks whether those that run are stalled, while others wait
_MOST_STALLED = 32  # stalled jobs at a time; what they have found out so far is in memory

log = structlog.get_logger(__name__)


class JobQueue:
    """A queue for one event loop.

    `capacity` bounds the jobs that wait. `observe` is called with every report of a job that ran. A job that is
    submitted while an equal one waits joins it; while an equal one runs it becomes its one follow-up, since what it is
    to bring may have come after that one's survey. Two jobs with one lock name never run together, and no rule
    gets all places while there are several, so that a rule with thousands of jobs leaves room for the others.
    """

    def __init__(self, capacity: int = 1000, observe: Callable[[JobReport], None] = lambda _: None) -> None:
        self._capacity = capacity
        self.observe = observe
        self._waiting = FairQueue()
        self._running: dict[str, QueuedJob] = {}
        self._places = 1
        self._runner: JobRunner | None = None  # until `run`
        self._drain = 0.0
        self._closing = anyio.Event()
        self._changed = Wakeup()

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
        return tuple(job for job in self.running if self._is_stalled(job))

    @property
    def is_closed(self) -> bool:
        """Whether no new jobs start."""
        return self._closing.is_set()

    def waiting(self) -> dict[str, int]:
        """How many jobs of each rule wait."""
        return self._waiting.by_rule()

    def explain_stall(self, job: AnyJob) -> str:
        """What a job waits for that will not come for long; empty: nothing."""
        return "" if self._runner is None else self._runner.explain_stall(job)

    def submit(self, job: AnyJob) -> bool:
        """Whether the job will run: it waits now, or coalesced with an equal one; False when full or closed.

        An equal job that already runs does not count: the new one is its one follow-up.
        """
        return self._join_or_add(job) is not None

    async def run_now(self, job: AnyJob) -> JobReport:
        """Submit a job and wait for room, its turn and its end; after `close` the report's code is `job.stopped`."""
        while (entry := self._join_or_add(job)) is None:
            if self.is_closed:
                return _report_stopped(job)
            await self._changed.wait()
        return await _wait_for(entry)

    async def await_report(self, job: AnyJob) -> JobReport | None:
        """The report of an equal job that waits or runs, when it comes; None when there is none."""
        running = self._running.get(job.lock_name)
        entry = self._waiting.find(job)
        if entry is None and running is not None and running.job.key == job.key:
            entry = running
        return None if entry is None else await _wait_for(entry)

    async def run(self, runner: JobRunner, places: int) -> None:
        """Run so many jobs at a time until `close`; no rule gets all places when there are several.

        Stalled jobs do not count; when they go on, more may run for a while, of which none was begun then.
        """
        self._places, self._runner = places, runner
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._start_jobs, runner, tasks)
                await self._closing.wait()
                with anyio.move_on_after(self._drain):
                    while self._running:
                        await self._changed.wait()
                tasks.cancel_scope.cancel()
        finally:
            self._abandon()

    def close(self, drain: float = 0.0) -> None:
        """Start no more jobs; those that run may finish within `drain` seconds, then they are cancelled."""
        self._drain = drain
        self._closing.set()
        self._abandon()

    def _join_or_add(self, job: AnyJob) -> QueuedJob | None:
        entry = self._waiting.find(job)
        if entry is not None:
            entry.job = job
            return entry
        if self.is_closed or self.depth >= self._capacity:
            return None
        entry = QueuedJob(job)
        self._waiting.add(entry)
        self._changed.set()
        return entry

    async def _start_jobs(self, runner: JobRunner, tasks: TaskGroup) -> None:
        while True:
            while (entry := self._pop_next()) is not None:
                tasks.start_soon(self._run_job, entry, runner)
            # That a host may be asked again is told by nobody: with jobs waiting, look from time to time.
            await self._changed.wait(_LOOK if self.depth else math.inf)

    def _pop_next(self) -> QueuedJob | None:
        """The next job that may run now; it has its place from here on."""
        if self.is_closed or not self.depth:
            return None
        active = [job for job in self.running if not self._is_stalled(job)]
        if len(active) >= self._places:
            return None
        has_room = len(self._running) - len(active) < _MOST_STALLED

        def may_run(job: AnyJob) -> bool:  # asked once per rule: its other jobs read from the same host
            busy = sum(one.rule == job.rule for one in active)
            return busy < max(1, self._places - 1) and (has_room or not self._is_stalled(job))

        entry = self._waiting.pop(may_run, lambda lock: lock not in self._running)
        if entry is not None:
            self._running[entry.job.lock_name] = entry
            self._changed.set()
        return entry

    async def _run_job(self, entry: QueuedJob, runner: JobRunner) -> None:
        """Run a job; an error becomes a report, because one job's failure must not end the others."""
        job = entry.job
        try:
            try:
                entry.report = await runner.run(job)
            except Exception as exc:
                known = find_ours(exc, job.lock_name)
                entry.report = job.report(describe_failure(known) if known else _bug(exc))
                if known is None:
                    log.exception("job.crashed", rule=job.rule, source=entry.report.source, target=entry.report.target)
            if not entry.report.is_unfinished:
                self.observe(entry.report)
        finally:
            del self._running[job.lock_name]
            entry.done.set()
            self._changed.set()

    def _is_stalled(self, job: AnyJob) -> bool:
        return bool(self.explain_stall(job))

    def _abandon(self) -> None:
        for entry in self._waiting.drain():
            entry.done.set()
        self._changed.set()


async def _wait_for(entry: QueuedJob) -> JobReport:
    await entry.done.wait()
    return entry.report or _report_stopped(entry.job)


def _bug(error: Exception) -> Failure:
    """What a report says of an error that is not ours."""
    return Failure("internal", f"{type(error).__name__}: {error} ({_BUG})", "fail")


def _report_stopped(job: AnyJob) -> JobReport:
    return job.report(Failure(STOPPED, "ocisync stops; the job runs again after the next start", "retry"))


Key = tuple[object, ...]


@dataclass(slots=True)
class QueuedJob:
    """A job on its way, and those who wait for its report."""

    job: AnyJob
    report: JobReport | None = None  # None when done: it was stopped
    done: anyio.Event = field(default_factory=anyio.Event)


class FairQueue:
    """Waiting jobs as rule -> lock -> key, each in the order of their turns.

    Round robin over rules, then over target repositories: whichever has had its turn goes to the end of its dictionary,
    which keeps the order of insertion. So a rule with ten thousand jobs delays another's first job by one job, and
    finding the next costs the same however many wait.
    """

    def __init__(self) -> None:
        self._rules: dict[str, dict[str, dict[Key, QueuedJob]]] = {}
        self.count = 0

    def find(self, job: AnyJob) -> QueuedJob | None:
        """The entry of an equal job."""
        return self._rules.get(job.rule, {}).get(job.lock_name, {}).get(job.key)

    def add(self, entry: QueuedJob) -> None:
        """Put a job behind the others of its rule and lock."""
        locks = self._rules.setdefault(entry.job.rule, {})
        locks.setdefault(entry.job.lock_name, {})[entry.job.key] = entry
        self.count += 1

    def pop(self, may_run: Callable[[AnyJob], bool], is_free: Callable[[str], bool]) -> QueuedJob | None:
        """Take the next job: of the first rule that may run, at the first target repository that is free.

        The rule and the repository then go behind all others.
        """
        for rule, locks in self._rules.items():
            lock = next(filter(is_free, locks), None)
            if lock is not None and may_run(next(iter(locks[lock].values())).job):
                return self._take(rule, lock)
        return None

    def drain(self) -> Iterator[QueuedJob]:
        """Take out everything."""
        rules, self._rules, self.count = self._rules, {}, 0
        return (entry for locks in rules.values() for entries in locks.values() for entry in entries.values())

    def by_rule(self) -> dict[str, int]:
        """How many jobs of each rule wait."""
        return {rule: sum(map(len, locks.values())) for rule, locks in self._rules.items()}

    def _take(self, rule: str, lock: str) -> QueuedJob:
        locks = self._rules.pop(rule)
        entries = locks.pop(lock)
        entry = entries.pop(next(iter(entries)))
        self.count -= 1
        if entries:
            locks[lock] = entries
        if locks:
            self._rules[rule] = locks
        return entry
