"""What goes along with an image because it refers to it: referrers at every level, and cosign's tags.

A source is asked about each digest once per job; the survey and the copy share the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ocisync.content.concurrency import Once, for_each
from ocisync.content.protocols import Source
from ocisync.content.referrers import Referring
from ocisync.content.verify import read_manifest
from ocisync.errors import InputError, LimitExceeded, NotFound
from ocisync.spec.descriptor import Descriptor
from ocisync.spec.digest import Digest
from ocisync.spec.referrers import cosign_tags, is_digest_tag, reference_of
from ocisync.sync.attached import Attached, ReferrerChoice

_AT_A_TIME = 8  # lookups about one image


class Companions:
    """What goes along with the images of one source."""

    def __init__(self, source: Source, choice: ReferrerChoice, depth: int = 8) -> None:
        self.choice = choice
        self.depth = depth  # how far referrers may be nested
        self._source = source
        self._wants_referrers = _wants_referrers(source, choice)
        self._tags: frozenset[str] | None = None  # those named for a digest; None: they were not listed
        self._once: Once[Digest, Attached] = Once()

    def learn_tags(self, tags: Iterable[str]) -> None:
        """Take note of all tags of the source: others need not be asked for."""
        self._tags = frozenset(filter(is_digest_tag, tags))

    async def of(self, subject: Digest) -> Attached:
        """What refers to one manifest directly."""

        async def look() -> Attached:
            return Attached(tuple(await self._referrers(subject)), await self._digest_tags(subject))

        return await self._once(subject, look)

    async def around(self, root: Digest) -> Attached:
        """What refers to an image, and to that in turn.

        Raises:
            LimitExceeded: the referrers are nested deeper.
        """
        referrers: dict[Digest, Descriptor] = {}
        tags: dict[str, Descriptor] = {}
        seen: set[Digest] = set()
        wave = {root}

        async def look(subject: Digest) -> None:
            found = await self.of(subject)
            referrers.update({desc.digest: desc for desc in found.referrers})
            tags.update(found.tags)

        for _ in range(self.depth + 1):
            await for_each(sorted(wave), look, _AT_A_TIME)
            seen |= wave
            wave = referrers.keys() - seen
            if not wave:
                return Attached(tuple(referrers[digest] for digest in sorted(referrers)), tags)
        raise too_deep(root, self.depth)

    async def tag(self, name: str) -> Descriptor | None:
        """What the source has under a tag that is named for a digest, or None."""
        if self._tags is not None and name not in self._tags:
            return None
        try:
            return await self._source.resolve(name)
        except (NotFound, InputError):  # an archive that knows no such name
            return None

    async def _referrers(self, subject: Digest) -> Sequence[Descriptor]:
        if not self._wants_referrers or not isinstance(self._source, Referring):
            return ()
        told = await self._source.referrers(subject)
        return [desc for desc in told if await self._is_wanted(desc)]

    async def _is_wanted(self, desc: Descriptor) -> bool:
        return not self.choice.types or await self._artifact_type(desc) in self.choice.types

    async def _artifact_type(self, desc: Descriptor) -> object:
        if desc.artifact_type:
            return desc.artifact_type
        try:
            reference = reference_of(desc.digest, await read_manifest(self._source, desc))
        except NotFound:
            return None
        return reference.entry.get("artifactType") if reference else None

    async def _digest_tags(self, subject: Digest) -> dict[str, Descriptor]:
        names = cosign_tags(subject) if self.choice.digest_tags else []
        return {name: desc for name in names if (desc := await self.tag(name)) is not None}


def companions_of(source: Source, choice: ReferrerChoice, depth: int) -> Companions | None:
    """What goes along with the images of a source; None where nothing is wanted, and so nothing is asked."""
    return Companions(source, choice, depth) if choice.digest_tags or _wants_referrers(source, choice) else None


def _wants_referrers(source: Source, choice: ReferrerChoice) -> bool:
    brings: bool = getattr(source, "brings_referrers", False)
    return choice.referrers if choice.referrers is not None else brings


def too_deep(digest: Digest, depth: int) -> LimitExceeded:
    """The error of referrers that refer to referrers without end."""
    return LimitExceeded(f"{digest}: referrers nested more than {depth} deep")
