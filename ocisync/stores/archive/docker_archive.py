"""A docker-archive (`docker save`) as a source: layers are compressed on their way, the configuration is kept as it is.

Such an archive has no registry manifest. A conversion makes one: every layer is compared with its diff ID in the
configuration, compressed to a temporary file (its digest must be known before it can be sent), and handed to a
`LayerSink`, which may know already what a layer became. A layer that is compressed in the archive keeps its bytes. The
manifest is a function of the archive's content and the options alone, so that the same archive has the same digest on
every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import structlog

from ocisync.content.capabilities import LayerSink
from ocisync.content.compress import BLOCK, Block, Compressed, Compression, compress, compressor_name
from ocisync.content.concurrency import for_each
from ocisync.content.decompress import MAGIC_LENGTH, Caps, decompress, detect_compression
from ocisync.content.failpoints import failpoint
from ocisync.content.files import FileGuard, FileSection
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.tar.index import TarLimits
from ocisync.content.threads import CPUS, SpoolOpener, make_region_opener, open_spool, run_file, run_steps
from ocisync.errors import ArchiveError, DiffIdMismatch, InputError, InvalidName, ManifestError, NotFound
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, is_digest
from ocisync.model.media_type_families import Format
from ocisync.model.platform import Platform
from ocisync.stores.archive.archive_files import ArchiveFiles, open_archive_files, read_small
from ocisync.stores.archive.docker_manifest import (
    ImageConfig,
    ImageEntries,
    ImageEntry,
    build_manifest,
    convert_layer,
    find_foreign_layers,
    layer_type,
    pair_layers,
    parse_config,
    parse_entries,
)
from ocisync.stores.archive.docker_v1 import build_legacy_config, is_legacy, read_legacy_entries
from ocisync.stores.archive.identity import identify_docker_archive

log = structlog.get_logger(__name__)

_LAYERS_AT_ONCE = 3  # one keeps the CPUs busy while the others are made to last on the disk
_COMPRESSED_AT_ONCE = max(1, CPUS // 4)  # one that is read and hashed in order feeds four
_HASHED_PER_STEP = 64  # chunks of at most 1 MiB between two looks for cancellation


@dataclass(frozen=True, slots=True)
class ConversionOptions:
    """What a docker-archive becomes, and how much it may hold."""

    format: Format = "oci"
    compression: Compression = field(default_factory=Compression)
    caps: Caps = field(default_factory=Caps)
    limits: TarLimits = field(default_factory=TarLimits)
    recompress: bool = False  # compression was asked for: also of layers that the archive says are kept plain
    required: tuple[Platform, ...] = ()  # of a layout's images: those that must be there where an index names them
    guard: FileGuard | None = None  # of files that lie where others may write


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer in the archive."""

    diff_id: Digest
    region: FileSection
    member: str
    is_plain: bool = False  # its source is uncompressed, and so it stays


