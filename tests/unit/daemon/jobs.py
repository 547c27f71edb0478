"""Jobs, and a runner whose jobs end when the test says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import anyio

from ocisync.daemon.rule_set import JobRunner
from ocisync.daemon.schedule import AnyJob, Expansion, Schedule
from ocisync.model.image_name import ImageName
from ocisync.model.locator import RegistryLocator, TargetLocator
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport
from ocisync.sync.select import TagSelection


def job(rule: str = "rule", repository: str = "repo", tags: TagSelection | None = None) -> Job:
    """A job from a registry to the target `local`."""
    source = RegistryLocator(ImageName("registry.example", repository))
    return Job(rule, source, TargetLocator("local", repository), tags or TagSelection())


class FunctionRunner(JobRunner):
    """A runner made of functions; without them it does what a runner does that says no more than how to run a job."""

    def __init__(
        self,
        run: Callable[[AnyJob], Awaitable[JobReport]],
        *,
        expand: Callable[[Schedule], Awaitable[Expansion]] | None = None,
        follow: Callable[[str, str], Sequence[Job]] | None = None,
        is_stalled: Callable[[AnyJob], bool] = lambda _: False,
    ) -> None:
        self._run = run
        self._expand = expand
        self._follow = follow
        self._is_stalled = is_stalled

    async def run(self, job: AnyJob) -> JobReport:
        """By the function."""
        return await self._run(job)

    async def expand(self, schedule: Schedule) -> Expansion:
        """By the function, if there is one."""
        return await (self._expand or super().expand)(schedule)

    def follow(self, host: str, repository: str) -> Sequence[Job]:
        """By the function, if there is one."""
        return (self._follow or super().follow)(host, repository)

    def explain_stall(self, job: AnyJob) -> str:
        """By the function."""
        return "a pause" if self._is_stalled(job) else ""


class Gate:
    """To run jobs by: it notes what starts and holds each job until it is let go."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.started: list[Job] = []
        self.finished: list[Job] = []
        self.most: Counter[str] = Counter()
        self.is_open = is_open
        self._now: Counter[str] = Counter()
        self._free: set[int] = set()
        self._changed = anyio.Event()

    async def __call__(self, running: AnyJob) -> JobReport:
        assert isinstance(running, Job)
        number = len(self.started)
        self.started.append(running)
        self._count(running, 1)
        self._notify()
        try:
            await self._until(lambda: self.is_open or number in self._free)
            self.finished.append(running)
            return JobReport(running.rule, str(running.source), str(running.target))
        finally:
            self._count(running, -1)

    def open(self) -> None:
        """Let every job go, now and later."""
        self.is_open = True
        self._notify()

    def release(self, number: int) -> None:
        """Let the job go that started as the `number`th, from 0."""
        self._free.add(number)
        self._notify()

    async def until_started(self, count: int) -> None:
        """Wait until `count` jobs have started."""
        with anyio.fail_after(60):
            await self._until(lambda: len(self.started) >= count)

    async def _until(self, holds: object) -> None:
        assert callable(holds)
        while not holds():
            await self._changed.wait()

    def _count(self, running: AnyJob, step: int) -> None:
        for name in ("all", running.rule, running.lock_name):
            self._now[name] += step
            self.most[name] = max(self.most[name], self._now[name])

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
