"""Retention: which tags of a repository stay. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ocisync.model.digest import Digest
from ocisync.model.digest_tags import fallback_tag, is_digest_tag, parse_digest_tag

FEW = 3  # tags; so few of a repository may go whatever their share


@dataclass(frozen=True, slots=True)
class KeepPolicy:
    """A tag stays when one of these keeps it."""

    newest: int = 0  # tags of each repository
    newer_than: float = 0.0  # seconds
    tags: tuple[str, ...] = ()  # expressions that match a whole tag
    repositories: tuple[str, ...] = ()  # only of these, as expressions; none: of all

    def concerns(self, repository: str) -> bool:
        """Whether tags of a repository may be removed."""
        return not self.repositories or any(re.fullmatch(pattern, repository) for pattern in self.repositories)


@dataclass(frozen=True, slots=True)
class TagAge:
    """A tag, when it was published, and what it points at where that is known."""

    tag: str
    modified: float  # seconds since the epoch
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one tag."""

    tag: str
    stays: bool
    reason: str


def decide(tags: Iterable[TagAge], policy: KeepPolicy, now: float) -> list[Decision]:
    """A decision for each tag, the newest first; tags of signatures follow the image that they are named for."""
    ages = sorted(tags, key=lambda age: (-age.modified, age.tag))
    images = [age for age in ages if not is_digest_tag(age.tag)]
    decided = {age.tag: _decide(age, rank, policy, now) for rank, age in enumerate(images)}
    kept = {age.digest for age in images if decided[age.tag].stays}
    gone = {age.digest for age in images} - kept
    stems = {fallback_tag(digest) for digest in gone if digest is not None}
    return [decided.get(age.tag) or _follow(age, stems) for age in ages]


def _decide(age: TagAge, rank: int, policy: KeepPolicy, now: float) -> Decision:
    if pattern := next((one for one in policy.tags if re.fullmatch(one, age.tag)), None):
        return Decision(age.tag, True, f"matches {pattern}")
    if rank < policy.newest:
        return Decision(age.tag, True, f"one of the newest {policy.newest}")
    if policy.newer_than and now - age.modified < policy.newer_than:
        return Decision(age.tag, True, "new enough")
    return Decision(age.tag, False, f"number {rank + 1} by age, and nothing keeps it")


def _follow(age: TagAge, gone: set[str]) -> Decision:
    """Decide about a tag named for a digest; `gone` are the stems of the digests that no tag keeps."""
    found = parse_digest_tag(age.tag)
    if found is not None and found.stem in gone:
        return Decision(age.tag, False, "belongs to an image whose tags go")
    return Decision(age.tag, True, "belongs to an image that stays")


def refusal(decisions: Sequence[Decision], limit: float) -> str | None:
    """Why the decisions for a repository are not to be carried out; `limit` is the largest part of its tags."""
    going = sum(not decision.stays for decision in decisions)
    if going <= FEW or going <= limit * len(decisions):
        return None
    return f"{going} of {len(decisions)} tags would go, more than the limit of {limit:.0%}; allow it once by hand"
