"""`copy` and `push`: images to one place, as jobs like any other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ocisync.commands.images.cache import bring_to_cache
from ocisync.commands.images.names import FILES, KEEPS_NAMES, own_name, places_below
from ocisync.config.models import Config
from ocisync.content.compress import Compression
from ocisync.content.repository import Source
from ocisync.drop.naming import DEFAULT_LAYOUT, SetMemberPath, classify, find_slip, is_temporary
from ocisync.errors import ConfigError, InputError, InvalidName, OcisyncError
from ocisync.images.inspect import view_image
from ocisync.model.digest import Digest, is_digest
from ocisync.model.digest_tags import is_list_tag
from ocisync.model.image_name import split_tag
from ocisync.model.locator import (
    Locator,
    SetLocator,
    SetMember,
    TargetLocator,
    ViewLocator,
    parse_locator,
    strip_views,
)
from ocisync.model.media_type_families import Format
from ocisync.model.platform import Platform, parse_platform
from ocisync.model.platform_filter import EVERYTHING, PlatformChoice
from ocisync.stores.archive.image_folder import VERSION_FILE
from ocisync.stores.archive.index_json import LAYOUT_FILE
from ocisync.stores.archive.names import image_number, is_same_name
from ocisync.sync.context import Progress
from ocisync.sync.job import Job
from ocisync.sync.judging.acceptance import Acceptance
from ocisync.sync.referrers.referrer_set import ReferrerChoice
from ocisync.sync.reports import Failure, JobReport, describe_failure
from ocisync.sync.run import run_job
from ocisync.sync.select import TagSelection
from ocisync.wiring.session import Session, optional_session


@dataclass(frozen=True, slots=True)
class Copied:
    """One job of a copy."""

    source: Locator
    place: Locator | str  # the text of a root, where a name has no place below it
    report: JobReport


@dataclass(frozen=True, slots=True)
class PlannedCopy:
    """What one copy would bring: at most so much, because the destination may have some of it."""

    source: Locator
    place: str
    digest: Digest | None = None
    images: int = 0
    blobs: int = 0
    bytes: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """How far a copy goes."""

    referrers: ReferrerChoice = field(default_factory=ReferrerChoice)
    include_external: bool = False
    send_again: bool = False
    cache: Path | None = None  # a layout by way of which images of registries come
    acceptance: Acceptance | None = None  # what must hold of images; None: all are taken


_PLAIN = CopyOptions()


class _Incomplete(OcisyncError):
    """An archive must not appear, because one of its images failed."""


async def copy_sources(
    config: Path | Config | None,
    progress: Progress,
    compression: Compression | None,
    sources: Sequence[Locator],
    destination: str,
    options: CopyOptions,
    *,
    every: bool = False,
) -> list[Copied]:
    """Copy images to one place; with `every`, all named images of the only source. Raises as both do."""
    if every and len(sources) > 1:
        raise ConfigError("--all takes one source; copy the others by further calls")
    async with optional_session(config, progress, compression) as session:
        if every:
            return await copy_all(session, sources[0], destination, options)
        return await copy_images(session, sources, parse_locator(destination), options)


def view_source(
    source: Locator,
    platforms: Sequence[str],
    form: Format | None,
    drop_signatures: bool = False,
    packing: Compression | None = None,
) -> Locator:
    """A source as the options want it seen.

    Raises:
        ConfigError: options that contradict each other.
    """
    if drop_signatures and form is None:
        raise ConfigError("--drop-signatures goes with --format: without a conversion signatures stay valid")
    if form == "docker" and packing is not None and packing.kind == "zstd":
        raise ConfigError("--compression zstd needs OCI's media types: docker reads no zstd in its own")
    if not platforms and form is None:
        return source
    wanted = tuple(parse_platform(platform) for platform in platforms)
    if len(wanted) > 1:
        return ViewLocator(source, None, form, drop_signatures, PlatformChoice(wanted, needs_all=True))
    return ViewLocator(source, wanted[0] if wanted else None, form, drop_signatures, EVERYTHING)


async def plan_copies(
    config: Path | Config | None, sources: Sequence[Locator], destination: str, every: bool
) -> list[PlannedCopy]:
    """What `copy_sources` would copy; sources are looked at, the destination is not."""
    plans: list[PlannedCopy] = []
    place = destination if every else str(parse_locator(destination))
    async with optional_session(config) as session:
        for source in sources:
            try:
                async with session.stores.hold(source), session.stores.source(source) as opened:
                    names = _select_names(source, await _names(session, source)) if every else {"": source.reference}
                    for name, reference in names.items():
                        plans.append(await _plan_copy(opened, source, reference, f"{place} {name}".strip()))
            except OcisyncError as exc:
                plans.append(PlannedCopy(source, place, failure=describe_failure(exc)))
    return plans


async def _plan_copy(opened: Source, source: Locator, reference: str, place: str) -> PlannedCopy:
    view = await view_image(opened, await opened.resolve(reference))
    blobs = {child.digest: child.size for image in view.images for child in image.manifest.children}
    return PlannedCopy(source, place, view.root.digest, len(view.images), len(blobs), sum(blobs.values()))


async def push_set(
    config: Path | Config | None,
    progress: Progress,
    compression: Compression | None,
    source: SetLocator,
    places: Sequence[Locator],
) -> list[JobReport]:
    """Publish one image at each of several places; one report for each."""
    async with optional_session(config, progress, compression) as session:
        return [await copy_to(session, source, place) for place in places]


async def copy_to(session: Session, source: Locator, place: Locator) -> JobReport:
    """Copy an image; the report has its one tag.

    Raises:
        ConfigError: nothing can be written to such a place.
    """
    (copied,) = await copy_images(session, [source], place)
    return copied.report


async def copy_images(
    session: Session, sources: Sequence[Locator], place: Locator, options: CopyOptions = _PLAIN
) -> list[Copied]:
    """Copy images to one place; an archive holds all of them, or is not written.

    Raises:
        ConfigError: nothing can be written to such a place, or it takes one image only.
    """
    if len(sources) > 1 and (not isinstance(place, KEEPS_NAMES) or place.reference):
        raise ConfigError(
            f"{place} takes one image: name a destination without a tag that holds several, such as oci-archive:FILE"
        )
    done: list[Copied] = []
    async with _all_or_nothing(session, place, done) as where:
        for source in sources:
            try:
                async with session.stores.hold(source):
                    name = await _name_for(session, source, place)
                    read = await bring_to_cache(session, source, options.cache) if options.cache else source
                    ran = await _run(session, read, place, where, {name: read.reference}, options)
                    done.append(replace(ran, source=source))
            except OcisyncError as exc:  # it cannot even be opened: the others go on
                done.append(
                    Copied(source, place, JobReport("copy", str(source), str(where), failure=describe_failure(exc)))
                )
    return done


async def copy_all(session: Session, source: Locator, root: str, options: CopyOptions = _PLAIN) -> list[Copied]:
    """Copy every named image that a source has, below a registry's root or into an archive or layout.

    Raises:
        ConfigError: nothing can be written there.
        InputError: `name.missing`: no image has a name.
    """
    async with session.stores.hold(source):
        names = _select_names(source, await _names(session, source))
        if options.referrers.referrers:  # lists of referrers are made at the destination
            names = {name: tag for name, tag in names.items() if not is_list_tag(tag)}
        if not names:
            raise InputError(f"{source}: no image in it has a name; copy it without --all", code="name.missing")
        return await _copy_by_name(session, source, names, root, options)


async def _copy_by_name(
    session: Session, source: Locator, names: dict[str, str], root: str, options: CopyOptions
) -> list[Copied]:
    done: list[Copied] = []
    if root.partition(":")[0] in ("oci", "oci-archive", "docker-archive"):
        place = parse_locator(root)
        async with _all_or_nothing(session, place, done) as where:
            done.append(await _run(session, source, place, where, names, options))
        return done
    refused = _find_unplaceable(root, names)
    if len(refused) == len(names):
        raise next(iter(refused.values()))
    done.extend(
        Copied(source, root, JobReport("copy", str(source), root, failure=describe_failure(exc)))
        for exc in refused.values()
    )
    names = {name: reference for name, reference in names.items() if name not in refused}
    for place, tags in places_below(root, names).items():
        done.append(await _run(session, source, place, session.stores.as_target(place), tags, options))
    return done


def _select_names(source: Locator, names: dict[str, str]) -> dict[str, str]:
    """The names that a source's reference means, where it has one: itself, or every tag of a name without a tag.

    Raises:
        InputError: `name.missing`: none is called so.
    """
    wanted = source.reference
    if not wanted or (wanted == "latest" and not isinstance(strip_views(source), FILES)):
        return names
    found = {name: reference for name, reference in names.items() if _is_meant(name, reference, wanted)}
    if not found:
        known = ", ".join(list(names)[:20])
        hint = f"; it has {known}" if known else ""
        raise InputError(f"{source}: no named image is called {wanted[:200]!r}{hint}", code="name.missing")
    return found


def _is_meant(name: str, reference: str, wanted: str) -> bool:
    if wanted in (name, reference) or is_same_name(name, wanted):
        return True
    return not split_tag(wanted)[1] and is_same_name(split_tag(name)[0], wanted)


def _find_unplaceable(root: str, names: Iterable[str]) -> dict[str, InvalidName]:
    """The names that cannot be names below a root; the others are copied all the same."""
    found: dict[str, InvalidName] = {}
    for name in names:
        try:
            places_below(root, {name: name})
        except InvalidName as exc:
            found[name] = exc.at(repr(name[:200]))
    return found


async def _run(
    session: Session, source: Locator, place: Locator, where: TargetLocator, tags: dict[str, str], options: CopyOptions
) -> Copied:
    job = Job(
        "copy",
        source,
        where,
        TagSelection(literal=tags),
        recheck=0.0,
        referrers=options.referrers,
        include_external=options.include_external,
        send_again=options.send_again,
        acceptance=options.acceptance,
    )
    return Copied(source, place, await run_job(job, session.tools))


@asynccontextmanager
async def _all_or_nothing(session: Session, place: Locator, done: list[Copied]) -> AsyncIterator[TargetLocator]:
    """A place to copy to; an archive does not appear when one of the jobs failed."""
    try:
        async with AsyncExitStack() as stack:
            yield await stack.enter_async_context(session.stores.open_destination(place))
            _check_complete(place, done)
    except _Incomplete:
        pass


def _check_complete(place: Locator, done: Sequence[Copied]) -> None:
    if not all(copied.report.ok and not copied.report.withheld for copied in done):
        raise _Incomplete(str(place))


async def _name_for(session: Session, source: Locator, place: Locator) -> str:
    """The tag or name under which an image is published at a place."""
    if place.reference and not is_digest(place.reference):
        return place.reference
    if not isinstance(place, KEEPS_NAMES):
        return "latest"
    return own_name(source, source.reference) or await _only_name(session, source) or "latest"


async def _only_name(session: Session, source: Locator) -> str:
    if not isinstance(strip_views(source), FILES):
        return ""
    names = [name for name in await session.stores.archives.names(source) if image_number(name) is None]
    return names[0] if len(names) == 1 else ""


async def _names(session: Session, source: Locator) -> dict[str, str]:
    """Every full name (or tag, where the source has no more) -> the source's reference."""
    async with session.stores.source(source) as opened:
        return {own_name(source, tag) or tag: tag for tag in await opened.tags()}


