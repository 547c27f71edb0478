"""Survey: what the source offers and what the target holds, at the smallest number of requests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ocisync.content.concurrency import for_each
from ocisync.content.protocols import Converter, Inventory, Source, Stored, Target, Vacant
from ocisync.errors import NotFound, OcisyncError
from ocisync.spec.descriptor import Descriptor
from ocisync.spec.digest import Digest
from ocisync.sync.job import Job
from ocisync.sync.ledger import Ledger, Published
from ocisync.sync.plan import Policy, TagFacts, is_due
from ocisync.sync.prune import Gone, find_gone
from ocisync.sync.reports import Failure, failure_of
from ocisync.sync.select import select_tags

_ABSENT = Digest("")
FEW_TAGS = 3  # so few are asked for one by one: that is cheaper than a listing
MANY_TAGS = 100  # of more, no manifests are held: memory stays bounded


@dataclass(frozen=True, slots=True)
class Facts:
    """What is so, before anything is decided. The keys of the mappings are target tags."""

    references: Mapping[str, str]  # target tag -> source reference
    roots: Mapping[str, Descriptor]  # what the source has under it; absent when only a conversion can tell
    failures: Mapping[str, Failure]  # tags that could not be resolved at the source
    present: Mapping[str, Digest | None]  # tags at the target; None: there, what it points at was not asked
    ledger: Mapping[str, Published]
    stored: Stored | None = None  # the target's listing, where it offers one
    is_empty: bool = False  # the target repository has no tag at all
    warnings: tuple[str, ...] = field(default=())
    gone: Gone = field(default_factory=Gone)  # what prune would remove from the target

    def of(self, tag: str) -> TagFacts:
        """What is known of one tag."""
        return TagFacts(
            tag,
            self.references[tag],
            self.roots.get(tag),
            self.failures.get(tag),
            tag in self.present,
            self.present.get(tag),
            self.ledger.get(tag),
        )


async def survey(job: Job, source: Source, target: Target, ledger: Ledger, policy: Policy, workers: int) -> Facts:
    """Gather the facts of one job; only single tags may fail.

    Raises:
        OcisyncError: the source's or the target's tags cannot be listed.
    """
    listed = await _listed_at_source(job, source)
    references = select_tags(job.tags, listed)
    warnings = () if references else (f"{job.source}: no tag fits the rule's selection",)
    known = await ledger.published(job.target.target, job.target.repository)
    roots, failures = await _resolve_all(source, references, workers)
    stored = await target.stored() if isinstance(target, Inventory) else None
    present = dict(stored.tags) if stored else await _listed(target, references, whole=job.care.prune)
    gone = find_gone(job.tags, job.care, listed, present)
    is_empty = not (stored.sizes if stored else present)

    def must_ask(tag: str) -> bool:
        told = tag in known and known[tag].digest == roots[tag].digest and not is_due(known[tag], policy)
        return present.get(tag, _ABSENT) is None and not (told and len(references) > FEW_TAGS)

    await _ask(target, [tag for tag in roots if must_ask(tag)], present, workers)
    if not (present or is_empty) and isinstance(target, Vacant):  # none of a few tags is there: is anything?
        is_empty = await target.is_vacant()
    return Facts(references, roots, failures, present, known, stored, is_empty, warnings, gone)


async def _listed_at_source(job: Job, source: Source) -> Sequence[str]:
    """The source's tags, where anything depends on them."""
    is_asked = job.tags.literal is None or job.care.prune
    return await source.tags() if is_asked else ()


async def _resolve_all(
    source: Source, references: Mapping[str, str], workers: int
) -> tuple[dict[str, Descriptor], dict[str, Failure]]:
    roots: dict[str, Descriptor] = {}
    failures: dict[str, Failure] = {}

    async def resolve(tag: str) -> None:
        try:
            root = await source.resolve(references[tag])
            roots[tag] = root if len(references) <= MANY_TAGS else replace(root, data=None)
        except OcisyncError as exc:
            failures[tag] = failure_of(exc)

    if not isinstance(source, Converter):
        await for_each(references, resolve, workers)
    return roots, failures


async def _listed(target: Target, references: Mapping[str, str], *, whole: bool) -> dict[str, Digest | None]:
    """Which tags a target without an inventory may have; what they point at is not asked yet."""
    if not isinstance(target, Source) or (len(references) <= FEW_TAGS and not whole):
        return dict.fromkeys(references)
    try:
        return dict.fromkeys(await target.tags())
    except NotFound:
        return {}


async def _ask(target: Target, tags: Collection[str], present: dict[str, Digest | None], workers: int) -> None:
    """Resolve tags at the target for which neither a listing nor the ledger tells the digest."""

    async def resolve(tag: str) -> None:
        try:
            present[tag] = (await target.resolve(tag)).digest
        except NotFound:
            del present[tag]

    await for_each(tags, resolve, workers)
