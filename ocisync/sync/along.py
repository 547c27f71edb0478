"""Bring along what refers to the manifests of a graph: referrers by their digests, cosign's tags as tags.

The subjects are walked in waves, not recursively: an index may refer to an image that it lists, and lists that clients
keep may say anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from ocisync.content.concurrency import for_each
from ocisync.content.protocols import Target
from ocisync.content.referrers import TakesReferrers
from ocisync.errors import LimitExceeded, NotFound
from ocisync.spec.descriptor import Descriptor
from ocisync.spec.digest import Digest
from ocisync.spec.referrers import fallback_tag
from ocisync.sync.attached import Attached
from ocisync.sync.companions import Companions, too_deep

log = structlog.get_logger()
_AT_A_TIME = 8  # subjects


@dataclass(frozen=True, slots=True)
class Ways:
    """How a copier reads and brings manifests."""

    whole: Callable[[Descriptor], Awaitable[Descriptor]]  # a manifest with its bytes, from wherever it is cheapest
    bring: Callable[[Descriptor], Awaitable[Mapping[Digest, int]]]  # it and all below it; digests with sizes, bytes
    is_manifest: Callable[[Digest], bool]  # of what was brought


@dataclass
class Along:
    """What goes along with one root."""

    companions: Companions
    target: Target
    ways: Ways
    most: int  # descriptors
    found: dict[Digest, int] = field(default_factory=dict)  # bytes
    tags: dict[str, Descriptor] = field(default_factory=dict)  # to be published before the root's, with their bytes

    async def bring(self, root: Digest, below: Mapping[Digest, int]) -> None:
        """Bring everything that refers to the root or to a manifest below it, and what refers to that.

        Raises:
            LimitExceeded: too much, or too deep.
        """
        wave = {root, *filter(self.ways.is_manifest, below)}
        seen: set[Digest] = set()
        for _ in range(self.companions.depth + 1):
            await for_each(sorted(wave), self._subject, _AT_A_TIME)
            if len(self.found) > self.most:
                raise LimitExceeded(f"{root}: more than {self.most} descriptors refer to it")
            seen |= wave | {desc.digest for desc in self.tags.values()}
            wave = set(filter(self.ways.is_manifest, self.found)) - seen
            if not wave:
                return
        raise too_deep(root, self.companions.depth)

    async def _subject(self, subject: Digest) -> None:
        attached = await self.companions.of(subject)
        brought = [desc for desc in attached.referrers if await self._brought(desc)]
        if brought and isinstance(self.target, TakesReferrers):
            await self.target.refer(subject, brought)
        for tag, desc in {**attached.tags, **await self._list(subject, attached, brought)}.items():
            self.tags[tag] = whole = await self.ways.whole(desc)
            self.found.update(await self.ways.bring(whole))

    async def _brought(self, desc: Descriptor) -> bool:
        """Whether a referrer is at the target now; lists that clients keep may name what was deleted."""
        try:
            whole = await self.ways.whole(desc)
        except NotFound:
            log.warning("referrer.missing", digest=desc.digest)
            return False
        self.found.update(await self.ways.bring(whole))
        return True

    async def _list(self, subject: Digest, attached: Attached, brought: Sequence[Descriptor]) -> dict[str, Descriptor]:
        """The source's own list under a tag, for targets that do not make one, where it names what was brought."""
        is_whole = len(brought) == len(attached.referrers) > 0 and not self.companions.choice.types
        if not is_whole or isinstance(self.target, TakesReferrers):
            return {}
        desc = await self.companions.tag(fallback_tag(subject))
        return {fallback_tag(subject): desc} if desc is not None and desc.is_index else {}