@dataclass(frozen=True, slots=True)
class FolderSet:
    """The archives of a folder as one set, and what is left out of it."""

    source: SetLocator
    skipped: dict[str, str]  # name -> why


def set_in_folder(folder: Path) -> FolderSet:
    """A folder of archives named OS.ARCH[.VARIANT].tar.gz, or of OCI layouts named OS.ARCH[.VARIANT], as one set.

    Raises:
        ConfigError: the folder cannot be read, or holds nothing of such a name.
        InvalidName: a file looks like one platform's, but not by its whole name; without it the image would lack that.
    """
    members: list[SetMember] = []
    skipped: dict[str, str] = {}
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        for path in paths:
            found = _member_or_reason(path)
            if isinstance(found, str):
                skipped[path.name] = found
            else:
                members.append(SetMember(found, str(path)))
    except OSError as exc:
        raise ConfigError(f"{folder}: the folder cannot be read: {exc.strerror}") from exc
    if not members:
        seen = ", ".join(f"{name} ({why})" for name, why in list(skipped.items())[:5])
        told = f": {seen}" if seen else ""
        raise ConfigError(f"{folder}: no file named OS.ARCH.tar.gz, such as linux.amd64.tar.gz, is there{told}")
    return FolderSet(SetLocator(tuple(members)), skipped)


def _member_or_reason(path: Path) -> Platform | str:
    """The platform that a name says, or why the file is left out; raises as `set_in_folder` does."""
    is_image = any((path / name).is_file() for name in (LAYOUT_FILE, VERSION_FILE))
    if is_temporary(path.name):
        return "its name is that of a file which is being written"
    if path.is_dir() and not is_image:
        return "a folder that is no OCI layout"
    found = classify(f"name/tag/{path.name}", DEFAULT_LAYOUT, is_folder=is_image)
    if found is None:
        return "its name is not that of an archive (.tar, .tar.gz, .tgz, …)"
    if isinstance(found, SetMemberPath):
        return found.platform
    if wanted := find_slip(f"name/tag/{path.name}", DEFAULT_LAYOUT).removeprefix("name/tag/"):
        raise InvalidName(f"{path}: it looks like one platform's archive, but not by its whole name: call it {wanted}")
    return "its name is not OS.ARCH, such as linux.amd64.tar.gz"
