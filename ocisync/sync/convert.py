"""Bring an image that must be converted on its way: its layers go to the target as soon as each is whole."""

from __future__ import annotations

from dataclasses import dataclass

from ocisync.content.protocols import Converter, Opener
from ocisync.spec.descriptor import Descriptor
from ocisync.spec.digest import Digest
from ocisync.sync.copy import Copier


@dataclass(frozen=True, slots=True)
class TargetSink:
    """Takes finished layers to a copier's target; remembers which layer holds which diff ID."""

    copier: Copier
    variant: str  # layers are taken over only from equal conversions, so that digests do not depend on history

    async def known(self, diff_id: Digest) -> Descriptor | None:
        """A layer of the repository with this content, if it is still there."""
        where = self.copier.where
        desc = await self.copier.tools.ledger.layer(where.target, where.repository, diff_id, self.variant)
        if desc is None or not await self.copier.target.exists(desc):
            return None
        return desc

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store one finished layer."""
        await self.copier.blob(desc, opener)

    async def learned(self, diff_id: Digest, desc: Descriptor) -> None:
        """Remember a layer that is at the target."""
        where = self.copier.where
        await self.copier.tools.ledger.record_layer(where.target, where.repository, diff_id, self.variant, desc)


async def convert(source: Converter, reference: str, copier: Copier) -> Descriptor:
    """Convert an image into the copier's target; its root is not published yet."""
    return await source.convert(reference, TargetSink(copier, source.variant))
