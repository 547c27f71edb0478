"""Survey: what the source offers and what the target holds, at the smallest number of requests.

A pass in which nothing changed is the usual one, so its requests decide what a mirror costs. A listing of the target
answers for all of its tags; where there is none, what the ledger recorded is believed until the next full look, and
only the rest is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import structlog

from ocisync.content.capabilities import Inventory, Mounter, RemoteResolver, RepositoryListing, ServerTarget
from ocisync.content.concurrency import for_each
from ocisync.content.cost import attribute_cost
from ocisync.content.repository import Source, Target
from ocisync.errors import NotFound, OcisyncError, RegistryError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.job import Job
from ocisync.sync.judging.acceptance import Judgement, decide_converted
from ocisync.sync.judging.judge import Judge, JudgedImages
from ocisync.sync.ledger import ALGORITHM, SAME_AS, Ledger, Published
from ocisync.sync.plan import Criteria, TagFacts, find_due
from ocisync.sync.prune import PruneCandidates, find_gone
from ocisync.sync.referrers.copy_referrers import ReferrerFinder
from ocisync.sync.referrers.referrer_set import ReferrerSet
from ocisync.sync.reports import Failure, describe_failure
from ocisync.sync.resolve import FEW_TAGS, ResolvedTags, TagResolver, compile_any

log = structlog.get_logger()

_ABSENT = Digest("")
_MOST_TOLD = 10  # tags that should not have moved, each in a warning of its own


@dataclass(frozen=True, slots=True)
class SurveyFacts:
    """What is so, before anything is decided. The keys of the mappings are target tags."""

    references: Mapping[str, str]  # target tag -> source reference
    roots: Mapping[str, Descriptor]  # what the source has under it; absent when only a conversion can tell
    failures: Mapping[str, Failure]  # tags that could not be resolved at the source
    present: Mapping[str, Digest | None]  # tags at the target; None: there, what it points at was not asked
    ledger: Mapping[str, Published]
    stored: RepositoryListing | None = None  # what the target's listing shows, where it offers one: at first no blobs
    is_empty: bool = False  # the target repository has no tag at all
    warnings: tuple[str, ...] = field(default=())
    gone: PruneCandidates = field(default_factory=PruneCandidates)  # what prune would remove from the target
    attached: Mapping[str, ReferrerSet] = field(default_factory=dict)  # what goes along, where the job wants that
    judgements: Mapping[str, Judgement] = field(default_factory=dict)  # where the job does not take everything
    untold: frozenset[str] = frozenset()  # tags of which the target does not say whether they are there
    doubtful: Set[str] = frozenset()  # tags that are not on record, or of which a full look is due

    @property
    def unrecorded(self) -> list[str]:
        """Tags that are right at the target, as nobody has recorded."""
        roots = self.roots.items()
        return [tag for tag, root in roots if self.present.get(tag) == root.digest and tag not in self.ledger]

    def list_tags(self) -> Iterator[TagFacts]:
        """What is known of each tag. Most mappings are empty in most passes."""
        roots, present, ledger, stored = self.roots, self.present, self.ledger, self.stored
        failures, attached, judgements, untold = self.failures, self.attached, self.judgements, self.untold
        for tag, reference in self.references.items():
            root = roots.get(tag)
            yield TagFacts(
                tag,
                reference,
                root,
                failures.get(tag) if failures else None,
                tag in present,
                present.get(tag),
                ledger.get(tag),
                attached.get(tag) if attached else None,
                stored is None or root is None or root.digest in stored.sizes,
                judgements.get(tag) if judgements else None,
                tag in untold,
            )


async def list_blobs(facts: SurveyFacts, target: Target) -> SurveyFacts:
    """The facts that copying needs: also which blobs the target has, where it can list them."""
    if not isinstance(target, Inventory):
        return facts
    stored = await target.list_all(facts.stored)
    return replace(facts, stored=stored, is_empty=not stored.sizes)


async def survey(
    job: Job,
    source: Source,
    target: Target,
    ledger: Ledger,
    criteria: Criteria,
    workers: int,
    finder: ReferrerFinder | None = None,
    judge: Judge | None = None,
    *,
    is_trial: bool = False,
) -> SurveyFacts:
    """Gather the facts of one job; only single tags may fail. In a trial nothing is read that only a copy needs.

    Raises:
        OcisyncError: the source's or the target's tags cannot be listed.
    """
    known = await _load_known(job, ledger)
    due = find_due(known, criteria)
    resolver = TagResolver(job, source, ledger, criteria.now, workers, _expect(known, due))
    selected = await resolver.select()
    seen = await _look_at_target(job, source, target, selected.references.keys(), known, is_trial=is_trial)
    stored, listed, renamed, may_guess = seen.stored, seen.listed, seen.renamed, seen.may_guess
    resolved = await resolver.resolve(selected, seen.absent, renamed)
    references, roots = resolved.references, await name_by_sha256(resolved.roots, ledger)
    present = dict.fromkeys(references) if listed is None else listed
    gone = find_gone(job.tags, job.policy, resolved.listed, present) if job.policy.prune else PruneCandidates()
    is_empty = not (seen.is_retag or (stored.sizes if stored else present))  # before `present` is completed
    tells_digests = stored is not None and any(stored.tags.values())  # then a tag without one points elsewhere
    recorded = {tag for tag, root in roots.items() if (one := known.get(tag)) is not None and one.digest == root.digest}

    def must_ask(tag: str) -> bool:
        is_known = tag in recorded and tag not in due
        is_told = is_known and len(references) > FEW_TAGS and not tells_digests and _is_listed(roots[tag], stored)
        return not is_told and tag not in renamed

    asked = {tag: root for tag, root in roots.items() if present.get(tag, _ABSENT) is None and must_ask(tag)}
    is_feared = not job.policy.overwrite or job.policy.backup  # to write what is there would lose it
    expected = asked if listed is not None or is_feared else recorded
    untold = renamed | await _resolve_at_target(target, asked, present, workers, expected, may_guess=may_guess)
    judged = JudgedImages()
    if judge is not None:
        at_target = _compare(roots, present, known, due, stored)
        may_leave = finder is not None and not (finder.asks or criteria.send_again or is_trial)
        judged = await _judge(judge, resolved, at_target, due, criteria.now, may_leave=may_leave)
    warnings = (*resolved.warnings, *_find_moved(job, references, known, roots, recorded), *judged.warnings)
    attached = await _find_attached(finder, resolved, judged, workers) if finder else {}
    if not (present or is_empty or seen.is_retag) and isinstance(target, ServerTarget):  # none of a few: anything else?
        is_empty = await _is_empty(target)
    facts = SurveyFacts(references, roots, resolved.failures, present, known, stored, is_empty, warnings, gone)
    doubtful = due | (roots.keys() - known.keys())
    return replace(facts, attached=attached, judgements=judged.judgements, untold=untold, doubtful=doubtful)


@dataclass(frozen=True, slots=True)
class _TargetView:
    """What a target shows before any single tag is asked for."""

    stored: RepositoryListing | None
    listed: dict[str, Digest | None] | None  # its tags; None: it was not asked, or does not say
    is_retag: bool = False  # it is the repository that is copied from
    may_guess: bool = False  # nothing is lost when a tag turns out to be another than was thought
    renamed: frozenset[str] = frozenset()  # tags that are written without a look
    absent: Collection[str] = ()  # tags that it lacks: their manifests are read at once


async def _look_at_target(
    job: Job,
    source: Source,
    target: Target,
    tags: Set[str],
    known: Mapping[str, Published],
    *,
    is_trial: bool,
) -> _TargetView:
    stored: RepositoryListing | None = None
    if isinstance(target, Inventory):
        expected = {} if job.policy.prune else {tag: known[tag].digest for tag in tags if tag in known}
        if expected and len(expected) == len(tags) and await target.holds_tags(expected):
            return _TargetView(None, dict(expected))
        stored = await target.list_manifests()
    are_few = len(tags) <= FEW_TAGS and not job.policy.prune
    may_guess = job.policy.overwrite and not (job.policy.backup or job.policy.prune)
    listed = dict(stored.tags) if stored else await _list_tags(target, are_few=are_few, may_guess=may_guess)
    is_wanted = not is_trial and len(job.shares) <= 1  # several targets read a manifest together, once
    is_retag = isinstance(target, Mounter) and target.find_sibling(source) == target.name
    # A tag gets another name in its repository by one GET and one PUT: to look whether it has it would cost as much.
    is_renamed = listed is None and is_wanted and is_retag and may_guess
    renamed = frozenset(tags - known.keys()) if is_renamed else frozenset[str]()
    absent = tags - listed.keys() if is_wanted and listed is not None else ()
    return _TargetView(stored, listed, is_retag, may_guess, renamed, absent)


class _AtTarget(NamedTuple):
    """How images that are judged compare with what the target has."""

    fresh: set[str]  # tags that it does not have so
    carried: dict[Digest, str]  # fingerprints of the signatures of images whose tags are right; empty where one is not


def _compare(
    roots: Mapping[str, Descriptor],
    present: Mapping[str, Digest | None],
    known: Mapping[str, Published],
    due: Set[str],
    stored: RepositoryListing | None,
) -> _AtTarget:
    fresh: set[str] = set()
    carried: dict[Digest, str] = {}
    for tag, root in roots.items():
        digest, published = root.digest, known.get(tag)
        is_recorded = published is not None and published.digest == digest
        there, signatures = present.get(tag, _ABSENT), ""
        if there != digest and not (there is None and is_recorded):  # as far as a listing or the ledger tells
            fresh.add(tag)
        elif published is not None and is_recorded and tag not in due and (stored is None or digest in stored.sizes):
            signatures = published.referrers
        if carried.setdefault(digest, signatures) != signatures:
            carried[digest] = ""
    return _AtTarget(fresh, carried)


async def _judge(
    judge: Judge, resolved: ResolvedTags, at_target: _AtTarget, due: Set[str], now: float, *, may_leave: bool
) -> JudgedImages:
    """Whether the images may be brought. Failures are added. `may_leave`: no more is asked of what is right."""
    carried = at_target.carried if may_leave else {}
    judged = await judge.judge(
        resolved.roots, at_target.fresh, now, due & resolved.roots.keys(), resolved.listed, carried
    )
    converted = decide_converted(judge.wanted)
    judged.judgements |= dict.fromkeys(resolved.references.keys() - resolved.roots.keys(), converted)
    resolved.failures |= judged.failures
    return judged


async def name_by_sha256(roots: Mapping[str, Descriptor], ledger: Ledger) -> Mapping[str, Descriptor]:
    """Roots as targets answer for them: by sha256, also where the source has another algorithm and it was found out."""
    others = [root.digest for root in roots.values() if not root.digest.startswith(ALGORITHM)]
    if not others:
        return roots
    known = await ledger.get_facts(SAME_AS, others)
    return {
        tag: replace(root, digest=Digest(known[root.digest])) if root.digest in known else root
        for tag, root in roots.items()
    }


async def _load_known(job: Job, ledger: Ledger) -> Mapping[str, Published]:
    """What is on record as whole as far as this job goes: with the same of its images."""
    known = await ledger.get_published(job.target.target, job.target.repository)
    scope = job.scope
    return {tag: published for tag, published in known.items() if published.scope == scope}


def _is_listed(root: Descriptor | None, stored: RepositoryListing | None) -> bool:
    """Whether a target that lists what it holds has a root under its digest."""
    return root is None or stored is None or root.digest in stored.sizes


def _expect(known: Mapping[str, Published], due: Set[str]) -> dict[str, Descriptor]:
    """What tags may be asked for as that which they are known to be; not those of which a full look is due."""
    return {tag: root for tag, one in known.items() if tag not in due and (root := one.root) is not None}


async def _find_attached(
    finder: ReferrerFinder, resolved: ResolvedTags, judged: JudgedImages, workers: int
) -> dict[str, ReferrerSet]:
    """What goes along with each tag's image; a tag of which that cannot be told fails."""
    found: dict[str, ReferrerSet] = {}
    roots = resolved.roots
    if judged.unchanged:
        roots = {tag: root for tag, root in roots.items() if root.digest not in judged.unchanged}
    signed = {tag: one.signatures for tag in roots if (one := judged.judgements.get(tag)) and one.signatures}
    for signatures in signed.values():
        finder.add_verified(signatures)
    wanted = [tag for tag in roots if tag not in resolved.settled]
    if resolved.listed:
        finder.learn_tags(resolved.listed)
    if not finder.asks:
        return {tag: finder.join_verified({resolved.roots[tag].digest, *signed.get(tag, ())}) for tag in wanted}

    async def find(tag: str) -> None:
        try:
            found[tag] = await finder.transitive(resolved.roots[tag].digest, signed.get(tag, ()))
        except OcisyncError as exc:
            resolved.failures[tag] = describe_failure(exc)

    await for_each(wanted, find, workers)
    return found


