"""Forecast: how many pulls of the source's host a plan needs. Pure.

A pull is a GET of a manifest, as Docker Hub counts. How many manifests an index lists is known only by pulling it, so
what lies below it is told as bounds: an entry has a digest, a size and a type, and cannot be shorter than these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ocisync.content.pull_quota import PullQuota
from ocisync.model.descriptor import Descriptor
from ocisync.sync.plan import Action, PlannedTag

_SHORTEST_ENTRY = 150  # bytes of an index
_READING = (Action.COPY, Action.CHECK, Action.REFER)


@dataclass(frozen=True, slots=True)
class Pulls:
    """Bounds of the pulls that are needed of one host, and what it allows."""

    host: str
    least: int = 0
    most: int = 0
    allowance: PullQuota | None = None

    def __add__(self, other: Pulls) -> Pulls:
        return Pulls(self.host, self.least + other.least, self.most + other.most, self.allowance or other.allowance)


def pulls_of(host: str, planned: Iterable[PlannedTag]) -> Pulls:
    """What one job's plan needs; tags that share an image need it once, unchanged tags need nothing."""
    needed = Pulls(host)
    seen: set[str] = set()
    for one in planned:
        if one.action not in _READING or one.root is None or one.root.digest in seen:
            continue
        seen.add(one.root.digest)
        attached = len(one.attached.referrers) + len(one.attached.tags) if one.attached else 0
        image = 0 if one.action is Action.REFER else 1 + _most_below(one.root)
        least = 1 if one.action is Action.COPY else 0  # what is at the target already is read there where it can be
        needed += Pulls(host, least, image + attached)
    return needed


def _most_below(root: Descriptor) -> int:
    return root.size // _SHORTEST_ENTRY if root.is_index else 0
