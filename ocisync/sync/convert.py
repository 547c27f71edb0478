"""Images that are converted while they are copied: their layers go into the target as they are made."""

from __future__ import annotations

from dataclasses import dataclass

from ocisync.content.capabilities import Converter
from ocisync.content.repository import Opener
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.copy import GraphCopier


@dataclass(frozen=True, slots=True)
class TargetSink:
    """Takes finished layers to a copier's target; remembers which layer holds which diff ID (a LayerSink)."""

    copier: GraphCopier
    variant: str  # layers are taken over only from equal conversions, so that digests do not depend on history

    async def lookup(self, diff_id: Digest) -> Descriptor | None:
        """A layer of the repository with this content, if it is still there."""
        presence = self.copier.presence
        where = presence.where
        desc = await presence.ledger.find_layer(where.target, where.repository, diff_id, self.variant)
        if desc is None or not await presence.target.exists(desc):
            return None
        return desc

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store one finished layer."""
        await self.copier.copy_blob(desc, opener)

    async def record(self, diff_id: Digest, desc: Descriptor) -> None:
        """Remember a layer that is at the target."""
        where = self.copier.presence.where
        await self.copier.presence.ledger.record_layer(where.target, where.repository, diff_id, self.variant, desc)


async def convert(source: Converter, reference: str, copier: GraphCopier) -> Descriptor:
    """Convert an image into the copier's target; its root is not published yet."""
    return await source.convert(reference, TargetSink(copier, source.variant))