def _find_moved(
    job: Job,
    references: Mapping[str, str],
    known: Mapping[str, Published],
    roots: Mapping[str, Descriptor],
    recorded: Set[str],
) -> list[str]:
    """Complaints about tags that should never move, and did."""
    if not job.immutable:
        return []
    never = compile_any(job.immutable)
    moved = [
        (tag, known[tag].digest, roots[tag].digest)
        for tag in roots
        if tag not in recorded and tag in known and never.fullmatch(references[tag])
    ]
    return [
        f"{job.source}: the tag {tag} is immutable by the rule, and moved from {before} to {after} all the same"
        for tag, before, after in moved[:_MOST_TOLD]
    ] + ([f"{job.source}: {len(moved) - _MOST_TOLD} more such tags moved"] if len(moved) > _MOST_TOLD else [])


async def _list_tags(target: Target, *, are_few: bool, may_guess: bool) -> dict[str, Digest | None] | None:
    """Which tags a target without an inventory has, but not what they point at; None: each is to be asked for.

    The list only saves requests. A target may refuse it and take a push all the same: accounts that may push and not
    list, registries without that API, repositories that do not exist yet.
    """
    if are_few or not isinstance(target, Source):
        return None
    try:
        return dict.fromkeys(await target.tags())
    except NotFound:
        return {}
    except RegistryError as exc:
        if not may_guess:
            raise
        log.info("target.not_listed", target=str(target), error=exc.message)
        return None


