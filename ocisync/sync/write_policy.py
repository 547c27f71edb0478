"""What a job may do to tags that its target has already; and a last look at them right before they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from ocisync.content.concurrency import for_each
from ocisync.content.repository import Fetcher, Target
from ocisync.content.verify import read_manifest
from ocisync.errors import NotFound, StoreError
from ocisync.model.descriptor import Descriptor
from ocisync.model.image_name import parse_tag

log = structlog.get_logger()

_HOLE = "{tag}"
_LOOKS = 8  # at a time


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """A rule's settings; the defaults mirror the source and remove nothing."""

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


async def check_overwrite(policy: WritePolicy, target: Target, tags: Mapping[str, Descriptor]) -> dict[str, Descriptor]:
    """The tags that must not be written, with what they point at; those that may move are kept under their backups.

    Another writer may have been here since the survey, so each tag is asked for once more.
    """
    if policy.overwrite and not policy.backup:
        return {}
    moving: dict[str, Descriptor] = {}

    async def look(tag: str) -> None:
        if (found := await _find_moving(target, tag, tags[tag])) is not None:
            moving[tag] = found

    await for_each(tags, look, _LOOKS)
    if not policy.overwrite:
        return moving
    if moving:
        await target.publish({policy.backup_of(tag): await _read_root(target, found) for tag, found in moving.items()})
        log.info("tags.backed_up", tags={tag: policy.backup_of(tag) for tag in moving})
    return {}


async def _find_moving(target: Target, tag: str, root: Descriptor) -> Descriptor | None:
    """What a tag points at that is about to point elsewhere."""
    try:
        found = await target.resolve(tag)
    except NotFound:
        return None
    return found if found.digest != root.digest else None


async def _read_root(target: Target, desc: Descriptor) -> Descriptor:
    if not isinstance(target, Fetcher):
        raise StoreError(f"{desc.digest}: its backup cannot be made, because nothing can be read from the target")
    return desc.with_data(await read_manifest(target, desc))