class DockerArchiveSource:
    """A Source and Converter. Its references are `name:tag`, `@N` for the N-th image, or empty for the only one.

    Nothing is converted until somebody asks. The compressed bytes are not kept, only their digest and the layer that
    they come from: a reader that opens a layer again has it compressed again, to the same bytes.
    """

    def __init__(
        self, files: ArchiveFiles, entries: Sequence[ImageEntry], scratch: Path, options: ConversionOptions
    ) -> None:
        self._files = files
        self._entries = ImageEntries(entries)
        self._scratch = scratch
        self._options = options
        self._made: dict[Digest, Descriptor] = {}  # manifests and configurations, with their bytes
        self._layers: dict[Digest, Opener] = {}  # layers, by the digest of what was made of them
        self._tagged: dict[str, Descriptor] = {}
        # Side by side, all layers would end, and be synced to the disk, at the same time.
        self._compressing = anyio.Semaphore(_COMPRESSED_AT_ONCE)

    @property
    def variant(self) -> str:
        """The format and what compresses: layers are reused only among equal ones."""
        return f"{self._options.format}+{compressor_name(self._options.compression)}"

    def references(self) -> tuple[tuple[str, ...], ...]:
        """The names (`name:tag`) of each image, in the archive's order."""
        return tuple(entry.tags for entry in self._entries.entries)

    async def identity(self) -> str:
        """One digest for all that it holds; empty where only all of its bytes tell."""
        return await identify_docker_archive(self._files, self._entries.entries)

    async def tags(self) -> Sequence[str]:
        """Every name, as `resolve` takes it."""
        return sorted({tag for entry in self._entries.entries for tag in entry.tags})

    async def unnamed(self) -> Sequence[str]:
        """`@N` for each image without a name that can be published, when others have one."""
        return self._entries.unnamed()

    def image_of(self, reference: str) -> str:
        """`@N` of the image that a reference means; the reference itself where none or several fit."""
        return self._entries.number_of(reference)

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor of an image's manifest; what was not converted yet is, to nowhere.

        Raises:
            InputError: no such image, or several and no name.
            NotFound: a digest that no conversion has made.
        """
        if is_digest(reference):
            return self._find_manifest(Digest(reference))
        if reference in self._tagged:
            return self._tagged[reference]
        return await self.convert(reference, _Nowhere())

    async def convert(self, reference: str, sink: LayerSink) -> Descriptor:
        """Convert an image; the descriptor carries the manifest's bytes and the configuration's platform.

        Raises:
            InputError: no such image, or several and no name.
            DiffIdMismatch: a layer is not its diff ID, or the numbers of layers and diff IDs differ.
            ArchiveError, LimitExceeded: a member is missing, corrupt or a bomb.
            InputChanged: the archive was replaced, cut or written to meanwhile.
        """
        try:
            entry = self._entries.pick(reference)
            config = await self._read_config(entry)
            named = pair_layers(entry, config)
        except (InputError, ManifestError, InvalidName, DiffIdMismatch) as exc:
            raise exc.at(self._files.where) from exc
        made = find_foreign_layers(entry, self._options.format)
        layers = [self._find_layer(entry, diff_id, member) for diff_id, member in named.items() if diff_id not in made]

        async def one(layer: _Layer) -> None:
            made[layer.diff_id] = await self._convert_layer(layer, sink)

        await for_each(layers, one, _LAYERS_AT_ONCE)
        await self._files.check()
        manifest, config_desc = build_manifest(
            config, [made[diff_id] for diff_id in config.diff_ids], self._options.format
        )
        self._made.update({manifest.digest: manifest, config_desc.digest: config_desc})
        self._tagged[reference] = manifest
        log.debug("image.converted", path=self._files.where, digest=manifest.digest, by=self.variant)
        return manifest

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream a manifest or configuration, or a layer, which is converted again."""
        async with self._find_opener(desc.digest)(start) as stream:
            yield stream

    def _find_opener(self, digest: Digest) -> Opener:
        small = self._made.get(digest)
        if small is not None and small.data is not None:
            return BytesOpener(small.data)
        if digest not in self._layers:
            raise NotFound(f"{self._files.where}: {digest}: no conversion has made this")
        return self._layers[digest]

    @asynccontextmanager
    async def _open_compressed(self, layer: _Layer, start: int) -> AsyncIterator[ByteStream]:
        async with self._compress(layer) as (_, opener), opener(start) as stream:
            yield stream

    async def _read_config(self, entry: ImageEntry) -> ImageConfig:
        if entry.documents:
            return await self._build_config(entry)
        raw = await read_small(self._files, self._member_name(entry.config))
        if raw is None:
            raise ArchiveError(f"{self._files.where}: manifest.json names {entry.config[:200]!r}, which is missing")
        return parse_config(raw)

    async def _build_config(self, entry: ImageEntry) -> ImageConfig:
        """What docker makes of an archive from before 1.10, whose layers have no recorded diff IDs."""
        documents = [await read_small(self._files, name) or b"" for name in entry.documents]
        diff_ids = [await self._hash_member(member) for member in entry.layers]
        return parse_config(build_legacy_config(documents, diff_ids))

    async def _hash_member(self, member: str) -> Digest:
        layer = _Layer(Digest(""), self._find_member(member), member)
        kind = detect_compression(await run_file(partial(layer.region.head, MAGIC_LENGTH)))
        return (await self._hash(layer, kind)).diff_id

    def _find_layer(self, entry: ImageEntry, diff_id: Digest, member: str) -> _Layer:
        source = entry.sources.get(diff_id)
        is_plain = source is not None and source.digest == diff_id and not self._options.recompress
        return _Layer(diff_id, self._find_member(member), member, is_plain)

    def _member_name(self, name: str) -> str:
        """A name in manifest.json as the tar has it: Windows daemons before docker 18.05 wrote it with backslashes."""
        return name.replace("\\", "/") if "\\" in name and self._files.find(name) is None else name

    def _find_member(self, name: str) -> FileSection:
        region = self._files.find(self._member_name(name))
        if region is None:
            raise ArchiveError(f"{self._files.where}: the layer {name[:200]!r} is named, but is missing")
        return region

    async def _convert_layer(self, layer: _Layer, sink: LayerSink) -> Descriptor:
        kind = detect_compression(await run_file(partial(layer.region.head, MAGIC_LENGTH)))
        if kind or layer.is_plain or self._options.compression.kind == "none":
            return await self._keep_layer(layer, kind, sink)
        known = await sink.lookup(layer.diff_id)
        if known is not None:
            return convert_layer(known, self._options.format)
        async with self._compress(layer) as (desc, opener):
            self._layers[desc.digest] = partial(self._open_compressed, layer)
            await sink.push(desc, opener)
        await sink.record(layer.diff_id, desc)
        return desc

    async def _keep_layer(self, layer: _Layer, kind: str, sink: LayerSink) -> Descriptor:
        """A layer that is compressed already or stays plain: the archive's own bytes.

        It is not learned: what somebody else compressed must not stand for what we would make of the same content.
        """
        desc = self._describe(layer, await self._hash(layer, kind), kind or "none")
        opener = self._layers[desc.digest] = make_region_opener(layer.region)
        await sink.push(desc, opener)
        return desc

    @asynccontextmanager
    async def _compress(self, layer: _Layer) -> AsyncIterator[tuple[Descriptor, Opener]]:
        """A plain layer, compressed to a spool: its digest must be known before it is sent."""
        async with open_spool(self._scratch) as spool:
            async with self._compressing:
                blocks = _BlocksOf(layer.region)
                made = await compress(blocks, spool.write, self._options.compression, blocks.reuse)
            failpoint("spool")
            desc = self._describe(layer, made, self._options.compression.kind)
            yield desc, SpoolOpener(spool, made.digest)

    async def _hash(self, layer: _Layer, kind: str) -> Compressed:
        if kind not in ("", "gzip", "zstd"):
            raise ArchiveError(f"{self._files.where}: {layer.member[:200]!r} is compressed by {kind}: no layer may be")
        try:
            return await run_steps(_hash_layer(layer.region, kind, self._options.caps))
        except ArchiveError as exc:
            raise ArchiveError(f"{self._files.where}: {layer.member[:200]!r}: {exc.message}") from exc

    def _describe(self, layer: _Layer, made: Compressed, kind: str) -> Descriptor:
        if made.diff_id != layer.diff_id:
            raise DiffIdMismatch(
                f"{self._files.where}: the layer {layer.member[:200]!r} is {made.diff_id}, but the configuration says "
                f"{layer.diff_id}: the archive is damaged or was put together wrongly; save the image again"
            )
        return Descriptor(layer_type(self._options.format, kind), made.digest, made.size)

    def _find_manifest(self, digest: Digest) -> Descriptor:
        found = self._made.get(digest)
        if found is None or not found.is_manifest:
            raise NotFound(f"{self._files.where}: {digest}: no conversion has made this")
        return found