async def _is_empty(target: ServerTarget) -> bool:
    """Whether a repository is known to hold nothing; what the target will not tell counts as no."""
    try:
        return await target.is_empty()
    except RegistryError as exc:
        log.debug("target.not_listed", target=str(target), error=exc.message)
        return False


async def _resolve_at_target(
    target: Target,
    wanted: Mapping[str, Descriptor],
    present: dict[str, Digest | None],
    workers: int,
    expected: Collection[str],
    *,
    may_guess: bool,
) -> frozenset[str]:
    """Resolve tags at the target for which neither a listing nor the ledger tells the digest; those it will not tell.

    A refused look-up is no reason to stop: if the target takes no push either, that will say so for each tag. Of an
    `expected` tag (listed, or on record) it is not believed that it is absent until a GET says so too: Nexus answers
    404 to every HEAD of a manifest, and would get all tags anew in each pass.
    """
    remote = target if wanted and isinstance(target, RemoteResolver) else None
    untold: set[str] = set()

    async def resolve(tag: str) -> None:
        try:
            with attribute_cost([tag]):
                try:
                    found = await (remote.revalidate(tag, wanted[tag]) if remote else target.resolve(tag))
                except NotFound:
                    if remote is None or tag not in expected:
                        raise
                    found = await remote.resolve_with_manifest(tag, is_needed=True)
        except NotFound:
            del present[tag]
        except RegistryError as exc:
            if not may_guess:
                raise
            log.debug("tag.not_told", tag=tag, error=exc.message)
            untold.add(tag)
        else:
            present[tag] = found.digest

    await for_each(wanted, resolve, workers)
    return frozenset(untold)
