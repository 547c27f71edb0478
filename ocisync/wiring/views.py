"""Sources seen in another format, for one platform, or with smaller indexes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocisync.content.capabilities import Converter
from ocisync.content.fact_cache import FactCache
from ocisync.content.repository import Source
from ocisync.errors import InputError
from ocisync.model.locator import ViewLocator
from ocisync.sync.ledger import MemoryLedger

if TYPE_CHECKING:  # each view is imported where it is wanted: most sources are seen as they are
    from ocisync.images.views.convert_format import Remembered


@dataclass(frozen=True, slots=True)
class Memory:
    """What manifests became that were rewritten, so that they are not read in every pass."""

    converted: Remembered = field(default_factory=dict)
    notes: FactCache = field(default_factory=MemoryLedger)


def apply_view(source: Source, view: ViewLocator, memory: Memory | None = None) -> Source:
    """The source as the view shows it; what must be converted anyway is converted to the view's format already."""
    memory = memory or Memory()
    if view.by_tag is not None:
        from ocisync.images.views.by_tag import ByTagView

        source = ByTagView(source, view.by_tag)
    if view.platform is not None:
        from ocisync.images.views.single_platform import view_platform

        source = view_platform(source, view.platform)
    if view.images.needs_all and isinstance(source, Converter):
        raise InputError(
            "such an archive has one platform's image under each name: ask for one platform", code="platform.missing"
        )
    if not view.images.is_everything and not isinstance(source, Converter):
        from ocisync.images.views.filter_index import FilteredIndexView

        source = FilteredIndexView(source, view.images, memory.notes)
    if view.format is None or isinstance(source, Converter):
        return source
    from ocisync.images.views.convert_format import ConvertedSource

    return ConvertedSource(source, view.format, view.drop_signatures, memory.converted)
