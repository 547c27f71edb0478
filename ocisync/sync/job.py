"""A job: plain data that says what to bring from where to where; any machine with the configuration can run it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ocisync.model.image_name import parse_tag
from ocisync.model.locator import Locator, TargetLocator
from ocisync.model.platform_filter import EVERYTHING, PlatformChoice
from ocisync.sync.judging.acceptance import Acceptance
from ocisync.sync.referrers.referrer_set import ReferrerChoice
from ocisync.sync.reports import Failure, JobReport
from ocisync.sync.select import TagSelection

DAY = 24 * 3600.0  # seconds
_HOLE = "{tag}"


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """What a rule may do to tags that its target has already; the defaults mirror the source and remove nothing."""

    overwrite: bool = True  # whether a tag that the target has may move
    backup: str = ""  # the tag that keeps what a tag pointed at before it moved, with {tag} in it; empty: none
    prune: bool = False
    prune_limit: float = 0.2  # the largest share of the target's selected tags that may go at one time
    is_forced: bool = False  # prune whatever the share

    def backup_of(self, tag: str) -> str:
        """The name of a tag's backup.

        Raises:
            InvalidName: it would be too long for a tag.
        """
        return parse_tag(self.backup.replace(_HOLE, tag))

    def is_backup(self, tag: str) -> bool:
        """Whether a tag looks like a backup of another."""
        before, hole, after = self.backup.partition(_HOLE)
        fits = tag.startswith(before) and tag.endswith(after) and len(tag) > len(before) + len(after)
        return bool(hole) and fits


@dataclass(frozen=True, slots=True)
class Job:
    """One source repository (or archive, or set) and one target repository."""

    rule: str
    source: Locator
    target: TargetLocator
    tags: TagSelection = field(default_factory=TagSelection)
    recheck: float = DAY  # seconds after which a tag that the ledger calls verified is looked at again in full
    platforms: PlatformChoice = EVERYTHING  # which images of an index are brought; the index itself stays as it is
    largest: int = 0  # bytes to pull of any one image, else its tag is left out; 0: no limit
    policy: WritePolicy = field(default_factory=WritePolicy)
    is_partial: bool = False  # only some of the tags that the rule selects, because they were pushed
    shares: tuple[str, ...] = ()  # lock names of the targets that the rule brings the same to; empty: only this one
    referrers: ReferrerChoice = field(default_factory=ReferrerChoice)
    include_external: bool = False  # foreign layers too, which need not be in any registry
    acceptance: Acceptance | None = None  # what must hold of images; None: all are taken
    immutable: tuple[str, ...] = ()  # expressions for tags that never move, and are not asked for again
    send_again: bool = False  # believe nothing that the target says it has

    @property
    def scope(self) -> str:
        """What of an image is brought, for the ledger; empty: all but foreign layers."""
        platforms = "" if self.platforms is EVERYTHING else self.platforms.scope
        return f"{platforms}{' external' if self.include_external else ''}"

    @property
    def wants_signatures(self) -> bool:
        """Whether what signs an image decides about it, so that a new signature is a reason to look."""
        return self.acceptance is not None and bool(self.acceptance.policies)

    @property
    def lock_name(self) -> str:
        """Jobs that share this never run at the same time."""
        return self.target.lock_name

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for jobs of one rule and lock that would do the same; `recheck` does not count."""
        return str(self.source), str(self.target), self.tags.key, self.platforms, self.largest

    def report(self, failure: Failure | None = None) -> JobReport:
        """A report of this job in which nothing is done yet."""
        return JobReport(self.rule, str(self.source), str(self.target), failure=failure)
