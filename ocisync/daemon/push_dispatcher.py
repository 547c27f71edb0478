"""From reported pushes to jobs: a burst becomes one job per repository, for no more tags than were named."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import anyio
import structlog

from ocisync.content.concurrency import Wakeup
from ocisync.daemon.clock import Clock, SystemClock
from ocisync.daemon.generation import Generation
from ocisync.daemon.schedule import FIRST_WAIT
from ocisync.daemon.webhooks.payloads import Push
from ocisync.errors import OcisyncError
from ocisync.model.digest_tags import is_digest_tag
from ocisync.model.image_name import ImageName
from ocisync.model.locator import registry_image
from ocisync.state.rule_records import RuleRecords
from ocisync.sync.job import Job
from ocisync.sync.reports import STOPPED, Failure, JobReport
from ocisync.sync.select import narrow

SETTLE = 0.5  # seconds after a push in which others join it: one image is often several notifications
MOST_TAGS = 100  # of one repository; of more, the whole selection is looked at
_PATIENCE = 1.0  # seconds between two looks for a generation of rules, while one drains

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WatchedRepository:
    """A repository that a rule follows."""

    rule: str
    source: ImageName


@dataclass(slots=True)
class _PendingSync:
    """What is to be looked at there."""

    tags: set[str] = field(default_factory=set)
    is_all: bool = False

    def add(self, tag: str) -> None:
        self.is_all |= not tag or len(self.tags) >= MOST_TAGS
        self.tags.add(tag)


class PushDispatcher:
    """Takes pushes while the daemon lives, whichever generation of rules is at work.

    A push is pending until `SETTLE` seconds have passed, so that the many notifications of one image become one job,
    and for as long as a job for the same repository runs, since that one may have surveyed its source before the push.
    What a reload interrupts is kept for the next generation; what the end of the process interrupts makes its rule due
    at the next start. A failure that can pass is left to the rule's own schedule, which backs off and is remembered.
    """

    def __init__(self, generation: Callable[[], Generation | None], clock: Clock | None = None) -> None:
        self._generation = generation
        self._clock = clock or SystemClock()
        self._pending: dict[WatchedRepository, _PendingSync] = {}
        self._running: dict[WatchedRepository, _PendingSync] = {}
        self._wakeup = Wakeup()

    def accept(self, pushes: Iterable[Push]) -> list[str]:
        """Have looked at what was pushed, by every rule that selects it; returns the rules."""
        rules: dict[str, None] = {}
        for job, image, tag in self.select(pushes):
            self._add_pending(WatchedRepository(job.rule, image), tag)
            rules[job.rule] = None
        if generation := self._generation():
            for rule in rules:
                generation.scheduler.quicken(rule)
        return list(rules)

    def select(self, pushes: Iterable[Push]) -> Iterator[tuple[Job, ImageName, str]]:
        """The jobs that select what was pushed, what they copy from, and the tag to look at; empty: all of them."""
        for push in pushes:
            for job, image in _select_jobs(self._jobs_for(push), push.tag):
                yield job, image, "" if _goes_along(job, push.tag) else push.tag

    def ask(self, rule: str, tag: str, repository: str = "") -> bool:
        """Have a tag, a repository or a tag there looked at for a rule; False when the rule does not select that.

        A rule that mirrors a whole registry must be told the repository.
        """
        watched = [WatchedRepository(rule, image) for _, image in self.select_for_rule(rule, tag, repository)]
        for one in watched:
            self._add_pending(one, tag)
        return bool(watched)

    def select_for_rule(self, rule: str, tag: str, repository: str = "") -> list[tuple[Job, ImageName]]:
        """The jobs of a rule that select a tag, a repository or a tag there, and what they copy from."""
        jobs = self._jobs_of_repository(repository) if repository else self._all_jobs()
        return [(job, image) for job, image in _select_jobs(jobs, tag) if job.rule == rule]

    def list_busy(self) -> set[str]:
        """The rules for which something is pending or looked at."""
        return {repository.rule for repository in (*self._pending, *self._running)}

    async def serve(self) -> None:
        """Run what is pending, until cancelled; a repository at most once at a time."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._wakeup.wait(math.inf)
                await self._clock.sleep(SETTLE)
                for repository in self._pending.keys() - self._running.keys():
                    self._running[repository] = self._pending.pop(repository)
                    tasks.start_soon(self._sync, repository)

    async def persist_pending(self, records: RuleRecords) -> None:
        """Let the next start look at what is still pending, by making its rules due."""
        for rule in {repository.rule for repository in (*self._pending, *self._running)}:
            try:
                status = await records.rule_status(rule)
                if status is not None:
                    await records.save_rule_status(rule, replace(status, next_due=time.time()))
            except OcisyncError as exc:
                log.warning("rule.record_unwritable", rule=rule, code=exc.code, error=exc.message)

    def _add_pending(self, repository: WatchedRepository, tag: str) -> None:
        self._pending.setdefault(repository, _PendingSync()).add(tag)
        self._wakeup.set()

    def _all_jobs(self) -> Iterator[Job]:
        """The jobs that copy, of those that rules always have."""
        generation = self._generation()
        schedules = generation.rules.schedules if generation else ()
        return (job for schedule in schedules for job in schedule.jobs if isinstance(job, Job))

    def _jobs_for(self, push: Push) -> Iterator[Job]:
        """The jobs that copy from where something was pushed; where it has no tag, those that want referrers."""
        followed = self._jobs_copying_from(push)
        return (
            (job for job in followed if job.referrers.referrers or job.wants_signatures)
            if push.is_untagged
            else followed
        )

    def _jobs_copying_from(self, push: Push) -> Iterator[Job]:
        generation = self._generation()
        for job in self._all_jobs():
            image = registry_image(job.source)
            if image is not None and push.matches(image):
                yield job
        if generation and push.registry:
            yield from generation.rules.runner.follow(push.registry, push.repository)

    def _jobs_of_repository(self, repository: str) -> Iterator[Job]:
        """The jobs that copy a repository, of whichever registry."""
        yield from self._jobs_copying_from(Push(repository))
        if generation := self._generation():
            yield from generation.rules.runner.follow("", repository)

    def _jobs_of(self, repository: WatchedRepository) -> list[Job]:
        """A repository's jobs."""
        push = Push(repository.source.repository, registry=repository.source.host)
        return [
            job
            for job in self._jobs_for(push)
            if (job.rule, registry_image(job.source)) == (repository.rule, repository.source)
        ]

    async def _sync(self, repository: WatchedRepository) -> None:
        try:
            reports = await self._run_jobs(repository, self._running[repository])
            if any(_is_stopped(report) for report in reports) or not reports:
                await self._keep_for_next_generation(repository)
            elif (worst := _find_worst(reports)) and worst.handling == "retry":
                self._leave_to_rule(repository)
        except Exception:
            log.exception("push.crashed", rule=repository.rule, source=str(repository.source))
            self._leave_to_rule(repository)
        finally:
            del self._running[repository]
            if repository in self._pending:
                self._wakeup.set()

    async def _run_jobs(self, repository: WatchedRepository, pending: _PendingSync) -> Sequence[JobReport]:
        generation = self._generation()
        if generation is None or generation.queue.is_closed:
            return ()
        reports: list[JobReport] = []

        async def run(job: Job) -> None:
            reports.append(await generation.queue.run_now(job))

        jobs = [_narrow(job, pending) for job in self._jobs_of(repository)]
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(run, job)
        return reports

    async def _keep_for_next_generation(self, repository: WatchedRepository) -> None:
        """Keep it for the next generation of rules, if that still has the repository."""
        await self._clock.sleep(_PATIENCE)
        if self._jobs_of(repository):
            pending, interrupted = self._pending.setdefault(repository, _PendingSync()), self._running[repository]
            pending.tags |= interrupted.tags
            pending.is_all |= interrupted.is_all

    def _leave_to_rule(self, repository: WatchedRepository) -> None:
        """Leave what failed to the rule itself, soon: it backs off, and is remembered."""
        generation = self._generation()
        if generation is not None:
            generation.scheduler.trigger(repository.rule, FIRST_WAIT)


