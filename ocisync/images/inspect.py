"""What an image is, for people: platforms, sizes, layers, configuration. Reads manifests and configurations only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ocisync.content.capabilities import ReferrerLister
from ocisync.content.concurrency import for_each
from ocisync.content.repository import Source
from ocisync.content.verify import read_entry, read_manifest
from ocisync.errors import InputError, ManifestError, NotFound, UnsupportedManifest
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.digest_tags import cosign_tags
from ocisync.model.manifest import Manifest, may_be_manifest, parse_json_object, parse_manifest
from ocisync.model.platform import Platform, is_same_platform, parse_platform, platform_from_json


@dataclass(frozen=True, slots=True)
class ImageView:
    """One image manifest with its configuration."""

    desc: Descriptor
    manifest: Manifest
    platform: Platform | None
    config: Mapping[str, object]  # empty for artifacts, whose configuration is no image's

    @property
    def size(self) -> int:
        """Bytes to pull: configuration and layers."""
        return sum(child.size for child in self.manifest.children)


@dataclass(frozen=True, slots=True)
class RootView:
    """What a reference leads to: an index with its images, or one image."""

    root: Descriptor
    manifest: Manifest
    images: tuple[ImageView, ...]
    missing: tuple[Descriptor, ...] = field(default=())  # listed by the index, not at the source


async def view_image(source: Source, root: Descriptor) -> RootView:
    """Read an image, or every image of an index.

    Raises:
        ManifestError: it is no manifest that can be read.
        NotFound: the root itself is not there; absent children are listed as missing.
    """
    manifest = await load_manifest(source, root)
    if not manifest.is_index:
        return RootView(root, manifest, (await _load_image(source, root, manifest),))
    images: list[ImageView] = []
    missing: list[Descriptor] = []
    for child in manifest.children:
        try:
            entry = (await read_entry(source, child))[0] if may_be_manifest(child) else child
            inner = await view_image(source, entry) if entry.is_manifest else None
        except NotFound:
            missing.append(child)
        else:
            images.extend(inner.images if inner else ())
    return RootView(root, manifest, tuple(images), tuple(missing))


async def pick_platform(source: Source, root: Descriptor, platform: str) -> Descriptor:
    """The image of an index for a platform, or the root itself when none is asked for.

    Raises:
        NotFound: the index has no image for it.
        InvalidName: not a platform.
    """
    if not platform:
        return root
    wanted = parse_platform(platform)
    manifest = await load_manifest(source, root)
    if not manifest.is_index:
        return root
    found = [child for child in manifest.children if child.platform and is_same_platform(child.platform, wanted)]
    if not found:
        offered = ", ".join(str(child.platform) for child in manifest.children if child.platform) or "none named"
        raise NotFound(f"{root.digest}: no image for {wanted}; the index offers {offered}", code="platform.missing")
    return (await read_entry(source, found[0]))[0] if may_be_manifest(found[0]) else found[0]


async def read_platform(source: Source, desc: Descriptor) -> Platform | None:
    """The platform of one image as its configuration names it; None for an artifact."""
    manifest = await load_manifest(source, desc)
    if manifest.config is None or manifest.config.media_type not in media_types.CONFIGS:
        return None
    return platform_from_json(parse_json_object(await read_manifest(source, manifest.config)))


async def load_manifest(source: Source, desc: Descriptor) -> Manifest:
    """A verified, parsed manifest.

    Raises:
        ManifestError: it is none that can be read, or other content.
    """
    raw = await read_manifest(source, desc)
    try:
        return parse_manifest(raw, desc.media_type)
    except ManifestError as exc:
        if desc.is_manifest or isinstance(exc, UnsupportedManifest):
            raise exc.at(desc.digest) from exc
        told = f"{desc.digest}: content of type {desc.media_type[:100]!r}, neither an image nor an index"
        raise UnsupportedManifest(told) from exc


async def _load_image(source: Source, desc: Descriptor, manifest: Manifest) -> ImageView:
    config: Mapping[str, object] = {}
    if manifest.config is not None and manifest.config.media_type in media_types.CONFIGS:
        try:
            config = parse_json_object(await read_manifest(source, manifest.config))
        except ManifestError as exc:
            raise ManifestError(f"{manifest.config.digest}: the configuration is {exc.message}") from exc
    return ImageView(desc, manifest, desc.platform or platform_from_json(config), config)


_AT_A_TIME = 4  # lookups


@dataclass(frozen=True, slots=True)
class ReferrerView:
    """One manifest that refers to another."""

    subject: Digest
    desc: Descriptor
    kind: str  # its artifact type, or what its tag says
    tag: str = ""  # by which it was found


async def find_references(source: Source, subjects: Sequence[Descriptor]) -> list[ReferrerView]:
    """Everything known to refer to some manifests, in their order."""
    found: dict[Digest, list[ReferrerView]] = {}

    async def look(subject: Descriptor) -> None:
        found[subject.digest] = await _find_references(source, subject.digest)

    await for_each(list({subject.digest: subject for subject in subjects}.values()), look, _AT_A_TIME)
    return [reference for subject in found for reference in found[subject]]


async def _find_references(source: Source, subject: Digest) -> list[ReferrerView]:
    told = await source.referrers(subject) if isinstance(source, ReferrerLister) else ()
    found = [ReferrerView(subject, desc, desc.artifact_type or "unknown") for desc in told]
    for tag, kind in cosign_tags(subject).items():
        desc = await _try_resolve(source, tag)
        if desc is not None:
            found.append(ReferrerView(subject, desc, kind, tag))
    return found


async def _try_resolve(source: Source, tag: str) -> Descriptor | None:
    try:
        return await source.resolve(tag)
    except (NotFound, InputError):  # an archive that knows no such name
        return None