@asynccontextmanager
async def open_docker_archive(
    path: Path, *, scratch: Path, options: ConversionOptions | None = None
) -> AsyncIterator[DockerArchiveSource]:
    """Read a file that `docker save` made, also compressed as a whole; `scratch` holds temporary files.

    Raises:
        ArchiveError: it is no docker-archive, or corrupt.
        InputError: it cannot be opened.
    """
    options = options or ConversionOptions()
    async with open_archive_files(path, scratch, options.caps, options.limits) as files:
        yield await make_docker_source(files, scratch, options)


async def make_docker_source(files: ArchiveFiles, scratch: Path, options: ConversionOptions) -> DockerArchiveSource:
    """The source of an archive that is open already; raises as `open_docker_archive` does."""
    raw = await read_small(files, "manifest.json")
    if raw is None and not is_legacy(files.index, files.index.top_level):
        raise ArchiveError(f"{files.where}: no manifest.json and no folders of layers: this is not a docker-archive")
    try:
        entries = await read_legacy_entries(files) if raw is None else parse_entries(raw)
        return DockerArchiveSource(files, entries, scratch, options)
    except ArchiveError as exc:
        raise ArchiveError(f"{files.where}: {exc.message}") from exc


class _Nowhere:
    """A sink that keeps nothing, for whoever only wants to know the digests."""

    async def lookup(self, diff_id: Digest) -> Descriptor | None:  # noqa: ARG002
        return None

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Keep nothing."""

    async def record(self, diff_id: Digest, desc: Descriptor) -> None:
        """Remember nothing."""


class _BlocksOf:
    """A layer's content in blocks whose buffers are used again.

    A new buffer for each would be given back to the kernel and faulted in again: up to a tenth of the CPU time.
    """

    def __init__(self, region: FileSection) -> None:
        self._region = region
        self._offsets = iter(range(0, max(region.size, 1), BLOCK))
        self._free: list[memoryview] = []

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        offset = next(self._offsets)
        buffer = self._free.pop() if self._free else memoryview(bytearray(BLOCK))
        block = buffer[: self._region.size - offset]
        self._region.read_into(offset, block)
        return block

    def reuse(self, block: Block) -> None:
        """The block is not needed any more."""
        if len(block) == BLOCK and isinstance(block, memoryview):
            self._free.append(block)


def _hash_layer(region: FileSection, kind: str, caps: Caps) -> Generator[None, None, Compressed]:
    outer, inner = hashlib.sha256(), hashlib.sha256()
    blocks = _BlocksOf(region)
    chunks: Iterator[Block] = decompress(region, kind, caps, outer.update) if kind else blocks
    for number, chunk in enumerate(chunks, 1):
        inner.update(chunk)
        blocks.reuse(chunk)
        if number % _HASHED_PER_STEP == 0:
            yield
    diff_id = Digest(f"sha256:{inner.hexdigest()}")
    return Compressed(diff_id, Digest(f"sha256:{outer.hexdigest()}") if kind else diff_id, region.size)
