"""Jobs from sync rules."""

from __future__ import annotations

import re

from ocisync.config.models import SyncRule
from ocisync.spec.locator import Locator, RegistryLocator, TargetLocator, ViewLocator
from ocisync.sync.care import Care
from ocisync.sync.job import Job
from ocisync.sync.select import TagSelection


def sync_jobs(rule: SyncRule) -> list[Job]:
    """One job per target of the rule."""
    return [
        Job(
            rule.name,
            _source(rule),
            TargetLocator(place.target, place.repository),
            _selection(rule),
            rule.recheck,
            Care(rule.overwrite == "always", rule.backup or "", rule.prune, rule.prune_limit),
        )
        for place in rule.places
    ]


def _source(rule: SyncRule) -> Locator:
    source = RegistryLocator(rule.source)
    if rule.format is None:
        return source
    return ViewLocator(source, format=rule.format, drop_signatures=rule.drop_signatures)


def _selection(rule: SyncRule) -> TagSelection:
    """A rule whose source or expressions name tags literally needs no listing."""
    if rule.source.tag:
        return TagSelection(literal={rule.source.tag: rule.source.tag})
    allow, deny = rule.tags.allow, rule.tags.deny
    if allow and not deny and all(_is_literal(pattern) for pattern in allow):
        return TagSelection(literal={_unescaped(pattern): _unescaped(pattern) for pattern in allow})
    return TagSelection(None, allow, deny)


def _is_literal(pattern: str) -> bool:
    """Whether an expression can match one text only."""
    plain = _unescaped(pattern)
    return re.fullmatch(r"[A-Za-z0-9_-]+", plain.replace(".", "")) is not None and pattern == plain.replace(".", r"\.")


def _unescaped(pattern: str) -> str:
    return pattern.replace(r"\.", ".")
