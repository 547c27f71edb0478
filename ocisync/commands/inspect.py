"""`inspect`, `tags` and `digest`: what is known of images without pulling them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ocisync.commands.image_names import parse_source
from ocisync.content.repository import Source
from ocisync.content.verify import read_manifest
from ocisync.images.inspect import ReferrerView, RootView, find_references, pick_platform, view_image
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.locator import Locator
from ocisync.wiring.session import optional_session


@dataclass(frozen=True, slots=True)
class InspectedImage:
    """What was asked for, and what refers to it or to one of its images."""

    name: str
    root: RootView
    references: Sequence[ReferrerView]


async def inspect_image(reference: str, platform: str, config: Path | None) -> InspectedImage:
    """Look at an image or an index; with a platform, at that one of its images."""
    async with _open(reference, config) as (source, locator):
        root = await view_image(source, await _pick(source, locator, platform))
        references = await find_references(source, [root.root, *(image.desc for image in root.images)])
        return InspectedImage(str(locator), root, references)


async def read_raw(reference: str, platform: str, config: Path | None) -> bytes:
    """A manifest's bytes, verified."""
    async with _open(reference, config) as (source, locator):
        return await read_manifest(source, await _pick(source, locator, platform))


async def resolve_digest(reference: str, platform: str, config: Path | None) -> Digest:
    """The digest of an image."""
    async with _open(reference, config) as (source, locator):
        return (await _pick(source, locator, platform)).digest


async def list_tags(reference: str, config: Path | None) -> tuple[str, list[str]]:
    """What a repository or an archive is called, and its tags."""
    async with _open(reference, config) as (source, locator):
        return str(locator), list(await source.tags())


@asynccontextmanager
async def _open(reference: str, config: Path | None) -> AsyncIterator[tuple[Source, Locator]]:
    locator = parse_source(reference)
    async with optional_session(config) as session, session.stores.source(locator) as source:
        yield source, locator


async def _pick(source: Source, locator: Locator, platform: str) -> Descriptor:
    return await pick_platform(source, await source.resolve(locator.reference), platform)