def _select_jobs(jobs: Iterable[Job], tag: str) -> Iterator[tuple[Job, ImageName]]:
    """The jobs that select a tag, as far as its name tells, and what they copy from."""
    for job in jobs:
        image = registry_image(job.source)
        if image is not None and (not tag or _goes_along(job, tag) or narrow(job.tags, (tag,))):
            yield job, image


def _goes_along(job: Job, tag: str) -> bool:
    """Whether a tag is what goes along with one of the job's images, of which its name does not tell the tag."""
    goes = job.referrers.digest_tags or job.referrers.referrers or job.wants_signatures
    return is_digest_tag(tag) and bool(goes)


def _narrow(job: Job, pending: _PendingSync) -> Job:
    """The job for what was pushed, where its selection allows that; otherwise all of it."""
    chosen = None if pending.is_all else narrow(job.tags, pending.tags)
    if chosen is None or chosen == job.tags:
        return job
    return replace(job, tags=chosen, is_partial=True, policy=replace(job.policy, prune=False))


def _is_stopped(report: JobReport) -> bool:
    return report.failure is not None and report.failure.code == STOPPED


def _find_worst(reports: Iterable[JobReport]) -> Failure | None:
    failures = (failure for report in reports if (failure := report.worst()))
    return min(failures, key=lambda failure: failure.handling != "retry", default=None)
