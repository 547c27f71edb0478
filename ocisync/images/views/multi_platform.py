"""Several single-platform images as one multi-platform image: a source whose index is built, whose members are kept.

Spec: image-spec v1.1, image-index.md.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from ocisync.content.capabilities import Converter, LayerSink
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Source
from ocisync.content.verify import read_manifest
from ocisync.errors import InputError, NotFound, OcisyncError
from ocisync.model import media_types
from ocisync.model.built_index import build_index
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, is_digest
from ocisync.model.manifest import Manifest, parse_json_object, parse_manifest
from ocisync.model.platform import Platform, is_same_platform, normalize, platform_from_json

_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*\Z")


@dataclass(frozen=True, slots=True)
class PlatformMember:
    """One platform's image and where it comes from."""

    platform: Platform  # as the file's name says it
    source: Source
    reference: str = ""  # empty: the source's only image
    where: str = ""  # the file, for messages


def merge_platforms(members: Sequence[PlatformMember]) -> MergedSource:
    """One source of all members; a Converter when any of them is.

    Raises:
        InputError: no members, or two for one platform (`platform.duplicate`).
    """
    _check_distinct(members)
    is_converter = any(isinstance(member.source, Converter) for member in members)
    return MergedConverter(members) if is_converter else MergedSource(members)


class MergedSource:
    """A Source of one image, without a name: its only reference is empty.

    The members' manifests, configurations and layers keep their bytes and digests; only the index above them is made.
    A member that is an index itself gives its image for the platform in the file's name. The index depends on the
    members alone, not on the order of the files, so the same set has the same digest each time.
    """

    def __init__(self, members: Sequence[PlatformMember]) -> None:
        self._members = sorted(members, key=lambda member: normalize(member.platform))
        self._owners: dict[Digest, Source] = {}
        self._index: Descriptor | None = None

    async def tags(self) -> Sequence[str]:
        """None: whoever merges names the result."""
        return ()

    async def resolve(self, reference: str) -> Descriptor:
        """The built index, or a digest of a member.

        Raises:
            InputError: a member holds several images, or another platform than its name says (`platform.mismatch`).
        """
        if is_digest(reference) and (self._index is None or self._index.digest != reference):
            return await self._resolve_digest(Digest(reference))
        return self._index or await self._build(None)

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream the index, or ask the member that has the content."""
        if self._index is not None and self._index.digest == desc.digest and self._index.data is not None:
            async with BytesOpener(self._index.data)() as stream:
                yield stream
            return
        async with self._find_owner(desc.digest).open(desc, start) as stream:
            yield stream

    async def _build(self, sink: LayerSink | None) -> Descriptor:
        children = [await self._resolve_member(member, sink) for member in self._members]
        _check_found(children, self._members)
        self._index = build_index(children)
        return self._index

    async def _resolve_member(self, member: PlatformMember, sink: LayerSink | None) -> Descriptor:
        try:
            return await self._read_member(member, sink)
        except OcisyncError as exc:
            raise _name_member(exc, member) from exc

    async def _read_member(self, member: PlatformMember, sink: LayerSink | None) -> Descriptor:
        if sink is not None and isinstance(member.source, Converter):
            found = await member.source.convert(member.reference, sink)
        else:
            found = await member.source.resolve(member.reference)
        raw = await read_manifest(member.source, found)
        manifest = parse_manifest(raw, found.media_type)
        if manifest.is_index:
            found = choose_child(manifest, member.platform)
            raw = await read_manifest(member.source, found)
            manifest = parse_manifest(raw, found.media_type)
        self._remember(found, manifest, member.source)
        platform = await self._agree_platform(member, found, manifest)
        return Descriptor(manifest.media_type, found.digest, found.size, platform=platform)

    async def _agree_platform(self, member: PlatformMember, found: Descriptor, manifest: Manifest) -> Platform:
        if manifest.config is None or manifest.config.media_type not in media_types.CONFIGS:
            raise InputError(f"{found.digest}: the member for {member.platform} is not an image for any platform")
        config = parse_json_object(await read_manifest(member.source, manifest.config))
        return agree_platform(member.platform, platform_from_json(config))

    def _remember(self, found: Descriptor, manifest: Manifest, source: Source) -> None:
        for desc in (found, *manifest.children):
            self._owners.setdefault(desc.digest, source)

    def _find_owner(self, digest: Digest) -> Source:
        owner = self._owners.get(digest)
        if owner is None:
            raise NotFound(f"{digest}: no member of the merged image has this")
        return owner

    async def _resolve_digest(self, digest: Digest) -> Descriptor:
        return await self._find_owner(digest).resolve(digest)


class MergedConverter(MergedSource):
    """A merged source with members that must be converted."""

    @property
    def variant(self) -> str:
        """What the members' conversions are; those of one folder have the same."""
        found = {member.source.variant for member in self._members if isinstance(member.source, Converter)}
        return " ".join(sorted(found))

    def image_of(self, reference: str) -> str:  # noqa: ARG002 (there is only one image)
        """The merged image."""
        return ""

    async def convert(self, reference: str, sink: LayerSink) -> Descriptor:  # noqa: ARG002 (there is only one image)
        """Convert the members one after the other, and return the index with its bytes."""
        return await self._build(sink)


