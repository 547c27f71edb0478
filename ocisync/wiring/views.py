"""Sources seen in another format, for one platform, or with smaller indexes."""

from __future__ import annotations

from dataclasses import dataclass, field

from ocisync.content.notes import Notes
from ocisync.content.protocols import Converter, Source
from ocisync.images.choose import chosen
from ocisync.images.convert import ConvertedSource, Remembered
from ocisync.images.narrow import NarrowedSource
from ocisync.spec.locator import ViewLocator
from ocisync.sync.ledger import MemoryLedger


@dataclass(frozen=True, slots=True)
class Memory:
    """What manifests became that were rewritten, so that they are not read in every pass."""

    converted: Remembered = field(default_factory=dict)
    notes: Notes = field(default_factory=MemoryLedger)


def seen(source: Source, view: ViewLocator, memory: Memory | None = None) -> Source:
    """The source as the view shows it; what must be converted anyway is converted to the view's format already."""
    memory = memory or Memory()
    if view.platform is not None:
        source = chosen(source, view.platform)
    if not view.images.is_everything and not isinstance(source, Converter):
        source = NarrowedSource(source, view.images, memory.notes)
    if view.format is None or isinstance(source, Converter):
        return source
    return ConvertedSource(source, view.format, view.drop_signatures, memory.converted)
