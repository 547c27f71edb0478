"""Concrete stores behind the seam: which class serves which locator. Connections are opened on first use and shared."""

from __future__ import annotations

import importlib
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast, runtime_checkable
from urllib.parse import urlsplit

import anyio

from ocisync.config.models import Config, LayoutFolderTarget, RegistryTarget, S3Target, StaticTarget
from ocisync.config.models import Target as TargetSettings
from ocisync.content.cost import PullQuota
from ocisync.content.repository import Fetcher, Source, Target
from ocisync.daemon.schedule import AnyJob
from ocisync.errors import ConfigError
from ocisync.model.locator import (
    ArchiveLocator,
    DockerArchiveLocator,
    ImageFolderLocator,
    LayoutLocator,
    Locator,
    OciArchiveLocator,
    RegistryLocator,
    S3Locator,
    SetLocator,
    StaticLocator,
    TargetLocator,
    ViewLocator,
    registry_image,
    strip_views,
)
from ocisync.model.registry_root import BucketRoot, DirectoryRoot, RegistryRoot
from ocisync.stores.registry.options import Share
from ocisync.stores.s3.options import S3Options
from ocisync.stores.static.options import StaticOptions
from ocisync.sync.job import Job
from ocisync.wiring.archives import ArchivePlace, Archives
from ocisync.wiring.store_options import (
    find_target,
    registry_options,
    s3_options,
    s3_options_of,
    settings_for,
    static_options,
)
from ocisync.wiring.views import Memory, apply_view

if TYPE_CHECKING:  # each is imported where it is opened: together they are a tenth of the start
    from ocisync.stores.registry.client import RegistryClient
    from ocisync.stores.static.registry import StaticRegistry

_T = TypeVar("_T")
_KEPT = StaticOptions()
_WITH_PAGE = StaticOptions(page=True)
_SERVED_PIECE = 12 * 1024  # bytes
OpenTarget = Callable[[str], AbstractAsyncContextManager[Target]]  # by the repository's name


@runtime_checkable
class ProviderKnown(Protocol):
    """A bucket, whose provider can be tried out."""

    @property
    def options(self) -> S3Options:
        """How it is reached."""
        ...

    async def provider(self) -> Described:
        """What it can do."""
        ...


class Described(Protocol):
    """Something that can be told in a table."""

    def describe(self) -> dict[str, str]:
        """What, and whether."""
        ...


