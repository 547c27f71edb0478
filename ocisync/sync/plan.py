"""Plan: decide per tag, with reasons, and forecast what that costs of the source. Pure: facts in, actions out."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ocisync.content.cost import PullQuota
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.judging.acceptance import Judgement, Outcome
from ocisync.sync.ledger import Published
from ocisync.sync.referrers.referrer_set import ReferrerSet
from ocisync.sync.reports import Failure

_SHORTEST_ENTRY = 150  # bytes of an index


class Action(enum.Enum):
    """What to do about a tag."""

    COPY = "copy"  # bring its graph and point the tag at it
    CHECK = "check"  # the tag is right, but what lies below it is not known to be whole here
    REFER = "refer"  # the tag is right, but what refers to its image is not known to be here
    SKIP = "skip"
    REFUSE = "refuse"  # the rule does not take such an image
    WAIT = "wait"  # not yet: it is too young, or its signature may still come
    KEEP = "keep"  # the tag points elsewhere, and must not move
    PRUNE = "prune"  # the source has it no more
    FAIL = "fail"  # the source could not say what it is


_UNCHANGED = Action.SKIP, "unchanged"  # what is decided of most tags


class PlannedTag(NamedTuple):
    """One decision."""

    tag: str
    reference: str  # at the source
    action: Action
    reason: str
    root: Descriptor | None = None
    failure: Failure | None = None
    attached: ReferrerSet | None = None  # what goes along; None: nothing is wanted
    judgement: Judgement | None = None  # None: the rule takes everything


@dataclass(frozen=True, slots=True)
class Criteria:
    """What decisions depend on besides facts: the rule's settings, the clock, what the target is known to refuse."""

    now: float  # seconds since the epoch
    recheck: float  # seconds
    validates: bool  # the target refuses a manifest whose children it lacks
    overwrite: bool = True  # tags that are at the target may move
    send_again: bool = False  # believe nothing that the target says it has
    vouches: bool = False  # the target was seen to refuse such a manifest: believed until the first full look


class TagFacts(NamedTuple):
    """What is known of one tag."""

    tag: str
    reference: str
    root: Descriptor | None
    failure: Failure | None
    is_present: bool
    present: Digest | None
    published: Published | None
    attached: ReferrerSet | None = None
    is_root_listed: bool = True  # False: the target lists what it holds, and the root is not there under its digest
    judgement: Judgement | None = None  # None: the rule takes everything
    is_untold: bool = False  # the target does not say whether it has the tag


def decide(facts: TagFacts, criteria: Criteria) -> PlannedTag:
    """The decision for one tag."""
    action, reason = chosen = _choose(facts, criteria)
    attached, judgement = facts.attached, facts.judgement
    if chosen is not _UNCHANGED:
        reason += f", with {attached}" if attached and action is Action.COPY else ""
        if judgement is not None and judgement.outcome is Outcome.WARNED and action is not Action.SKIP:
            reason += f"; not as the rule wants it: {judgement.reason}"
    return PlannedTag(facts.tag, facts.reference, action, reason, facts.root, facts.failure, attached, judgement)


def _choose(facts: TagFacts, criteria: Criteria) -> tuple[Action, str]:
    """What to do, and why. A manifest's presence does not prove its blobs, so it alone never means SKIP."""
    root, present, judgement = facts.root, facts.present, facts.judgement
    if facts.failure is not None:
        return Action.FAIL, f"the source could not be asked: {facts.failure.message}"
    if judgement is not None and not judgement.is_accepted:
        return Action.WAIT if judgement.outcome is Outcome.PENDING else Action.REFUSE, judgement.reason
    if root is None:
        return Action.COPY, "its digest is known only after its conversion"
    if not facts.is_present:
        return Action.COPY, "new"
    verified = facts.published is not None and facts.published.digest == root.digest
    if present != root.digest and not (present is None and verified):
        if not criteria.overwrite:
            return Action.KEEP, explain_kept(present)
        if facts.is_untold:
            return Action.COPY, "what the target has under it is not known"
        return Action.COPY, f"moved from {present or 'another digest'}"
    return _decide_unchanged(facts, criteria, verified=verified)


def _decide_unchanged(facts: TagFacts, criteria: Criteria, *, verified: bool) -> tuple[Action, str]:
    """What to do about a tag that is right."""
    if criteria.send_again:
        return Action.COPY, "unchanged; everything is sent again"
    if not facts.is_root_listed:
        return Action.CHECK, "unchanged; but its manifest is not there under its digest"
    if verified and not is_due(facts.published, criteria):
        if facts.attached is None or _has_same_referrers(facts):
            return _UNCHANGED
        return Action.REFER, f"unchanged; what refers to it now is not known to be here: {facts.attached}"
    is_believed = criteria.validates or (criteria.vouches and facts.published is None)
    if is_believed and facts.present is not None and facts.attached is None:
        return Action.SKIP, "unchanged; the registry keeps what its manifests need"
    return Action.CHECK, "unchanged; due for a full look" if verified else "unchanged; not yet verified here"


def _has_same_referrers(facts: TagFacts) -> bool:
    """Whether what refers to the image is the same as when it was verified here."""
    known = facts.published.referrers if facts.published else ""
    return facts.attached is None or facts.attached.fingerprint == known


def explain_kept(present: Digest | None) -> str:
    """Why a tag stays that the source has otherwise."""
    return f"the target's {present or 'image'} stays: the rule says `overwrite: never`, and the source has another"


def is_due(published: Published | None, criteria: Criteria) -> bool:
    """Whether a verified tag is to be looked at again; a clock that jumped back makes it due."""
    if published is None:
        return True
    age = criteria.now - published.verified_at
    return not 0 <= age < criteria.recheck


def find_due(known: Mapping[str, Published], criteria: Criteria) -> set[str]:
    """The tags on record that are to be looked at again."""
    return {tag for tag, published in known.items() if is_due(published, criteria)}


def make_plan(facts: Iterable[TagFacts], criteria: Criteria) -> list[PlannedTag]:
    """Decide for every tag, in order."""
    return [decide(of_tag, criteria) for of_tag in facts]


_READING = (Action.COPY, Action.CHECK, Action.REFER)


@dataclass(frozen=True, slots=True)
class Pulls:
    """Bounds of the pulls that are needed of one host, and what it allows.

    A pull is a GET of a manifest, as Docker Hub counts. How many manifests an index lists is known only by pulling it,
    so what lies below it is told as bounds: an entry has a digest, a size and a type, and cannot be shorter than these.
    """

    host: str
    least: int = 0
    most: int = 0
    allowance: PullQuota | None = None

    def __add__(self, other: Pulls) -> Pulls:
        return Pulls(self.host, self.least + other.least, self.most + other.most, self.allowance or other.allowance)


def forecast_pulls(host: str, planned: Iterable[PlannedTag]) -> Pulls:
    """What one job's plan needs; tags that share an image need it once, unchanged tags need nothing."""
    needed = Pulls(host)
    seen: set[str] = set()
    for one in planned:
        if one.action not in _READING or one.root is None or one.root.digest in seen:
            continue
        seen.add(one.root.digest)
        attached = len(one.attached.referrers) + len(one.attached.tags) if one.attached else 0
        image = 0 if one.action is Action.REFER else 1 + _count_below(one.root)
        least = 1 if one.action is Action.COPY else 0  # what is at the target already is read there where it can be
        needed += Pulls(host, least, image + attached)
    return needed


def _count_below(root: Descriptor) -> int:
    return root.size // _SHORTEST_ENTRY if root.is_index else 0
