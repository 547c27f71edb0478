"""Run a job: survey, plan, copy, publish. The one place where a job's errors become a report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio
import structlog
from anyio.streams.memory import MemoryObjectSendStream

from ocisync.content.capabilities import Converter, RegistryTarget
from ocisync.content.concurrency import for_each
from ocisync.content.cost import Meter, attribute_cost, metered
from ocisync.content.repository import Fetcher, Source, Target
from ocisync.errors import Handling, LimitExceeded, OcisyncError
from ocisync.model.descriptor import Descriptor
from ocisync.sync.context import JobContext
from ocisync.sync.copy import Copier, convert
from ocisync.sync.job import Job
from ocisync.sync.ledger import Published
from ocisync.sync.plan import Action, PlannedTag, Policy, is_due, make_plan
from ocisync.sync.prune import GONE, REFUSED, PruneCandidates, planned_removals, prune
from ocisync.sync.publish import CopiedTag, failed, publish_ready
from ocisync.sync.referrers import ReferrerFinder, referrer_finder
from ocisync.sync.reports import JobReport, TagReport, Verdict, failure_of
from ocisync.sync.resolve import FEW_TAGS
from ocisync.sync.source_reader import WithForeignLayers
from ocisync.sync.survey import SurveyFacts, survey, with_blobs

log = structlog.get_logger()


async def run_job(job: Job, tools: JobContext) -> JobReport:
    """Bring one job's target up to date; every OcisyncError ends up in the report."""
    report = job.report()
    started = time.monotonic()
    with structlog.contextvars.bound_contextvars(rule=job.rule, source=report.source, target=report.target):
        try:
            with metered() as meter:
                async with _opened(job, tools) as (source, target):
                    await _Run(job, source, target, tools, report, meter).go()
        except OcisyncError as exc:
            report.failure = failure_of(exc)
        report.requests = meter.total.requests
        if tools.spools is not None and not job.is_partial:
            await tools.spools.finish_target(job.target.lock_name, ok=report.ok)
        report.seconds = time.monotonic() - started
        _log_finished(report)
    return report


async def plan_job(job: Job, tools: JobContext) -> tuple[SurveyFacts, list[PlannedTag]]:
    """What `run_job` would do now, changing nothing.

    Raises:
        OcisyncError: the source or target cannot be looked at.
    """
    async with _opened(job, tools) as (source, target):
        policy = _policy(job, target)
        companions = referrer_finder(source, job.referrers, tools.limits.max_index_depth)
        workers = tools.limits.images
        facts = await survey(job, source, target, tools.ledger, policy, workers, companions, is_trial=True)
        plan = make_plan(map(facts.of, facts.references), policy)
        return facts, [*plan, *planned_removals(facts.gone)]


@asynccontextmanager
async def _opened(job: Job, tools: JobContext) -> AsyncIterator[tuple[Source, Target]]:
    async with tools.stores.source(job.source) as source, tools.stores.target(job.target) as target:
        yield source, target


def _policy(job: Job, target: Target) -> Policy:
    validates = isinstance(target, RegistryTarget) and target.validates
    return Policy(time.time(), job.recheck, validates, job.care.overwrite, job.send_again)


