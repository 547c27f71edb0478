"""Run a job: survey, plan, copy, publish. The one place where a job's errors become a report."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ocisync.content.capabilities import OUTDATED, Converter, Mounter, ReferrerLister, RemoteResolver, ServerTarget
from ocisync.content.concurrency import ByteBudget, for_each
from ocisync.content.cost import attribute_cost, measure_cost
from ocisync.content.repository import Fetcher, Source, Target
from ocisync.errors import ConfigError, Handling, LimitExceeded, NotFound, OcisyncError, RegistryError, StoreError
from ocisync.model.digest import Digest, is_digest
from ocisync.model.locator import registry_image, strip_views
from ocisync.sync.context import JobContext
from ocisync.sync.convert import convert
from ocisync.sync.copy import GraphCopier
from ocisync.sync.job import Job
from ocisync.sync.judging.judge import Judge
from ocisync.sync.ledger import MemoryLedger, Published
from ocisync.sync.plan import Action, Criteria, PlannedTag, make_plan
from ocisync.sync.presence import Presence
from ocisync.sync.prune import GONE, REFUSED, PruneCandidates, plan_removals, prune
from ocisync.sync.publish import MAX_BATCH, CopiedTag, Kept, Publisher, Vanished, receive_batch
from ocisync.sync.referrers.copy_referrers import ReferrerCopier, ReferrerFinder
from ocisync.sync.reports import JobReport, TagReport, Verdict, describe_failure
from ocisync.sync.resolve import FEW_TAGS
from ocisync.sync.run_report import TagReports, log_finished
from ocisync.sync.source_reader import SharedReader, WithForeignLayers
from ocisync.sync.survey import SurveyFacts, list_blobs, name_by_sha256, survey

log = structlog.get_logger()

_IN_FLIGHT = 16 * 1024 * 1024  # bytes of manifests and of what is known of their graphs, between source and tag
_PER_DIGEST = 200  # bytes that one digest of a graph takes in memory


async def run_job(job: Job, context: JobContext) -> JobReport:
    """Bring one job's target up to date; every OcisyncError ends up in the report."""
    report = JobReport(job.rule, str(job.source), str(job.target))
    started = time.monotonic()
    is_spooled = len(job.shares) > 1
    progress = context.progress.for_job(job.rule, report.source, report.target)
    context = replace(context, progress=progress)
    with structlog.contextvars.bound_contextvars(rule=job.rule, source=report.source, target=report.target):
        try:
            with measure_cost() as meter:
                async with _open(job, context) as (source, target):
                    is_spooled = _needs_spool(job, target, context)
                    finder, judge = _make_finder(job, source, context), await _make_judge(job, source, context)
                    tags = TagReports(report, meter, context.progress)
                    await _Run(job, source, target, finder, judge, context, report, tags).run()
        except OcisyncError as exc:
            report.failure = describe_failure(exc)
        finally:
            progress.job_finished()
        report.requests = meter.total.requests
        if context.spools is not None and is_spooled and not job.is_partial:
            await context.spools.finish_target(job.target.lock_name, ok=report.ok)
        report.seconds = time.monotonic() - started
        log_finished(report)
    return report


async def plan_job(job: Job, context: JobContext) -> tuple[SurveyFacts, list[PlannedTag]]:
    """What `run_job` would do now, changing nothing.

    Raises:
        OcisyncError: the source or target cannot be looked at.
    """
    async with _open(job, context) as (source, target):
        criteria = _make_criteria(job, target)
        finder, judge = _make_finder(job, source, context), await _make_judge(job, source, context)
        workers = context.limits.images
        facts = await survey(job, source, target, context.ledger, criteria, workers, finder, judge, is_trial=True)
        plan = make_plan(facts.list_tags(), criteria)
        return facts, [*plan, *plan_removals(facts.gone)]


@asynccontextmanager
async def _open(job: Job, context: JobContext) -> AsyncIterator[tuple[Source, Target]]:
    async with context.stores.source(job.source) as source, context.stores.target(job.target) as target:
        yield source, target


def _make_criteria(job: Job, target: Target) -> Criteria:
    validates = isinstance(target, ServerTarget) and target.validates
    return Criteria(time.time(), job.recheck, validates, job.policy.overwrite, job.send_again)


