"""Sources seen in another format, or for one platform."""

from __future__ import annotations

from ocisync.content.protocols import Converter, Source
from ocisync.images.choose import chosen
from ocisync.images.convert import ConvertedSource, Remembered
from ocisync.spec.locator import ViewLocator


def seen(source: Source, view: ViewLocator, remembered: Remembered | None = None) -> Source:
    """The source as the view shows it; what must be converted anyway is converted to the view's format already."""
    if view.platform is not None:
        source = chosen(source, view.platform)
    if view.format is None or isinstance(source, Converter):
        return source
    return ConvertedSource(source, view.format, view.drop_signatures, {} if remembered is None else remembered)
