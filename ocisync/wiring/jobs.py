"""Jobs from sync rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ocisync.config.models import (
    Config,
    DropRuleSettings,
    LayoutFolderTarget,
    RegistryTarget,
    SyncRule,
    TagRules,
    TargetReference,
)
from ocisync.config.parsers import list_literals
from ocisync.config.sections.selection import pinned_tag
from ocisync.model.digest import Digest
from ocisync.model.image_name import ImageName
from ocisync.model.locator import Locator, RegistryLocator, TargetLocator, ViewLocator
from ocisync.model.name_mapping import TAG, Renaming
from ocisync.model.place_name import FILE_KINDS, PlaceName
from ocisync.model.platform_filter import EVERYTHING, PlatformChoice
from ocisync.sync.job import Job, WritePolicy
from ocisync.sync.judging.acceptance import Acceptance
from ocisync.sync.referrers.referrer_set import ReferrerChoice
from ocisync.sync.select import TagSelection, TagSet


def sync_jobs(rule: SyncRule, config: Config) -> list[Job]:
    """One job per target of the rule; none for a whole registry, whose repositories are not known yet."""
    return [] if rule.type == "registry" else repository_jobs(rule, config, rule.source)


def repository_jobs(rule: SyncRule, config: Config, source: ImageName) -> list[Job]:
    """One job per target for one repository of the source.

    Raises:
        InvalidName: at a target it would get a name that no repository can have.
    """
    places = rule.places_of(source.repository)
    shares = tuple(TargetLocator(place.target, place.repository).lock_name for place in places)
    jobs = [_job(rule, config, source, place) for place in places]
    return [replace(job, shares=shares) for job in jobs] if len(jobs) > 1 else jobs


def _job(rule: SyncRule, config: Config, source: ImageName, place: TargetReference) -> Job:
    choice = PlatformChoice(rule.platforms, rule.attestations)
    choice = EVERYTHING if choice == EVERYTHING else choice
    may_rewrite = isinstance(config.targets.get(place.target), RegistryTarget | LayoutFolderTarget)
    rewrites = rule.format is not None or (may_rewrite and rule.rewrite_index is True)
    return Job(
        rule.name,
        _source(rule, source, choice if rewrites else EVERYTHING),
        TargetLocator(place.target, place.repository),
        _selection(rule, source, place),
        rule.recheck,
        platforms=choice,
        largest=rule.max_size or 0,
        policy=WritePolicy(rule.overwrite == "always", rule.backup or "", rule.prune, rule.prune_limit),
        referrers=_referrers(rule),
        include_external=rule.include_external,
        acceptance=acceptance_of(rule),
        immutable=rule.immutable,
    )


def _source(rule: SyncRule, image: ImageName, images: PlatformChoice) -> Locator:
    source: Locator = RegistryLocator(image)
    by_tag = None
    if isinstance(image, PlaceName) and image.place is not None:
        source = image.place
        by_tag = image.name if isinstance(source, FILE_KINDS) else None
    if by_tag is not None:
        return ViewLocator(source, None, rule.format, rule.drop_signatures, images, by_tag)
    if rule.format is None and images is EVERYTHING:
        return source
    return ViewLocator(source, format=rule.format, drop_signatures=rule.drop_signatures, images=images)


def _referrers(rule: SyncRule) -> ReferrerChoice:
    types = rule.referrers.types if rule.referrers is not None else ()
    return ReferrerChoice(rule.referrers is not None, types, rule.digest_tags)


def _selection(rule: SyncRule, image: ImageName, place: TargetReference) -> TagSelection:
    """A rule whose source or expressions name tags literally needs no listing."""
    rename = Renaming(rule.rename.tags, place.tag or TAG)
    if image.digest:
        return TagSelection(literal={rename.apply(image.tag or pinned_tag(image.digest)): image.digest})
    if image.tag:
        return _literal({image.tag}, rename, rule.digests)
    given = [rule.tags] if "tags" in rule.model_fields_set or not (rule.tag_sets or rule.digests) else []
    sets = (*given, *rule.tag_sets)
    named = [_list_literal(tags) for tags in sets]
    if all(names is not None for names in named):
        return _literal({name for names in named for name in names or ()}, rename, rule.digests)
    return TagSelection(None, tuple(_tag_set(tags) for tags in sets), rule.digests, rename)


def _literal(tags: set[str], rename: Renaming, pinned: Mapping[str, Digest]) -> TagSelection:
    return TagSelection(literal={rename.apply(tag): tag for tag in sorted(tags)}, pinned=pinned)


def _tag_set(tags: TagRules) -> TagSet:
    return TagSet(tags.allow, tags.deny, tags.versions, tags.latest or 0, tags.latest_by, tags.newer_than or 0.0)


def _list_literal(tags: TagRules) -> list[str] | None:
    """The tags that a set names one by one; None when it needs the list of tags."""
    conditions = tags.deny or tags.semver or tags.latest or tags.newer_than
    return None if conditions else list_literals(tags.allow)


def acceptance_of(rule: DropRuleSettings | SyncRule) -> Acceptance | None:
    """What a rule demands of images; None where it takes all."""
    demand, age = rule.verify, rule.min_age if isinstance(rule, SyncRule) else None
    if demand is None and (age is None or not age.of):
        return None
    return Acceptance(
        demand.names if demand else (),
        bool(demand and demand.all),
        demand is not None and demand.otherwise == "warn",
        demand.wait if demand else 0.0,
        demand is not None and demand.each is not None,
        age.of if age else 0.0,
        age.by if age else "seen",
    )
