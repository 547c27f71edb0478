"""What a rule may ask of images before it selects them: dates, platforms, sizes.

Content never changes, so each fact is read once and noted in the ledger under the image's digest.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from ocisync.content.concurrency import for_each
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Fetcher
from ocisync.content.verify import read_manifest
from ocisync.errors import NotFound, OcisyncError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.manifest import Manifest, check_index_depth, parse_json_object, parse_manifest
from ocisync.model.platform import Platform, platform_from_json
from ocisync.model.platform_filter import PlatformChoice
from ocisync.sync.ledger import Ledger
from ocisync.sync.reports import Failure, describe_failure

_CREATED = "org.opencontainers.image.created"

Look = Callable[[Fetcher, Descriptor], Awaitable[str]]
_HELD = 16 * 1024 * 1024  # bytes of manifests and configurations that are kept while a job chooses


@dataclass(slots=True)
class FactLookup:
    """Facts of one kind by digest, and why the others could not be had."""

    found: Mapping[Digest, str]
    failures: dict[Digest, Failure] = field(default_factory=dict)


@dataclass(slots=True)
class SmallContent:
    """A Fetcher that keeps what was read, so that neither two facts nor the copy read it again; bounded."""

    source: Fetcher
    held: dict[Digest, bytes] = field(default_factory=dict)
    size: int = 0  # bytes

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream what is held, or what the source has."""
        if desc.digest not in self.held and self.size + desc.size <= _HELD:
            self.held[desc.digest] = await read_manifest(self.source, desc)
            self.size += desc.size
        held = self.held.get(desc.digest)
        async with self.source.open(desc, start) if held is None else BytesOpener(held)(start) as stream:
            yield stream


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Looks facts up in the ledger, and only what it lacks at the source."""

    source: SmallContent
    ledger: Ledger
    workers: int

    async def find_dates(
        self, roots: Collection[Descriptor]
    ) -> tuple[dict[Digest, float | None], dict[Digest, Failure]]:
        """When images were made, in seconds since the epoch, or None for those that do not say; and what failed."""
        facts = await self._look_up("created", roots, _find_date)
        return {digest: float(text) if text else None for digest, text in facts.found.items()}, facts.failures

    async def find_platforms(
        self, roots: Collection[Descriptor]
    ) -> tuple[dict[Digest, list[Platform | None]], dict[Digest, Failure]]:
        """The platforms that images are for; None for one that names none."""
        facts = await self._look_up("platforms", roots, _find_platforms)
        return {digest: _parse_platforms(text) for digest, text in facts.found.items()}, facts.failures

    async def measure_largest(
        self, roots: Collection[Descriptor], choice: PlatformChoice
    ) -> tuple[dict[Digest, int], dict[Digest, Failure]]:
        """Bytes to pull of the largest image that is wanted."""

        async def look(source: Fetcher, root: Descriptor) -> str:
            return str(
                max(
                    [await _measure_image(source, leaf) async for leaf in _walk_images(source, root, choice)], default=0
                )
            )

        facts = await self._look_up(f"largest {choice.scope}".strip(), roots, look)
        return {digest: int(text) for digest, text in facts.found.items()}, facts.failures

    async def _look_up(self, kind: str, roots: Collection[Descriptor], look: Look) -> FactLookup:
        by_digest = {root.digest: root for root in roots}
        known = await self.ledger.get_facts(kind, list(by_digest))
        facts, fresh = FactLookup(known), dict[Digest, str]()

        async def read(root: Descriptor) -> None:
            try:
                fresh[root.digest] = await look(self.source, root)
            except OcisyncError as exc:
                facts.failures[root.digest] = describe_failure(exc)

        await for_each([root for digest, root in by_digest.items() if digest not in known], read, self.workers)
        if fresh:
            await self.ledger.put_facts(kind, fresh)
            facts.found = {**known, **fresh}
        return facts


async def _walk_images(
    source: Fetcher, root: Descriptor, choice: PlatformChoice | None = None, depth: int = 1
) -> AsyncIterator[Descriptor]:
    """The images that a root leads to, in the order of its indexes; attestations are none."""
    check_index_depth(root, depth)
    if not root.is_index:
        yield root
        return
    for entry in (await _read_manifest(source, root)).children:
        if entry.is_index:
            async for leaf in _walk_images(source, entry, choice, depth + 1):
                yield leaf
        elif entry.is_manifest and not entry.is_attestation and (choice is None or choice.wants(entry.platform)):
            yield entry


async def _find_date(source: Fetcher, root: Descriptor) -> str:
    """The date of the first image that is there; empty when it says none."""
    async for leaf in _walk_images(source, root):
        try:
            manifest = await _read_manifest(source, leaf)
            said = (await _read_config(source, manifest)).get("created") or (manifest.annotations or {}).get(_CREATED)
        except NotFound:
            continue  # the source itself lacks it
        seconds = _parse_seconds(said)
        return "" if seconds is None else repr(seconds)
    return ""


def _parse_seconds(said: object) -> float | None:
    """Seconds since the epoch; None for the epoch itself, which reproducible builds write, and for what is no date."""
    try:
        seconds = datetime.fromisoformat(said).timestamp() if isinstance(said, str) else 0.0
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if seconds > 0 else None


async def _find_platforms(source: Fetcher, root: Descriptor) -> str:
    found: list[Platform | None] = [leaf.platform async for leaf in _walk_images(source, root)]
    if not root.is_index:
        found = [platform_from_json(await _read_config(source, await _read_manifest(source, root)))]
    return json.dumps([one and [one.os, one.architecture, one.variant, one.os_version] for one in found])


def _parse_platforms(text: str) -> list[Platform | None]:
    return [Platform(*one) if one else None for one in json.loads(text)]


async def _measure_image(source: Fetcher, leaf: Descriptor) -> int:
    return sum(child.size for child in (await _read_manifest(source, leaf)).children)


async def _read_manifest(source: Fetcher, desc: Descriptor) -> Manifest:
    return parse_manifest(await read_manifest(source, desc), desc.media_type)


async def _read_config(source: Fetcher, manifest: Manifest) -> Mapping[str, object]:
    """An image's configuration; empty for artifacts, whose configuration is no image's."""
    if manifest.config is None or manifest.config.media_type not in media_types.CONFIGS:
        return {}
    return parse_json_object(await read_manifest(source, manifest.config))
