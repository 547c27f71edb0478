"""`ls`, `rm` and `verify` for what is no static registry: ordinary registries, and archives and layouts to verify."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from anyio import to_thread

from ocisync.commands.images.names import FILES, parse_source
from ocisync.config.load import load_config
from ocisync.config.models import Config, RegistryTarget
from ocisync.content.concurrency import for_each
from ocisync.content.repository import Source
from ocisync.errors import ConfigError, NotFound, OcisyncError
from ocisync.images.pull_check import PullResult, pull_and_check
from ocisync.model.digest import Digest
from ocisync.model.image_name import ImageName, parse_host, parse_image_name
from ocisync.model.locator import Locator, RegistryLocator, strip_views
from ocisync.sync.reports import Failure, describe_failure
from ocisync.wiring.session import Session, optional_session

if TYPE_CHECKING:  # aiohttp takes 0.1 s to import
    from ocisync.stores.registry.repository import RegistryRepository

_AT_A_TIME = 8  # tags looked up


@dataclass(frozen=True, slots=True)
class RegistryPlace:
    """A registry, or what is below a path in it; the path may be a repository's name."""

    host: str
    path: str = ""

    def __str__(self) -> str:
        return f"docker://{self.host}" + (f"/{self.path}" if self.path else "")


@dataclass(frozen=True, slots=True)
class RegistryTag:
    """A tag of a registry's repository."""

    tag: str
    digest: Digest
    kind: str  # "index" or "image"


@dataclass(frozen=True, slots=True)
class RegistryContent:
    """What `ls` found: the tags of a repository, or names of repositories."""

    tags: Sequence[RegistryTag] = ()
    repositories: Sequence[str] = ()


@dataclass(slots=True)
class VerifiedImages:
    """What `verify` read, and what was wrong."""

    images: int = 0
    read: PullResult = field(default_factory=PullResult)
    failures: dict[str, Failure] = field(default_factory=dict)  # by tag or digest


def find_place(text: str, file: Path | None) -> tuple[RegistryPlace, str] | None:
    """The registry that `docker://…` or a target of type registry means, and a tag or digest; None for others.

    Raises:
        InvalidName: it is none, by its form.
    """
    if text.startswith("docker://"):
        return _split_place(text.removeprefix("docker://"))
    if file is None or ":" in text.partition("/")[0]:
        return None
    name, _, below = text.partition("/")
    settings = load_config(file, needs_secrets=False).targets.get(name)
    if not isinstance(settings, RegistryTarget):
        return None
    url = urlsplit(settings.url)
    return _split_place("/".join(filter(None, (url.netloc, url.path.strip("/"), below))))


def _split_place(rest: str) -> tuple[RegistryPlace, str]:
    first, slash, path = rest.partition("/")
    if not path and (slash or "." in first or ":" in first or first == "localhost"):
        return RegistryPlace(parse_host(first)), ""
    image = parse_image_name(rest)
    return RegistryPlace(image.host, image.repository), image.digest or image.tag


def is_image_file(text: str) -> bool:
    """Whether text names an archive, a layout or a folder with an image, which `verify` can read."""
    if text.startswith(("static:", "s3:", "docker:")):
        return False
    try:
        return isinstance(strip_views(parse_source(text)), FILES)
    except OcisyncError:
        return False


async def list_registry(place: RegistryPlace, config: Path | Config | None) -> RegistryContent:
    """The tags of a repository; where there is none of that name, the repositories of the registry below it.

    Raises:
        NotFound: nothing is there.
        RegistryError: the registry does not show its catalog.
    """
    async with optional_session(config) as session:
        if not place.path:
            return RegistryContent(repositories=await session.stores.repositories(place.host))
        try:
            return RegistryContent(await _list_tags(session, place))
        except NotFound as exc:
            try:
                names = await session.stores.repositories(place.host)
            except OcisyncError:
                raise exc from None
            below = [name for name in names if name.startswith(f"{place.path}/")]
            if not below:
                raise
            return RegistryContent(repositories=below)


async def _list_tags(session: Session, place: RegistryPlace) -> list[RegistryTag]:
    found: dict[str, RegistryTag] = {}
    async with session.stores.source(_locator(place)) as source:
        tags = await source.tags()

        async def look(tag: str) -> None:
            try:
                desc = await source.resolve(tag)
            except NotFound:  # removed since it was listed
                return
            found[tag] = RegistryTag(tag, desc.digest, "index" if desc.is_index else "image")

        await for_each(tags, look, _AT_A_TIME)
    return [found[tag] for tag in tags if tag in found]


async def remove_from_registry(
    images: Sequence[tuple[RegistryPlace, str]], config: Path | Config | None, dry_run: bool
) -> list[str]:
    """Remove tags, all tags of a repository where none is named, or manifests by their digests; what was removed.

    Raises:
        NotFound: one is not there; none is removed.
        RegistryError: the registry deletes nothing.
    """
    removed: list[str] = []
    async with optional_session(config) as session:
        going = [(place, references) async for place, references in _find_going(session, images)]
        for place, references in going:
            if not dry_run:
                await _remove(session, place, references)
            removed += [f"{place}{'@' if ':' in one else ':'}{one}" for one in references]
    return removed


async def _find_going(
    session: Session, images: Sequence[tuple[RegistryPlace, str]]
) -> AsyncIterator[tuple[RegistryPlace, list[str]]]:
    for place, reference in images:
        if not place.path:
            raise ConfigError(f"{place} names a whole registry: name a repository or a tag in it")
        async with session.stores.source(_locator(place)) as source:
            if reference:
                await source.resolve(reference)
            yield place, [reference] if reference else list(await source.tags())


async def _remove(session: Session, place: RegistryPlace, references: Sequence[str]) -> None:
    async with session.stores.target(session.stores.as_target(_locator(place))) as target:
        remover = cast("RegistryRepository", target)  # what `docker://` opens
        for reference in references:
            if ":" in reference:
                await remover.delete_manifest(reference)
            else:
                await remover.untag([reference])


async def verify_images(text: str, config: Path | Config | None) -> VerifiedImages:
    """Read images whole and check every byte: one, or all tags where none is named. Nothing is kept.

    Raises:
        OcisyncError: the place cannot be opened, or its tags cannot be listed.
    """
    checked = VerifiedImages()
    async with _open(text, config) as (source, references):
        for reference in references:
            try:
                found = await pull_and_check(source, await source.resolve(reference))
            except OcisyncError as exc:
                checked.failures[reference or "image"] = describe_failure(exc)
                continue
            checked.images += 1
            checked.read.manifests += found.manifests
            checked.read.blobs += found.blobs
            checked.read.bytes += found.bytes
    return checked


@asynccontextmanager
async def _open(text: str, config: Path | Config | None) -> AsyncIterator[tuple[Source, Sequence[str]]]:
    locator = await to_thread.run_sync(parse_source, text)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(optional_session(config))
        await stack.enter_async_context(session.stores.hold(locator))
        source = await stack.enter_async_context(session.stores.source(locator))
        is_whole = isinstance(locator, RegistryLocator) and not (locator.image.tag or locator.image.digest)
        yield source, (list(await source.tags()) if is_whole else [locator.reference])


def _locator(place: RegistryPlace) -> Locator:
    return RegistryLocator(ImageName(place.host, place.path))