@dataclass
class StoreFactory:
    """Opens what locators and targets name (the protocol `sync.context.Stores`)."""

    config: Config
    archives: Archives
    _stack: AsyncExitStack
    tell: Callable[[str], None]  # why the work stands still
    memory: Memory = field(default_factory=Memory)
    share: Share = field(default_factory=Share)  # of the limits of registries
    _targets: dict[str, OpenTarget] = field(default_factory=dict)
    _shared: dict[object, object] = field(default_factory=dict)
    _opening: anyio.Lock = field(default_factory=anyio.Lock)

    def __post_init__(self) -> None:
        for name, settings in self.config.targets.items():
            self._targets[name] = self._open_configured(settings)

    @asynccontextmanager
    async def source(self, locator: Locator) -> AsyncIterator[Source]:
        """The repository, archive or set that a locator names."""
        match locator:
            case RegistryLocator(image):
                yield (await self._registries()).source(image.host, image.repository)
            case StaticLocator() | S3Locator():
                yield (await self.static_registry_at(locator.root)).repository(locator.repository)
            case LayoutLocator() | ImageFolderLocator() | OciArchiveLocator() | DockerArchiveLocator():
                async with self.archives.source(locator) as source:
                    yield source
            case ArchiveLocator() | SetLocator():
                async with self.archives.source(locator) as source:
                    yield source
            case TargetLocator():
                async with self.target(locator) as target:
                    if not isinstance(target, Source):
                        raise ConfigError(f"{locator}: nothing can be read from there")
                    yield target
            case ViewLocator():
                async with self._open_view(locator) as source:
                    yield source

    @asynccontextmanager
    async def _open_view(self, view: ViewLocator) -> AsyncIterator[Source]:
        """Another source through a view; archives apply it themselves, for each of their members."""
        if isinstance(view.of, ArchivePlace):
            async with self.archives.source(view.of, view) as source:
                yield source
            return
        async with self.source(view.of) as source:
            yield apply_view(source, view, self.memory)

    def hold(self, locator: Locator) -> AbstractAsyncContextManager[None]:
        """Keep an archive open for the block; raises as opening it does. Anything else needs no holding."""
        is_archive = isinstance(strip_views(locator), ArchivePlace)
        return self.archives.hold(locator) if is_archive else nullcontext()

    def explain_stall(self, job: AnyJob) -> str:
        """Why a job's source or target, a registry, must be left alone for long; empty: it need not."""
        registries = cast("RegistryClient | None", self._shared.get("registries"))
        if registries is None or not isinstance(job, Job):
            return ""
        settings = self.config.targets.get(job.target.target)
        places: list[tuple[str, str]] = []
        if isinstance(settings, RegistryTarget):
            url = urlsplit(settings.url)
            places.append((url.netloc, f"{url.path}/{job.target.repository}".strip("/")))
        if (source := registry_image(job.source)) is not None:
            places.append((source.host, source.repository))
        reasons = (registries.explain_stall(host, name) for host, name in places)
        return next(filter(None, reasons), "")

    async def repositories(self, host: str) -> Sequence[str]:
        """Every repository that a registry's catalog names.

        Raises:
            RegistryError: it does not show its catalog.
        """
        return await (await self._registries()).catalog(host)

    async def check_login(self, host: str) -> bool:
        """Whether a registry asks for a login and takes the configured one; raises AuthError where it refuses it."""
        return await (await self._registries()).check_login(host)

    async def allowance(self, host: str, name: str) -> tuple[str, PullQuota | None]:
        """What a repository's pulls are counted under, and what its registry said last of a limit on them."""
        return (await self._registries()).allowance(host, name)

    def target(self, locator: TargetLocator) -> AbstractAsyncContextManager[Target]:
        """A repository of a target."""
        return self._targets[locator.target](locator.repository)

    @asynccontextmanager
    async def external(self) -> AsyncIterator[Fetcher]:
        """Foreign layers at their own URLs."""
        yield (await self._registries()).external()

    def as_target(self, place: Locator) -> TargetLocator:
        """Any place that can be written to, as a target of its own.

        Raises:
            ConfigError: nothing can be written there.
        """
        match place:
            case TargetLocator():
                return place
            case RegistryLocator(image):
                name, repository = f"docker://{image.host}", image.repository
                self._targets[name] = self._registry(image.host, "")
            case StaticLocator() | S3Locator():
                name, repository = _name_of(place.root), place.repository
                self._targets[name] = self._on(lambda: self.static_registry_at(place.root))
            case LayoutLocator() | OciArchiveLocator() | DockerArchiveLocator():
                name, repository = str(replace(place, reference="")), ""
                self._targets[name] = lambda _: self.archives.target(place)
            case ImageFolderLocator():
                name, repository = str(place), ""
                self._targets[name] = lambda _: self.archives.target(place)
            case _:
                raise ConfigError(
                    f"{place}: nothing can be written there; the destination must be docker://, static:, s3://, oci:, "
                    "oci-archive:, docker-archive: or dir:"
                )
        return TargetLocator(name, repository)

    async def capabilities(self, settings: TargetSettings) -> dict[str, str]:
        """What a target's storage can do; S3's is tried out.

        Raises:
            S3ConfigError: bucket, region, credentials or rights are wrong.
        """
        if isinstance(settings, RegistryTarget):
            return {"kind": f"registry {settings.url}"}
        if isinstance(settings, LayoutFolderTarget):
            return {"kind": f"layouts below {settings.path}"}
        store = (await self._static(settings)).store
        if isinstance(store, ProviderKnown):
            return {"kind": str(store), **(await store.provider()).describe()}
        return {"kind": f"directory {store}", "conditional writes": "yes, by locks", "server-side copy": "hard links"}

    async def static_registry(self, target: str) -> StaticRegistry:
        """A configured static target.

        Raises:
            ConfigError: there is no such target, or it is not a static registry.
        """
        settings = self.config.targets.get(target)
        if settings is None:
            known = ", ".join(sorted(self.config.targets)) or "none"
            raise ConfigError(f"no target is named {target[:80]!r}; known are {known}")
        if isinstance(settings, RegistryTarget):
            raise ConfigError(f"{target}: a registry looks after itself; this is for targets of type static or s3")
        if isinstance(settings, LayoutFolderTarget):
            raise ConfigError(f"{target}: it holds layouts; this is for targets of type static or s3")
        return await self._static(settings)

    async def static_registry_at(self, root: RegistryRoot) -> StaticRegistry:
        """The static registry in a directory or bucket; one that a configured target means has that target's settings.

        Where the root names a profile or no credentials at all, it is reached with these.
        """
        settings = self.config.targets.get(await self.target_at(root))
        if isinstance(settings, StaticTarget | S3Target) and not (
            isinstance(root, BucketRoot) and (root.profile or root.anonymous)
        ):
            return await self._static(settings)
        if isinstance(root, DirectoryRoot):
            path = Path(root.directory)
            return await self._once(path, lambda: _static_directory(path, _WITH_PAGE))
        options = s3_options_of(root)
        kept = static_options(settings) if isinstance(settings, S3Target) else _KEPT
        return await self._once((options, kept), lambda: _static_bucket(options, kept))

    async def target_at(self, root: RegistryRoot) -> str:
        """The name of the configured target that a root means; empty where none does."""
        return await anyio.to_thread.run_sync(find_target, self.config, root)

    @asynccontextmanager
    async def open_destination(self, place: Locator) -> AsyncIterator[TargetLocator]:
        """A place as a target of its own; an archive stays open for the block and takes all that is copied in it.

        Raises:
            ConfigError: nothing can be written there.
        """
        where = self.as_target(place)
        if not isinstance(place, OciArchiveLocator | DockerArchiveLocator):
            yield where
            return
        async with self.archives.target(place) as target:
            self._targets[where.target] = lambda _: nullcontext(target)
            yield where

    async def served_registry(self, target: str) -> StaticRegistry:
        """A configured static target, for serving it."""
        settings = self.config.targets[target]
        if not isinstance(settings, StaticTarget | S3Target):
            raise ConfigError(f"{target}: only targets of type static and s3 can be served")
        return await self.for_serving(await self._static(settings))

    async def for_serving(self, registry: StaticRegistry) -> StaticRegistry:
        """The same registry; a bucket's by connections of its own that are read in small pieces.

        What a client does not take waits in memory, for each of many clients.
        """
        if not isinstance(registry.store, ProviderKnown):
            return registry
        options = replace(registry.store.options, read_size=_SERVED_PIECE)
        return await self._once((options, registry.options), lambda: _static_bucket(options, registry.options))

    def _open_configured(self, settings: TargetSettings) -> OpenTarget:
        if isinstance(settings, RegistryTarget):
            parts = urlsplit(settings.url)
            return self._registry(parts.netloc, parts.path.strip("/"))
        if isinstance(settings, LayoutFolderTarget):
            return lambda repository: self.archives.target(LayoutLocator(str(settings.path / repository)))
        return self._on(lambda: self._static(settings))

    def _registry(self, host: str, prefix: str) -> OpenTarget:
        @asynccontextmanager
        async def open_repository(repository: str) -> AsyncIterator[Target]:
            yield (await self._registries()).repository(host, f"{prefix}/{repository}".strip("/"))

        return open_repository

    def _on(self, registry: Callable[[], Awaitable[StaticRegistry]]) -> OpenTarget:
        @asynccontextmanager
        async def open_repository(repository: str) -> AsyncIterator[Target]:
            yield (await registry()).repository(repository)

        return open_repository

    async def _registries(self) -> RegistryClient:
        return await self._once("registries", self._opened_registries)

    def _opened_registries(self) -> AbstractAsyncContextManager[RegistryClient]:
        keys = ("", *self.config.registries)
        options = {key: replace(registry_options(settings_for(self.config, key)), share=self.share) for key in keys}
        defaults = options.pop("")
        for settings in self.config.targets.values():
            if isinstance(settings, RegistryTarget):  # the scheme that is written out is kept to
                url = urlsplit(settings.url)
                options.setdefault(url.netloc, defaults)
                for key in [key for key in options if key.partition("/")[0] == url.netloc]:
                    options[key] = replace(options[key], plain_http=url.scheme == "http")
        import_aiohttp()
        from ocisync.stores.registry.client import open_registries  # aiohttp takes 0.1 s to import

        return open_registries(options, defaults, self.tell)

    async def _static(self, settings: StaticTarget | S3Target) -> StaticRegistry:
        kept = static_options(settings)
        if isinstance(settings, StaticTarget):
            return await self._once((settings.path, kept), lambda: _static_directory(settings.path, kept))
        options = s3_options(settings)
        return await self._once((options, kept), lambda: _static_bucket(options, kept))

    async def _once(self, key: object, opened: Callable[[], AbstractAsyncContextManager[_T]]) -> _T:
        """What is opened once per session and closed with it."""
        if key not in self._shared:
            async with self._opening:
                if key not in self._shared:
                    self._shared[key] = await self._stack.enter_async_context(opened())
        return cast("_T", self._shared[key])