def _needs_spool(job: Job, target: Target, context: JobContext) -> bool:
    """Whether blobs wait on disk: several targets want them, or an upload that is cut off has to begin again."""
    spool = context.spools
    return spool is not None and (len(job.shares) > 1 or not target.can_resume_upload(spool.worth))


def _make_finder(job: Job, source: Source, context: JobContext) -> ReferrerFinder | None:
    """A finder of what goes along with the images; None where nothing is wanted, and so nothing is asked."""
    wanted = job.referrers.referrers
    if wanted is None:  # the rule says nothing: only what belongs to the source anyway, as in a layout
        must_be_signed = job.wants_signatures and not (job.acceptance and job.acceptance.only_warns)
        wanted = isinstance(source, ReferrerLister) and source.brings_referrers and not must_be_signed
    brings_signatures = job.acceptance is not None and job.wants_signatures and job.acceptance.brings_signatures
    if not (wanted or job.referrers.digest_tags or brings_signatures):
        return None
    return ReferrerFinder(source, replace(job.referrers, referrers=wanted), context.limits.max_index_depth)


async def _make_judge(job: Job, source: Source, context: JobContext) -> Judge | None:
    """Who decides what may be taken; None where everything is."""
    wanted = job.acceptance
    if wanted is None:
        return None
    image = registry_image(job.source)
    checker = None
    if wanted.policies:
        if context.open_checker is None:
            raise ConfigError("signatures cannot be checked here")
        checker = await context.open_checker(
            wanted, f"{image.host}/{image.repository}" if image else "", context.ledger
        )
    name = str(strip_views(job.source)) if image is None else f"{image.host}/{image.repository}"
    return Judge(wanted, source, name, context.ledger, checker, context.limits.images)


