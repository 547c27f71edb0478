"""Optional powers: telling what refers to a manifest (signatures, attestations, lists of parts), and keeping it found.

Spec: image-spec v1.1, manifest.md, "subject"; distribution-spec v1.1.1, "Listing Referrers".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ocisync.spec.descriptor import Descriptor
from ocisync.spec.digest import Digest


@runtime_checkable
class Referring(Protocol):
    """A source that knows which of its manifests refer to another."""

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """Manifests whose `subject` is this one, in the order of their digests; none for what is not there."""
        ...


@runtime_checkable
class TakesReferrers(Protocol):
    """A target where a writer must see to it that what refers to a manifest can be found."""

    async def refer(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        """See that manifests, which are stored here, are told as what refers to another; it need not be here yet."""
        ...
