"""The desk where pushes are reported: a burst becomes one look per repository, at no more tags than were told of."""

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
from ocisync.daemon.webhook_payloads import Push
from ocisync.errors import OcisyncError
from ocisync.model.digest_tags import is_digest_tag
from ocisync.model.image_name import ImageName
from ocisync.model.locator import registry_image
from ocisync.state.rules import RuleRecords
from ocisync.sync.job import Job
from ocisync.sync.reports import STOPPED, Failure, JobReport
from ocisync.sync.select import narrowed

SETTLE = 0.5  # seconds after a push in which others join it: one image is often several notifications
MOST_TAGS = 100  # of one repository; of more, the whole selection is looked at
_PATIENCE = 1.0  # seconds between two looks for a generation of rules, while one drains

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _WatchedRepository:
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
    """Takes pushes while the daemon lives, whichever generation of rules is at work."""

    def __init__(self, generation: Callable[[], Generation | None], clock: Clock | None = None) -> None:
        self._generation = generation
        self._clock = clock or SystemClock()
        self._wishes: dict[_WatchedRepository, _PendingSync] = {}
        self._running: dict[_WatchedRepository, _PendingSync] = {}
        self._wakeup = Wakeup()

    def accept(self, pushes: Iterable[Push]) -> list[str]:
        """Have looked at what was pushed, by every rule that selects it; returns the rules."""
        rules: dict[str, None] = {}
        for push in pushes:
            for job, image in _selecting(self._meant(push), push.tag):
                self._wish(_WatchedRepository(job.rule, image), "" if _is_beside(job, push.tag) else push.tag)
                rules[job.rule] = None
        return list(rules)

    def ask(self, rule: str, tag: str, repository: str = "") -> bool:
        """Have a tag, a repository or a tag there looked at for a rule; False when the rule does not select that.

        A rule that mirrors a whole registry must be told the repository.
        """
        jobs = self._copying(repository) if repository else self._jobs()
        places = [_WatchedRepository(rule, image) for job, image in _selecting(jobs, tag) if job.rule == rule]
        for place in places:
            self._wish(place, tag)
        return bool(places)

    async def serve(self) -> None:
        """Run what is wished for, until cancelled; a place at most once at a time."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._wakeup.wait(math.inf)
                await self._clock.sleep(SETTLE)
                for place in [place for place in self._wishes if place not in self._running]:
                    self._running[place] = self._wishes.pop(place)
                    tasks.start_soon(self._look, place)

    async def persist_pending(self, records: RuleRecords) -> None:
        """Let the next start look at what is still wished for, by making its rules due."""
        for rule in {place.rule for place in (*self._wishes, *self._running)}:
            try:
                status = await records.rule_status(rule)
                if status is not None:
                    await records.save_rule_status(rule, replace(status, next_due=time.time()))
            except OcisyncError as exc:
                log.warning("rule.record_unwritable", rule=rule, code=exc.code, error=exc.message)

    def _wish(self, place: _WatchedRepository, tag: str) -> None:
        self._wishes.setdefault(place, _PendingSync()).add(tag)
        self._wakeup.set()

    def _jobs(self) -> Iterator[Job]:
        """The jobs that copy, of those that rules always have."""
        generation = self._generation()
        schedules = generation.rules.schedules if generation else ()
        return (job for schedule in schedules for job in schedule.jobs if isinstance(job, Job))

    def _meant(self, push: Push) -> Iterator[Job]:
        """The jobs that copy from where something was pushed; where it has no tag, those that want referrers."""
        followed = self._followed(push)
        return (job for job in followed if job.referrers.referrers) if push.is_untagged else followed

    def _followed(self, push: Push) -> Iterator[Job]:
        generation = self._generation()
        for job in self._jobs():
            image = registry_image(job.source)
            if image is not None and push.matches(image):
                yield job
        if generation and push.registry:
            yield from generation.rules.runner.follow(push.registry, push.repository)

    def _copying(self, repository: str) -> Iterator[Job]:
        """The jobs that copy a repository, of whichever registry."""
        yield from self._followed(Push(repository))
        if generation := self._generation():
            yield from generation.rules.runner.follow("", repository)

    def _at(self, place: _WatchedRepository) -> list[Job]:
        """A place's jobs."""
        push = Push(place.source.repository, registry=place.source.host)
        return [
            job for job in self._meant(push) if (job.rule, registry_image(job.source)) == (place.rule, place.source)
        ]

    async def _look(self, place: _WatchedRepository) -> None:
        try:
            reports = await self._reports(place, self._running[place])
            if any(_is_stopped(report) for report in reports) or not reports:
                await self._put_back(place)
            elif (worst := _worst(reports)) and worst.handling == "retry":
                self._retry(place)
        finally:
            del self._running[place]
            if place in self._wishes:
                self._wakeup.set()

    async def _reports(self, place: _WatchedRepository, wish: _PendingSync) -> Sequence[JobReport]:
        generation = self._generation()
        if generation is None or generation.queue.is_closed:
            return ()
        reports: list[JobReport] = []

        async def run(job: Job) -> None:
            reports.append(await generation.queue.run_now(job))

        jobs = [_only(job, wish) for job in self._at(place)]
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(run, job)
        return reports

    async def _put_back(self, place: _WatchedRepository) -> None:
        """Keep the wish for the next generation of rules, if that still has the place."""
        await self._clock.sleep(_PATIENCE)
        if self._at(place):
            wish, again = self._wishes.setdefault(place, _PendingSync()), self._running[place]
            wish.tags |= again.tags
            wish.is_all |= again.is_all

    def _retry(self, place: _WatchedRepository) -> None:
        """Leave what failed to the rule itself, soon: it backs off, and is remembered."""
        generation = self._generation()
        if generation is not None:
            generation.scheduler.trigger(place.rule, FIRST_WAIT)


def _selecting(jobs: Iterable[Job], tag: str) -> Iterator[tuple[Job, ImageName]]:
    """The jobs that select a tag, as far as its name tells, and what they copy from."""
    for job in jobs:
        image = registry_image(job.source)
        if image is not None and (not tag or _is_beside(job, tag) or narrowed(job.tags, (tag,))):
            yield job, image


def _is_beside(job: Job, tag: str) -> bool:
    """Whether a tag is what goes along with one of the job's images, of which its name does not tell the tag."""
    return is_digest_tag(tag) and bool(job.referrers.digest_tags or job.referrers.referrers)


def _only(job: Job, wish: _PendingSync) -> Job:
    """The job for what was pushed, where its selection allows that; otherwise all of it."""
    chosen = None if wish.is_all else narrowed(job.tags, wish.tags)
    return (
        job
        if chosen is None or chosen == job.tags
        else replace(job, tags=chosen, is_partial=True, care=replace(job.care, prune=False))
    )


def _is_stopped(report: JobReport) -> bool:
    return report.failure is not None and report.failure.code == STOPPED


def _worst(reports: Iterable[JobReport]) -> Failure | None:
    failures = (failure for report in reports if (failure := report.worst()))
    return min(failures, key=lambda failure: failure.handling != "retry", default=None)