@dataclass(frozen=True, slots=True)
class _Run:
    """One job under way.

    Copies and publications overlap: whoever copied an image hands it to a queue, at whose other end tags are published
    in batches. So early tags can be pulled while late ones are still copied, and a target where each publication costs
    a listing pays for few of them.
    """

    job: Job
    source: Source
    target: Target
    finder: ReferrerFinder | None  # of what goes along with the images; None: nothing
    judge: Judge | None  # of what may be taken; None: everything
    context: JobContext
    report: JobReport
    tags: TagReports
    in_flight: ByteBudget = field(default_factory=lambda: ByteBudget(_IN_FLIGHT))  # manifests, until they are published

    async def run(self) -> None:
        """Survey, plan, copy and publish, prune."""
        criteria, workers = _make_criteria(self.job, self.target), self.context.limits.images
        job, context = self.job, self.context
        facts = await survey(job, self.source, self.target, context.ledger, criteria, workers, self.finder, self.judge)
        self.report.warnings.extend(facts.warnings)
        criteria = replace(criteria, vouches=await self._is_vouched_for(facts))
        plan = make_plan(facts.list_tags(), criteria)
        await self._remember_skipped(facts, plan, criteria)
        if work := self.tags.report_settled(plan):
            facts = await list_blobs(facts, self.target)
            async with self._open_reader() as reader:
                copier = self._make_copier(reader, facts, criteria)
                send, receive = anyio.create_memory_object_stream[CopiedTag](workers * 4)
                async with anyio.create_task_group() as group:
                    group.start_soon(self._publish_all, receive, copier)
                    async with send:
                        await for_each(
                            _group_by_root(work, self.source), partial(self._copy_image, copier, send), workers
                        )
                self.report.warnings.extend(copier.result.list_warnings())
        if self.job.policy.prune:
            await self._prune(facts.gone)

    async def _copy_image(
        self,
        copier: GraphCopier,
        ready: MemoryObjectSendStream[CopiedTag],
        tags: Sequence[PlannedTag],
        *,
        is_second_try: bool = False,
    ) -> None:
        """Bring what several tags point at, once, and hand the tags on to be published."""
        for planned in tags:
            self.context.progress.tag_started(self.report.target, planned.tag)
        weight = tags[0].root.size if tags[0].root else 0
        await self.in_flight.acquire(weight)
        try:
            with attribute_cost([planned.tag for planned in tags]):
                root = tags[0].root
                if root is None and isinstance(self.source, Converter):
                    root = await convert(self.source, tags[0].reference, copier)
                elif root is None:
                    root = await self.source.resolve(tags[0].reference)
                graph = await copier.copy(root)
                if self.finder is not None:
                    graph = await ReferrerCopier(self.finder, copier).copy(graph)
        except OcisyncError as exc:
            self.in_flight.release(weight)
            for planned in tags:
                moved = None if is_second_try else await self._find_moved(planned, exc)
                if moved is None:
                    self.tags.report_failed(planned, copier.result.explain(exc))
                else:
                    await self._copy_image(copier, ready, [moved], is_second_try=True)
            return
        mended = not copier.result.sent.isdisjoint(graph.digests.keys() - {graph.root.digest})
        more = max(0, len(graph.digests) * _PER_DIGEST - weight)
        self.in_flight.take(more)
        for planned in tags:
            is_last = planned is tags[-1]  # it gives the memory back for all
            await ready.send(CopiedTag(planned, graph, mended, weight + more if is_last else 0))

    async def _find_moved(self, planned: PlannedTag, error: OcisyncError) -> PlannedTag | None:
        """A tag as it is now, when the source has no more what it meant when it was looked up; None: it is the same.

        Some registries drop a manifest as soon as its tag moves, and some caches know it by its tag only. So the tag is
        asked for with a GET that brings the manifest along.
        """
        if not isinstance(error, NotFound) or planned.root is None or is_digest(planned.reference):
            return None
        try:
            if isinstance(self.source, RemoteResolver):
                root = await self.source.resolve_with_manifest(planned.reference, is_needed=True)
            else:
                root = await self.source.resolve(planned.reference)
        except OcisyncError as exc:
            log.debug("tag.not_found_again", tag=planned.tag, error=exc.message)
            return None
        named = (await name_by_sha256({planned.tag: root}, self.context.ledger))[planned.tag]
        has_moved = named.digest != planned.root.digest
        if root.digest == planned.root.digest and (root.data is None or planned.root.data is not None):
            return None
        if has_moved and self.judge is not None:
            return None  # nobody has judged that one: the next pass does
        reason = f"moved from {planned.root.digest} while it was copied" if has_moved else planned.reason
        action = Action.COPY if has_moved else planned.action
        return planned._replace(root=root, reason=reason, action=action, attached=None)

    async def _publish_all(self, queue: MemoryObjectReceiveStream[CopiedTag], copier: GraphCopier) -> None:
        """Publish tags as they come, until the queue is closed; one bad tag does not stop the others."""
        limits = self.context.limits
        publisher = Publisher(copier.presence, self.job.policy, copier.result, self.job.scope, limits.blobs)
        async with queue:
            async for first in queue:
                batch = await receive_batch(first, queue, MAX_BATCH, publisher.linger)
                try:
                    kept = await self._publish(batch, publisher, copier)
                except OcisyncError as exc:
                    await self._publish_each(batch, publisher, copier, exc)
                else:
                    self.tags.report_published(batch, kept)
                self.in_flight.release(sum(tag.weight for tag in batch))

    async def _publish_each(
        self, batch: Sequence[CopiedTag], publisher: Publisher, copier: GraphCopier, error: OcisyncError
    ) -> None:
        """Publish a batch that could not be published together tag by tag, to find out which is at fault."""
        for tag in batch:
            try:
                if len(batch) == 1:
                    raise error
                kept = await self._publish([tag], publisher, copier)
            except OcisyncError as exc:
                self.tags.report_failed(tag.planned, copier.result.explain(exc))
            else:
                self.tags.report_published([tag], kept)

    async def _publish(self, batch: Sequence[CopiedTag], publisher: Publisher, copier: GraphCopier) -> Kept:
        """Publish a batch; once more from the last look on when that was too long ago."""
        with attribute_cost([tag.planned.tag for tag in batch]):
            try:
                return await self._publish_whole(batch, publisher, copier)
            except StoreError as exc:
                if exc.code != OUTDATED:
                    raise
                return await self._publish_whole(batch, publisher, copier)

    async def _publish_whole(self, batch: Sequence[CopiedTag], publisher: Publisher, copier: GraphCopier) -> Kept:
        """Publish a batch; what vanished from the target since it was copied is brought once more before."""
        try:
            return await publisher.publish(batch)
        except Vanished as exc:
            log.warning("blob.vanished", target=str(self.job.target), digests=sorted(exc.missing)[:10])
            copier.forget(exc.missing)
        except (RegistryError, NotFound) as exc:
            if len(batch) > 1 or not await copier.distrust(exc, _below(batch[0])):
                raise
        for tag in batch:
            graph = await copier.copy(tag.root)
            if self.finder is not None:
                await ReferrerCopier(self.finder, copier).copy(graph)
        return await publisher.publish(batch)

    async def _is_vouched_for(self, facts: SurveyFacts) -> bool:
        """Whether tags of which nothing is on record may be believed, because the registry refuses what is not whole.

        To ask costs a request. A few tags are rather looked at, once, where the result is kept; not where it is
        forgotten at the end of the command.
        """
        if self.job.send_again or not isinstance(self.target, ServerTarget):
            return False
        if len(facts.unrecorded) <= (0 if isinstance(self.context.ledger, MemoryLedger) else FEW_TAGS):
            return False
        if isinstance(self.target, Mounter) and self.target.find_sibling(self.source) == self.target.name:
            return True  # source and target are one repository: there is nothing that could be missing
        try:
            return await self.target.rejects_missing_blobs()
        except RegistryError as exc:  # it need not say so: then the images are looked at
            log.debug("target.not_tried", target=str(self.job.target), error=exc.message)
            return False

    async def _remember_skipped(self, facts: SurveyFacts, plan: Iterable[PlannedTag], criteria: Criteria) -> None:
        """What the registry itself vouches for need not be asked again until the next full look."""
        if not facts.doubtful:
            return
        vouched = {
            planned.tag: Published(
                planned.root.digest, criteria.now, self.job.scope, "", planned.root.media_type, planned.root.size
            )
            for planned in plan
            if planned.tag in facts.doubtful and planned.action is Action.SKIP and planned.root
        }
        if vouched:
            await self.context.ledger.record(self.job.target.target, self.job.target.repository, vouched, {})

    @asynccontextmanager
    async def _open_reader(self) -> AsyncIterator[Fetcher]:
        """The source; with foreign layers, where the job wants them."""
        checker = self.judge.checker if self.judge else None
        source = checker.with_kept(self.source) if checker else self.source
        if not self.job.include_external or self.context.external is None:
            yield source
            return
        async with self.context.external() as external:
            yield WithForeignLayers(source, external)

    def _make_copier(self, reader: Fetcher, facts: SurveyFacts, criteria: Criteria) -> GraphCopier:
        job, context = self.job, self.context
        presence = Presence(
            self.target,
            job.target,
            context.ledger,
            context.blob_info,
            anyio.Semaphore(context.limits.blobs, fast_acquire=True),
            facts.stored.sizes if facts.stored else {} if facts.is_empty else None,
            self.target.find_sibling(self.source) if isinstance(self.target, Mounter) else None,
            criteria.validates,
            job.send_again,
        )
        copier = GraphCopier(reader, presence, context.limits, context.progress, job.platforms, job.include_external)
        if context.spools is not None and _needs_spool(job, self.target, context):
            copier.shared = SharedReader(reader, context.spools, self.target, job.target.lock_name, job.shares)
        copier.result.traffic = self.report.traffic
        return copier

    async def _prune(self, gone: PruneCandidates) -> None:
        if gone.refusal:
            raise LimitExceeded(gone.refusal, code=REFUSED, handling=Handling.FAIL)
        for tag in await prune(gone, self.job.tags, self.source, self.target):
            self.tags.report(TagReport(tag, Verdict.PRUNED, GONE))


def _group_by_root(work: Iterable[PlannedTag], source: Source) -> list[list[PlannedTag]]:
    """Tags of the same manifest together; before a conversion, tags of the same image."""
    image_of = source.image_of if isinstance(source, Converter) else None
    groups: dict[str, list[PlannedTag]] = {}
    for planned in work:
        if planned.root is not None:
            key: str = planned.root.digest
        else:
            key = f"image {image_of(planned.reference)}" if image_of else f"tag {planned.tag}"
        groups.setdefault(key, []).append(planned)
    return list(groups.values())


def _below(tag: CopiedTag) -> Mapping[Digest, int]:
    """What a tag's root needs."""
    return {digest: size for digest, size in tag.graph.digests.items() if digest != tag.root.digest}