def choose_child(index: Manifest, platform: Platform) -> Descriptor:
    """The one child for a platform; attestations are passed over.

    Raises:
        InputError: none or several (`platform.mismatch`).
    """
    images = [child for child in index.children if not child.is_attestation]
    found = [child for child in images if child.platform is not None and is_same_platform(child.platform, platform)]
    found = found or [child for child in images if child.platform and may_be(platform, child.platform)]
    if len(found) == 1:
        return found[0]
    if len(images) == 1 and images[0].platform is None:
        return images[0]
    names = ", ".join(str(child.platform or "no platform") for child in images)[:300]
    raise InputError(
        f"the file's name says {platform}, but the index in it has {names or 'no image'}: rename the file, or put an "
        "image for that platform in it",
        code="platform.mismatch",
    )


def agree_platform(named: Platform, config: Platform | None) -> Platform:
    """The platform that the file's name and the image's configuration agree on.

    Raises:
        InputError: they do not (`platform.mismatch`).
    """
    if config is None or not may_be(named, config):
        raise InputError(
            f"the file's name says {named}, but the image's configuration says {config or 'nothing'}: rename the file, "
            "or build the image for that platform",
            code="platform.mismatch",
        )
    return replace(config, variant=config.variant or named.variant)


def may_be(named: Platform, config: Platform) -> bool:
    """Whether an image's configuration can be meant by a file's name: one that says less does not contradict.

    docker before 20.10, buildah before 1.27 and kaniko leave the variant out of configurations. On Windows the name may
    have the system's version (`10.0.17763`), its beginning, or a release (`ltsc2019`) that only tells files apart.
    """
    version = named.os_version
    if version and _VERSION.match(version) and config.os_version:
        is_meant = f"{config.os_version}.".startswith(f"{version}.")
    else:
        is_meant = True
    bare = replace(named, os_version="", variant=named.variant if config.variant else "")
    return is_meant and is_same_platform(bare, config)


def _name_member(exc: OcisyncError, member: PlatformMember) -> OcisyncError:
    """The error of one member, saying which."""
    if exc.code == "name.missing":
        told = f"{exc.message}; but a file of a set holds one image: save each platform's by itself"
        exc = InputError(told, code=exc.code)
    return exc.at(member.where or str(member.platform))


def _check_found(children: Sequence[Descriptor], members: Sequence[PlatformMember]) -> None:
    """Refuse two images for one platform and one version of its system: clients would take the first."""
    seen: dict[Platform, PlatformMember] = {}
    for child, member in zip(children, members, strict=True):
        first = seen.setdefault(normalize(child.platform or Platform("", "")), member)
        if first is not member:
            files = f" ({first.where}, {member.where})" if member.where else ""
            told = f"two files have images for {child.platform}{files}: remove one"
            raise InputError(told, code="platform.duplicate")


def _check_distinct(members: Sequence[PlatformMember]) -> None:
    if not members:
        raise InputError("a multi-platform image needs at least one member")
    seen: dict[Platform, PlatformMember] = {}
    for member in members:
        first = seen.setdefault(normalize(member.platform), member)
        if first is not member:
            files = f" ({first.where}, {member.where})" if member.where else ""
            raise InputError(f"two files are for {member.platform}{files}: remove one", code="platform.duplicate")
