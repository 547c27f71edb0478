"""A root filesystem in a folder as a source of one image: it is packed when it is asked for.

The result is a function of the folder's content, the settings, the parent's digest and the given time alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ocisync.content.compress import Compression, compress, split_blocks
from ocisync.content.files import READ, FileSection, InputFile, Spool
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Opener, Source
from ocisync.content.threads import make_region_opener, open_spool, run_file, run_steps
from ocisync.content.verify import read_manifest
from ocisync.errors import InputError, NotFound
from ocisync.images.inspect import load_manifest, pick_platform
from ocisync.images.pack.image_config import Layers, build_config, build_index, build_manifest, layer_type
from ocisync.images.pack.layer import TreeReader
from ocisync.images.pack.settings import PackSettings
from ocisync.images.unpack.unpack_image import read_layers
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, is_digest
from ocisync.model.manifest import parse_json_object
from ocisync.model.media_types import OCTET_STREAM
from ocisync.model.platform import Platform, is_same_platform, parse_platform, platform_from_json

_TITLE = "org.opencontainers.image.title"
_HASHED_PER_STEP = 64  # chunks of at most 1 MiB between two looks for cancellation
_TYPED = re.compile(r"([a-z0-9]+/[A-Za-z0-9.+_-]+)=(.+)\Z")


@dataclass(frozen=True, slots=True)
class Parent:
    """The image that a packed one is put on."""

    source: Source
    reference: str


@dataclass(frozen=True, slots=True)
class Packing:
    """What is packed and how."""

    folder: Path
    settings: PackSettings
    host: str  # the platform that is meant when none is named
    epoch: int = 0  # seconds; the time of every file and of the image
    parent: Parent | None = None


@dataclass(slots=True)
class _Base:
    """What the parent brings along."""

    layers: Layers = field(default_factory=lambda: Layers((), ()))
    config: Mapping[str, object] = field(default_factory=dict)
    platform: Platform | None = None


class PackedSource:
    """A Source of one image, without a name: its only reference is empty."""

    def __init__(self, packing: Packing, spool: Spool, blobs: Sequence[tuple[Descriptor, FileSection]]) -> None:
        self.warnings: list[str] = []
        self._packing = packing
        self._spool = spool
        self._blobs = tuple(desc for desc, _ in blobs)
        self._openers: dict[Digest, Opener] = {desc.digest: make_region_opener(region) for desc, region in blobs}
        self._root: Descriptor | None = None

    async def tags(self) -> Sequence[str]:
        """None: whoever packs names the result."""
        return ()

    async def resolve(self, reference: str) -> Descriptor:
        """The image, or the index of it and its blobs; packed at the first call.

        Raises:
            InputError, InputChanged: the folder cannot be read, or changed meanwhile.
            NotFound: another digest, or the parent is not there.
        """
        if self._root is None:
            self._root = await self._pack()
        if is_digest(reference) and reference != self._root.digest:
            raise NotFound(f"{self._packing.folder}: {reference}: the packed image is {self._root.digest}")
        return self._root

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream what was made, or ask the parent's source."""
        opener = self._openers.get(desc.digest)
        if opener is None:
            if self._packing.parent is None:
                raise NotFound(f"{self._packing.folder}: {desc.digest}: not part of the packed image")
            opener = partial(self._packing.parent.source.open, desc)
        async with opener(start) as stream:
            yield stream

    async def _pack(self) -> Descriptor:
        settings = self._packing.settings
        base = await _read_parent(self._packing)
        desc, diff_id = await self._pack_layer()
        is_new = diff_id not in base.layers.diff_ids
        layers = Layers((*base.layers.descs, desc), (*base.layers.diff_ids, diff_id)) if is_new else base.layers
        platform = base.platform or settings.wanted_platform() or parse_platform(self._packing.host)
        config = build_config(settings, base.config, layers, platform, self._packing.epoch, is_new)
        made = build_manifest(config, layers, platform, settings)
        if self._blobs:
            made.insert(0, build_index(made[0], self._blobs))
        for item in made:
            self._openers[item.digest] = BytesOpener(item.data or b"")
        return made[0]

    async def _pack_layer(self) -> tuple[Descriptor, Digest]:
        settings = self._packing.settings
        reader = TreeReader(self._packing.folder, settings.tree_options(self._packing.epoch))
        compression = Compression(settings.compression, settings.level)
        made = await compress(split_blocks(reader.render()), self._spool.write, compression)
        self.warnings.extend(reader.warnings)
        self._openers[made.digest] = make_region_opener(FileSection(self._spool, 0, self._spool.size))
        return Descriptor(layer_type(settings.format, compression.kind), made.digest, made.size), made.diff_id


@asynccontextmanager
async def open_packed(packing: Packing, scratch: Path) -> AsyncIterator[PackedSource]:
    """The source of a folder's image; `scratch` holds the compressed layer for the time of the block.

    Raises:
        InputError: a blob's file cannot be opened.
    """
    async with AsyncExitStack() as stack:
        blobs = [await _open_blob(text, stack) for text in packing.settings.blobs]
        yield PackedSource(packing, await stack.enter_async_context(open_spool(scratch)), blobs)


async def _read_parent(packing: Packing) -> _Base:
    """The parent's image for the wanted platform."""
    parent = packing.parent
    if parent is None:
        return _Base()
    root = await parent.source.resolve(parent.reference)
    image = await pick_platform(parent.source, root, packing.settings.platform or packing.host)
    layers = await read_layers(parent.source, image)
    manifest = await load_manifest(parent.source, image)
    config = parse_json_object(await read_manifest(parent.source, manifest.children[0]))
    platform = platform_from_json(config)
    _check_platform(packing.settings, platform)
    below = Layers(tuple(layer.desc for layer in layers), tuple(layer.diff_id for layer in layers))
    return _Base(below, config, platform)


async def _open_blob(text: str, stack: AsyncExitStack) -> tuple[Descriptor, FileSection]:
    typed = _TYPED.match(text)
    media_type, name = (typed[1], typed[2]) if typed else (OCTET_STREAM, text)
    file = await run_file(partial(InputFile, Path(name)))
    stack.push_async_callback(run_file, file.close)
    region = FileSection(file, 0, file.size)
    desc = await run_steps(_hash_blob(region, media_type))
    return replace(desc, annotations={_TITLE: Path(name).name}), region


def _hash_blob(region: FileSection, media_type: str) -> Generator[None, None, Descriptor]:
    hasher = hashlib.sha256()
    for number, offset in enumerate(range(0, region.size, READ), 1):
        hasher.update(region.read_at(offset, min(READ, region.size - offset)))
        if number % _HASHED_PER_STEP == 0:
            yield
    return Descriptor(media_type, Digest(f"sha256:{hasher.hexdigest()}"), region.size)


def _check_platform(settings: PackSettings, found: Platform | None) -> None:
    wanted = settings.wanted_platform()
    if wanted is not None and found is not None and not is_same_platform(wanted, found):
        raise InputError(f"the parent {settings.parent} is for {found}, not for {wanted}", code="platform.mismatch")
