"""What goes along with an image because it refers to it, as values. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ocisync.model.descriptor import Descriptor

_NO_TAGS: Mapping[str, Descriptor] = {}


@dataclass(frozen=True, slots=True)
class ReferrerChoice:
    """What a rule wants to go along; by default what belongs to the source anyway, as in a layout."""

    referrers: bool | None = None  # None: only where the source brings them unasked
    types: tuple[str, ...] = ()  # artifact types; empty: all
    digest_tags: bool = False  # cosign's signatures, attestations and lists of parts


class ReferrerSet(NamedTuple):
    """What refers to something at the source."""

    referrers: tuple[Descriptor, ...] = ()  # in the order of their digests
    tags: Mapping[str, Descriptor] = _NO_TAGS

    @property
    def fingerprint(self) -> str:
        """The same for the same referrers and tags."""
        lines = [desc.digest for desc in self.referrers] + [
            f"{tag} {self.tags[tag].digest}" for tag in sorted(self.tags)
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def join(self, other: ReferrerSet) -> ReferrerSet:
        """Both."""
        if not (self and other):
            return self or other
        referrers = {desc.digest: desc for desc in (*self.referrers, *other.referrers)}
        return ReferrerSet(tuple(referrers[digest] for digest in sorted(referrers)), {**self.tags, **other.tags})

    def __bool__(self) -> bool:
        return bool(self.referrers or self.tags)

    def __str__(self) -> str:
        counts = ((len(self.referrers), "referrer"), (len(self.tags), "digest tag"))
        return " and ".join(f"{count} {what}{'s' * (count != 1)}" for count, what in counts if count) or "nothing"