@asynccontextmanager
async def _static_directory(path: Path, kept: StaticOptions = _KEPT) -> AsyncIterator[StaticRegistry]:
    from ocisync.stores.directory.store import DirectoryStore
    from ocisync.stores.static.registry import StaticRegistry

    yield StaticRegistry(DirectoryStore(path), options=kept)


@asynccontextmanager
async def _static_bucket(options: S3Options, kept: StaticOptions = _KEPT) -> AsyncIterator[StaticRegistry]:
    import_aiohttp()
    from ocisync.stores.s3.store import open_s3  # botocore takes 0.1 s to import
    from ocisync.stores.static.registry import StaticRegistry

    async with open_s3(options) as store:
        yield StaticRegistry(store, workers=options.concurrency, options=kept)


def _name_of(root: RegistryRoot) -> str:
    """A target's name for a registry that no target of the configuration names."""
    if isinstance(root, DirectoryRoot):
        return f"static:{Path(root.directory).absolute()}"
    return f"{root} at {root.endpoint or 'AWS'}"


def import_aiohttp() -> None:
    """Import aiohttp without the certificates, where nobody has imported it before.

    It reads the system's certificates twice when it is imported, for contexts that we do not use
    (`content.network.tls`): a sixth of the start of a command.
    """
    if "aiohttp" in sys.modules:
        return
    ssl.SSLContext.set_default_verify_paths = _read_nothing  # type: ignore[method-assign, assignment]
    try:
        importlib.import_module("aiohttp")
    finally:
        del ssl.SSLContext.set_default_verify_paths  # what it hides is the base class's


def _read_nothing(_: ssl.SSLContext) -> None:
    return None
