"""ocisync as a library: the few things that other programs want of it, as coroutines for asyncio.

    import asyncio
    import ocisync

    asyncio.run(ocisync.copy("docker://alpine:3", "static:./registry//alpine:3"))

Places are written as on the command line (docs/library.md). Without `config` there is no configuration: logins are
those of docker and podman. `logins` go before both. What fails raises `OcisyncError`, whose `code` is stable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

from anyio import to_thread

from ocisync.commands.images.copy import CopyOptions, copy_sources, view_source
from ocisync.commands.images.inspect import inspect_image, list_tags, resolve_digest
from ocisync.commands.images.names import complete_destination, parse_source
from ocisync.commands.registry.access import HostAccess, apply_access
from ocisync.commands.registry.images import verify_images
from ocisync.config.models import Config
from ocisync.errors import OcisyncError
from ocisync.logs import configure_library_logging
from ocisync.sync.context import Progress
from ocisync.sync.referrers.referrer_set import ReferrerChoice
from ocisync.sync.reports import Verdict

__all__ = ["CopiedImage", "Image", "PlatformImage", "copy", "digest", "inspect", "tags", "verify"]

Logins = Mapping[str, tuple[str, str]]
"""A user and a password by the registry's host, such as `{"ghcr.io": ("alice", token)}`."""


@dataclass(frozen=True, slots=True)
class CopiedImage:
    """An image that is now at the destination."""

    destination: str  # as it was named
    tag: str  # or the name, in an archive
    digest: str
    sent: int  # bytes
    was_there: bool  # nothing had to be copied


@dataclass(frozen=True, slots=True)
class PlatformImage:
    """One image of an index, or the only one."""

    digest: str
    platform: str  # "linux/arm64"; empty where it names none
    size: int  # bytes to pull
    layers: tuple[str, ...]  # their digests
    labels: Mapping[str, str]
    created: str  # as the configuration says


@dataclass(frozen=True, slots=True)
class Image:
    """What a reference leads to."""

    name: str
    digest: str
    media_type: str
    images: tuple[PlatformImage, ...]


async def copy(
    source: str | Sequence[str],
    destination: str,
    *,
    all_tags: bool = False,
    platforms: Sequence[str] = (),
    media_types: Literal["oci", "docker"] | None = None,
    referrers: bool = False,
    config: str | PathLike[str] | None = None,
    logins: Logins | None = None,
) -> list[CopiedImage]:
    """Copy images with all their platforms, digests unchanged, and verified.

    Several sources go into one archive. With `all_tags` every named image of the source is copied. `platforms` and
    `media_types` change digests; `referrers` brings signatures and SBOMs along.

    Raises:
        OcisyncError: an image could not be copied; what the destination had is as it was.
    """
    texts = [source] if isinstance(source, str) else list(source)
    destination = complete_destination(destination)
    places = [await to_thread.run_sync(parse_source, text) for text in texts]
    sources = [view_source(place, platforms, media_types) for place in places]
    settings = await _settings(config, logins)
    options = CopyOptions(ReferrerChoice(referrers or None))
    copied = await copy_sources(settings, Progress(), None, sources, destination, options, every=all_tags)
    found: list[CopiedImage] = []
    for one in copied:
        failures = [one.report.failure, *(tag.failure for tag in one.report.tags)]
        for failure in failures:
            if failure is not None:
                raise OcisyncError(f"{one.source} was not copied to {one.place}: {failure.message}", code=failure.code)
        found += [
            CopiedImage(str(one.place), tag.tag, str(tag.digest), tag.cost.bytes, tag.verdict is Verdict.UNCHANGED)
            for tag in one.report.tags
        ]
    return found


async def inspect(
    reference: str, *, platform: str = "", config: str | PathLike[str] | None = None, logins: Logins | None = None
) -> Image:
    """Look at an image or an index without pulling it; with a platform, at that one of its images.

    Raises:
        OcisyncError: it is not there, or cannot be read.
    """
    found = await inspect_image(reference, platform, await _settings(config, logins))
    root = found.root
    images: list[PlatformImage] = []
    for one in root.images:
        settings = one.config.get("config")
        labels = settings.get("Labels") if isinstance(settings, Mapping) else None
        images.append(
            PlatformImage(
                one.desc.digest,
                str(one.platform or ""),
                one.size,
                tuple(layer.digest for layer in one.manifest.layers),
                {str(key): str(value) for key, value in labels.items()} if isinstance(labels, Mapping) else {},
                str(one.config.get("created") or ""),
            )
        )
    return Image(found.name, root.root.digest, root.manifest.media_type, tuple(images))


async def tags(reference: str, *, config: str | PathLike[str] | None = None, logins: Logins | None = None) -> list[str]:
    """The tags of a repository, or the names in an archive or layout, in order.

    Raises:
        OcisyncError: there is no such repository, or it cannot be read.
    """
    return list((await list_tags(reference, await _settings(config, logins)))[1])


async def digest(
    reference: str, *, platform: str = "", config: str | PathLike[str] | None = None, logins: Logins | None = None
) -> str:
    """The digest of an image, without pulling it; raises as `inspect` does."""
    return await resolve_digest(reference, platform, await _settings(config, logins))


async def verify(
    reference: str, *, config: str | PathLike[str] | None = None, logins: Logins | None = None
) -> dict[str, str]:
    """Read images whole and check every byte; what is wrong, by tag (empty: all is well).

    A repository of an ordinary registry without a tag means all of its tags.

    Raises:
        OcisyncError: the place cannot be opened.
    """
    found = await verify_images(reference, await _settings(config, logins))
    return {tag: failure.message for tag, failure in found.failures.items()}


async def _settings(config: str | PathLike[str] | None, logins: Logins | None) -> Config:
    configure_library_logging()
    hosts = {host: HostAccess(f"{user}:{password}") for host, (user, password) in (logins or {}).items()}
    return await apply_access(Path(config) if config is not None else None, hosts, None)
