"""Prune: tags of the target that the rule selects and the source no longer has. What goes is decided by pure functions.

The source is asked again for each tag before it goes: a listing may be short, and a tag may have come back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import structlog

from ocisync.content.capabilities import Reconciler, Untagger
from ocisync.content.repository import Resolver, Target
from ocisync.errors import ConfigError, NotFound
from ocisync.model.digest_tags import is_digest_tag
from ocisync.sync.job import WritePolicy
from ocisync.sync.plan import Action, PlannedTag
from ocisync.sync.select import TagSelection, find_origin, find_remaining

log = structlog.get_logger()

REFUSED = "prune.refused"
GONE = "gone at the source"


class PruneCandidates(NamedTuple):
    """What prune would remove, and why it must not."""

    tags: tuple[str, ...] = ()
    refusal: str = ""


def find_gone(
    selection: TagSelection, policy: WritePolicy, listed: Collection[str], present: Iterable[str]
) -> PruneCandidates:
    """Which of the target's tags are to go.

    `listed` is the whole list of the source's tags, `present` that of the target's. Only what the rule would bring if
    the source had it can go; backups, and what is named for a digest, stay.
    """
    if not policy.prune:
        return PruneCandidates()
    mine = [tag for tag in present if not policy.is_backup(tag) and not is_digest_tag(tag)]
    mine = [tag for tag in mine if find_origin(selection, tag) is not None]
    there = find_remaining(selection, listed, mine)
    going = tuple(sorted(tag for tag in mine if tag not in there))
    return PruneCandidates(
        going, "" if policy.is_forced else _check_share(going, len(mine), policy, is_empty=not listed)
    )


def plan_removals(gone: PruneCandidates) -> list[PlannedTag]:
    """What prune would do, for a plan; nothing where it is refused."""
    return [] if gone.refusal else [PlannedTag(tag, tag, Action.PRUNE, GONE) for tag in gone.tags]


async def prune(gone: PruneCandidates, selection: TagSelection, source: Resolver, target: Target) -> list[str]:
    """Remove the tags that are gone indeed; which.

    Raises:
        ConfigError: the target cannot remove tags.
    """
    going = [tag for tag in gone.tags if await _is_gone(source, find_origin(selection, tag) or tag)]
    if going and not isinstance(target, Untagger):
        raise ConfigError("prune: tags cannot be removed from such a target; set `prune: false`")
    if going and isinstance(target, Untagger):
        await target.untag(going)
        log.info("tags.pruned", count=len(going), tags=going[:10])
    elif isinstance(target, Reconciler):  # an earlier run may have ended between a tag and the list of tags
        await target.reconcile()
    return going


def _check_share(going: Collection[str], mine: int, policy: WritePolicy, *, is_empty: bool) -> str:
    if not going:
        return ""
    if is_empty:
        return (
            f"the source lists no tags at all, so the {len(going)} tags at the target stay; "
            "if that is right, run `ocisync once --force-prune` with the rule's name"
        )
    if len(going) <= policy.prune_limit * mine:
        return ""
    return (
        f"{len(going)} of {mine} tags are gone at the source, more than prune_limit ({policy.prune_limit:.0%}), so all "
        "of them stay; if that is right, run `ocisync once --force-prune` with the rule's name"
    )


async def _is_gone(source: Resolver, reference: str) -> bool:
    try:
        await source.resolve(reference)
    except NotFound:
        return True
    log.warning("tag.not_pruned", tag=reference, reason="the source has it, though it did not list it")
    return False