@dataclass
class _Run:
    job: Job
    source: Source
    target: Target
    tools: JobContext
    report: JobReport
    meter: Meter

    async def go(self) -> None:
        policy = _policy(self.job, self.target)
        limits = self.tools.limits
        companions = referrer_finder(self.source, self.job.referrers, limits.max_index_depth)
        facts = await survey(self.job, self.source, self.target, self.tools.ledger, policy, limits.images, companions)
        self.report.warnings.extend(facts.warnings)
        policy = replace(policy, vouches=await self._is_vouched_for(facts))
        plan = make_plan(map(facts.of, facts.references), policy)
        await self._remember_skipped(facts, plan, policy)
        if work := self._settle(plan):
            facts = await with_blobs(facts, self.target)
            async with self._reader() as reader:
                await self._execute(work, self._copier(reader, facts, policy, companions))
        if self.job.care.prune:
            await self._prune(facts.gone)

    async def _is_vouched_for(self, facts: SurveyFacts) -> bool:
        """Whether tags of which nothing is on record may be believed; a few are looked at sooner than that is asked."""
        unknown = len(facts.unrecorded)
        return (
            unknown > FEW_TAGS and isinstance(self.target, RegistryTarget) and await self.target.rejects_missing_blobs()
        )

    async def _remember_skipped(self, facts: SurveyFacts, plan: Iterable[PlannedTag], policy: Policy) -> None:
        """What the registry itself vouches for need not be asked again until the next full look."""
        vouched = {
            planned.tag: Published.of(planned.root, policy.now, self.job.scope)
            for planned in plan
            if planned.action is Action.SKIP and planned.root and is_due(facts.ledger.get(planned.tag), policy)
        }
        if vouched:
            await self.tools.ledger.record(self.job.target.target, self.job.target.repository, vouched, {})

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[Fetcher]:
        """The source; with foreign layers, where the job wants them."""
        if not self.job.include_external or self.tools.external is None:
            yield self.source
            return
        async with self.tools.external() as external:
            yield WithForeignLayers(self.source, external)

    def _copier(self, reader: Fetcher, facts: SurveyFacts, policy: Policy, companions: ReferrerFinder | None) -> Copier:
        stored = facts.stored
        return Copier(
            reader,
            self.target,
            self.job.target,
            self.tools,
            self.report.traffic,
            validates=policy.validates,
            held=dict(stored.sizes) if stored else None,
            is_empty=facts.is_empty,
            care=self.job.care,
            choice=self.job.platforms,
            shares=self.job.shares,
            companions=companions,
            scope=self.job.scope,
            include_external=self.job.include_external,
            send_again=self.job.send_again,
        )

    async def _prune(self, gone: PruneCandidates) -> None:
        if gone.refusal:
            raise LimitExceeded(gone.refusal, code=REFUSED, handling=Handling.FAIL)
        for tag in await prune(gone, self.job.tags, self.source, self.target):
            self._done(TagReport(tag, Verdict.PRUNED, GONE))

    def _settle(self, plan: Iterable[PlannedTag]) -> list[PlannedTag]:
        """Report what needs no work; the rest comes back."""
        work = []
        for planned in plan:
            digest = planned.root.digest if planned.root else None
            if planned.action is Action.SKIP:
                self._done(TagReport(planned.tag, Verdict.UNCHANGED, planned.reason, digest))
            elif planned.action is Action.KEEP:
                self._done(TagReport(planned.tag, Verdict.KEPT, planned.reason, digest))
            elif planned.action is Action.FAIL:
                self._done(TagReport(planned.tag, Verdict.FAILED, planned.reason, None, planned.failure))
            else:
                work.append(planned)
        return work

    async def _execute(self, work: list[PlannedTag], copier: Copier) -> None:
        send, receive = anyio.create_memory_object_stream[CopiedTag](self.tools.limits.images * 4)
        async with anyio.create_task_group() as group:
            group.start_soon(publish_ready, receive, copier, self._done)
            async with send:
                await for_each(_by_root(work), lambda tags: self._bring(tags, copier, send), self.tools.limits.images)

    async def _bring(self, tags: list[PlannedTag], copier: Copier, ready: MemoryObjectSendStream[CopiedTag]) -> None:
        """Bring what several tags point at, once."""
        for planned in tags:
            self.tools.progress.tag_started(self.report.target, planned.tag)
        try:
            with attribute_cost([planned.tag for planned in tags]):
                root = tags[0].root or await self._root(tags[0], copier)
                whole, graph = await copier.graph(root)
        except OcisyncError as exc:
            for planned in tags:
                self._done(failed(planned, copier.explained(exc)))
            return
        mended = not copier.placed.isdisjoint(graph.keys() - {whole.digest})
        for planned in tags:
            await ready.send(CopiedTag(planned, whole, graph, mended))

    async def _root(self, planned: PlannedTag, copier: Copier) -> Descriptor:
        if isinstance(self.source, Converter):
            return await convert(self.source, planned.reference, copier)
        return await self.source.resolve(planned.reference)

    def _done(self, tag: TagReport) -> None:
        tag.cost = self.meter.of(tag.tag)
        self.report.tags.append(tag)
        self.tools.progress.tag_finished(self.report.target, tag.tag, tag.verdict.value)
        if tag.failure is not None:
            log.warning("tag.failed", tag=tag.tag, code=tag.failure.code, error=tag.failure.message)


def _by_root(work: Iterable[PlannedTag]) -> list[list[PlannedTag]]:
    """Tags that point at the same manifest together; what must be converted first, each by itself."""
    groups: dict[str, list[PlannedTag]] = {}
    for planned in work:
        groups.setdefault(planned.root.digest if planned.root else planned.tag, []).append(planned)
    return list(groups.values())


def _log_finished(report: JobReport) -> None:
    counts = Counter(tag.verdict for tag in report.tags)
    facts: dict[str, object] = {
        **{verdict.value: counts[verdict] for verdict in Verdict},
        "bytes": report.traffic.bytes,
        "requests": report.requests,
        "seconds": round(report.seconds, 3),
    }
    for warning in report.warnings:
        log.warning("job.warned", warning=warning)
    if report.failure is None:
        log.info("job.finished", **facts)
    else:
        log.warning("job.failed", code=report.failure.code, error=report.failure.message, **facts)
