"""Archives, layouts and sets as sources and targets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ocisync.config.models import Config, DropRule
from ocisync.content.compress import Compression
from ocisync.content.protocols import Source, Target
from ocisync.errors import ConfigError
from ocisync.images.merge import Member, merged
from ocisync.spec.locator import (
    ArchiveLocator,
    DockerArchiveLocator,
    LayoutLocator,
    Locator,
    OciArchiveLocator,
    SetLocator,
)
from ocisync.stores.archive.detect import open_any
from ocisync.stores.archive.docker_archive import ConversionOptions, open_docker_archive
from ocisync.stores.archive.layout import open_oci_archive, open_oci_layout
from ocisync.stores.archive.write import open_layout_target, open_oci_archive_target

ArchiveFileLocator = ArchiveLocator | DockerArchiveLocator | LayoutLocator | OciArchiveLocator


@dataclass(frozen=True, slots=True)
class Archives:
    """Opens files; `scratch` is where what must be spooled goes."""

    config: Config
    scratch: Path

    @asynccontextmanager
    async def source(self, locator: ArchiveFileLocator | SetLocator) -> AsyncIterator[Source]:
        """The image or images that a file, a layout or a set of them holds."""
        async with AsyncExitStack() as stack:
            if isinstance(locator, SetLocator):
                members = [
                    Member(one.platform, await self._open(ArchiveLocator(one.path), stack)) for one in locator.members
                ]
                yield merged(members)
            else:
                yield await self._open(locator, stack)

    @asynccontextmanager
    async def target(self, place: LayoutLocator | OciArchiveLocator) -> AsyncIterator[Target]:
        """A layout that is added to, or an archive that appears when the context ends well."""
        path = Path(place.path)
        if isinstance(place, LayoutLocator):
            async with open_layout_target(path) as layout:
                yield layout
        else:
            async with open_oci_archive_target(path) as archive:
                yield archive

    async def names(self, locator: Locator) -> Sequence[str]:
        """What an archive says its images are called.

        Raises:
            ArchiveError: it is no archive of images, or corrupt.
        """
        if not isinstance(locator, ArchiveLocator | DockerArchiveLocator | LayoutLocator | OciArchiveLocator):
            raise ConfigError(f"{locator} has no names of its own")
        async with self.source(locator) as source:
            return await source.tags()

    async def _open(self, locator: ArchiveFileLocator, stack: AsyncExitStack) -> Source:
        path, options = Path(locator.path), self._options(Path(locator.path))
        match locator:
            case LayoutLocator():
                return await stack.enter_async_context(open_oci_layout(path))
            case OciArchiveLocator():
                return await stack.enter_async_context(open_oci_archive(path, scratch=self.scratch))
            case DockerArchiveLocator():
                return await stack.enter_async_context(open_docker_archive(path, scratch=self.scratch, options=options))
            case ArchiveLocator():
                return await stack.enter_async_context(open_any(path, scratch=self.scratch, options=options))

    def _options(self, path: Path) -> ConversionOptions:
        """How layers are converted: as the drop rule says in whose folder the file lies."""
        rule = next((rule for rule in self.config.drop if path.is_relative_to(rule.path)), None)
        return conversion_options(rule) if rule else ConversionOptions()


def conversion_options(rule: DropRule) -> ConversionOptions:
    """The conversion that a drop rule asks for."""
    return ConversionOptions(rule.format, Compression(rule.compression, rule.level))
