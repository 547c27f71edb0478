"""Archives, layouts and sets as sources and targets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ocisync.config.models import ArchiveLimits, Config, DropRuleSettings
from ocisync.content.capabilities import Converter
from ocisync.content.files import FileGuard
from ocisync.content.repository import Source, Target
from ocisync.errors import ConfigError, InputError
from ocisync.model.locator import (
    ArchiveLocator,
    DockerArchiveLocator,
    ImageFolderLocator,
    LayoutLocator,
    Locator,
    OciArchiveLocator,
    SetLocator,
    SetMember,
    ViewLocator,
)
from ocisync.model.media_type_families import Format
from ocisync.model.platform import Platform, is_same_platform
from ocisync.wiring.views import apply_view

if TYPE_CHECKING:  # imported where one is opened: a twentieth of the start
    from ocisync.content.compress import Compression
    from ocisync.content.decompress import Caps
    from ocisync.content.tar.index import TarLimits
    from ocisync.stores.archive.docker_archive import ConversionOptions

ArchiveFileLocator = ArchiveLocator | DockerArchiveLocator | ImageFolderLocator | LayoutLocator | OciArchiveLocator
ArchiveFile = OciArchiveLocator | DockerArchiveLocator
ArchivePlace = ArchiveFileLocator | SetLocator


@dataclass(frozen=True, slots=True)
class Archives:
    """Opens files; `scratch` is where what must be spooled goes."""

    config: Config
    scratch: Path
    compression: Compression | None = None  # of layers that come uncompressed; None: as the drop rule says
    _held: dict[tuple[ArchivePlace, ViewLocator | None], Source] = field(default_factory=dict)

    @asynccontextmanager
    async def source(
        self, locator: ArchiveFileLocator | SetLocator, view: ViewLocator | None = None
    ) -> AsyncIterator[Source]:
        """The image or images that a file, a layout or a set of them holds, as the view shows them."""
        held = self._held.get((locator, view))
        if held is not None:
            yield held
            return
        async with AsyncExitStack() as stack:
            if not isinstance(locator, SetLocator):
                yield await self._open(locator, stack, view)
                return
            from ocisync.images.views.multi_platform import PlatformMember, merge_platforms

            members = []
            for one in members_for(locator, view.platform if view else None):
                source = await self._open(ArchiveLocator(one.path, identity=one.identity), stack, view)
                members.append(PlatformMember(one.platform, source, where=one.path))
            yield merge_platforms(members)

    @asynccontextmanager
    async def hold(self, locator: Locator) -> AsyncIterator[None]:
        """Keep an archive open for the block, so that asking for its names and every job of it share one opening.

        Raises:
            ArchiveError: it is no archive of images, or corrupt.
        """
        inner, view = (locator.of, locator) if isinstance(locator, ViewLocator) else (locator, None)
        if not isinstance(inner, ArchivePlace) or (inner, view) in self._held:
            yield
            return
        async with self.source(inner, view) as source:
            self._held[inner, view] = source
            try:
                yield
            finally:
                del self._held[inner, view]

    @asynccontextmanager
    async def target(self, place: ArchiveFile | ImageFolderLocator | LayoutLocator) -> AsyncIterator[Target]:
        """A layout that is added to, or an archive that appears when the context ends well."""
        from ocisync.stores.archive.archive_target import open_docker_archive_target, open_oci_archive_target
        from ocisync.stores.archive.oci_layout_target import open_layout_target

        path = Path(place.path)
        match place:
            case LayoutLocator():
                async with open_layout_target(path) as layout:
                    yield layout
            case ImageFolderLocator():
                from ocisync.stores.archive.image_folder import open_image_folder_target

                async with open_image_folder_target(path) as folder:
                    yield folder
            case OciArchiveLocator():
                async with open_oci_archive_target(path) as archive:
                    yield archive
            case DockerArchiveLocator():
                async with open_docker_archive_target(path) as saved:
                    yield saved

    async def names(self, locator: Locator) -> Sequence[str]:
        """What an archive says its images are called; `@N` for the N-th where it alone has no name to be published by.

        Raises:
            ArchiveError: it is no archive of images, or corrupt.
        """
        inner, view = (locator.of, locator) if isinstance(locator, ViewLocator) else (locator, None)
        if not isinstance(inner, ArchivePlace):
            raise ConfigError(f"{locator} has no names of its own")
        from ocisync.stores.archive.archive_files import UnnamedImages

        async with self.source(inner, view) as source:
            unnamed = await source.unnamed() if isinstance(source, UnnamedImages) else ()
            return [*await source.tags(), *unnamed]

    async def identify(self, locator: Locator) -> str:
        """What an archive says it holds, as one digest; empty where only all of its bytes tell.

        Raises:
            ArchiveError: it is no archive of images, or corrupt.
        """
        if not isinstance(locator, ArchiveFileLocator):
            return ""
        from ocisync.stores.archive.docker_archive import DockerArchiveSource

        async with self.source(locator) as source:
            return await source.identity() if isinstance(source, DockerArchiveSource) else ""

    async def check(self, locator: Locator) -> None:
        """Read a set whole, and check every byte of it. Nothing is kept, and nothing compressed.

        Raises:
            OcisyncError: as its publication would.
        """
        from ocisync.content.compress import Compression
        from ocisync.images.pull_check import pull_and_check

        if not isinstance(locator, SetLocator):
            raise ConfigError(f"{locator} is no set")
        as_they_are = replace(self, compression=Compression("none"), _held={})
        async with as_they_are.source(locator) as source:
            root = await source.resolve("")  # a docker-archive's layers are all hashed for that
            if not isinstance(source, Converter):
                await pull_and_check(source, root)

    async def _open(self, locator: ArchiveFileLocator, stack: AsyncExitStack, view: ViewLocator | None) -> Source:
        source = await self._open_whole(locator, stack, view.format if view else None)
        return apply_view(source, view) if view else source

    async def _open_whole(self, locator: ArchiveFileLocator, stack: AsyncExitStack, wanted: Format | None) -> Source:
        from ocisync.stores.archive.oci_layout import open_oci_archive
        from ocisync.stores.archive.open_any import open_any, open_folder

        path, options = Path(locator.path), self._options(locator, wanted)
        match locator:
            case LayoutLocator() | ImageFolderLocator():
                return await stack.enter_async_context(open_folder(path, options))
            case OciArchiveLocator():
                archive = open_oci_archive(
                    path,
                    scratch=self.scratch,
                    caps=options.caps,
                    limits=options.limits,
                    required=options.required,
                )
                return await stack.enter_async_context(archive)
            case DockerArchiveLocator() | ArchiveLocator():  # docker 25's have a layout, whose digests are kept
                return await stack.enter_async_context(open_any(path, scratch=self.scratch, options=options))

    def _options(self, locator: ArchiveFileLocator, wanted: Format | None) -> ConversionOptions:
        """How layers are converted: as asked for, else as the drop rule says in whose folder the file lies.

        Whoever may write to that folder must not have other files published: no link in it is followed.
        """
        from ocisync.stores.archive.docker_archive import ConversionOptions

        path = Path(locator.path)
        rule = next((rule for rule in self.config.drop if path.is_relative_to(rule.path)), None)
        options = conversion_options(rule) if rule else ConversionOptions()
        if rule and isinstance(locator, ArchiveLocator | LayoutLocator):
            identity = locator.identity if isinstance(locator, ArchiveLocator) else None
            options = replace(options, guard=FileGuard(rule.path, identity))
        limits = self.config.archives
        options = replace(options, caps=caps_of(limits), limits=tar_limits_of(limits))
        if self.compression:
            is_asked = self.compression.kind != "none"
            options = replace(options, compression=self.compression, recompress=is_asked)
        return replace(options, format=wanted) if wanted else options


def caps_of(settings: ArchiveLimits) -> Caps:
    """How far content may grow."""
    from ocisync.content.decompress import Caps

    return Caps(settings.size, settings.ratio)


def tar_limits_of(settings: ArchiveLimits) -> TarLimits:
    """How much an archive may hold."""
    from ocisync.content.tar.index import TarLimits

    return TarLimits(settings.members)


def members_for(locator: SetLocator, platform: Platform | None) -> tuple[SetMember, ...]:
    """The members of a set, or the one for a platform.

    Raises:
        InputError: `platform.missing`: the set has none for it.
    """
    if platform is None:
        return locator.members
    found = tuple(member for member in locator.members if is_same_platform(member.platform, platform))
    if not found:
        offered = ", ".join(str(member.platform) for member in locator.members)
        raise InputError(f"no file of the set is for {platform}; there are {offered}", code="platform.missing")
    return found


def conversion_options(rule: DropRuleSettings) -> ConversionOptions:
    """The conversion that a drop rule asks for."""
    from ocisync.content.compress import Compression
    from ocisync.stores.archive.docker_archive import ConversionOptions

    is_asked = "compression" in rule.model_fields_set and rule.compression != "none"
    compression = Compression(rule.compression, rule.level)
    return ConversionOptions(rule.format, compression, recompress=is_asked, required=tuple(rule.platforms))
