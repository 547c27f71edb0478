"""An optional power of sources: telling what refers to a manifest (signatures, attestations, lists of parts).

Spec: image-spec v1.1, manifest.md, "subject"; distribution-spec v1.1.1, "Listing Referrers".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ocisync.spec.descriptor import Descriptor
from ocisync.spec.digest import Digest


@runtime_checkable
class Referring(Protocol):
    """A source that knows which of its manifests refer to another; a copy brings them along."""

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """Manifests whose `subject` is this one, in the order of their digests; none for what is not there."""
        ...
