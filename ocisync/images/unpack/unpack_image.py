"""An image unpacked to a folder, which appears when it is whole.

Spec: image-spec v1.1, layer.md and config.md. The steps: read what the manifest and the configuration say, check that
they agree, apply the layers in order to a folder beside the final one, rename it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from anyio import CancelScope

from ocisync.content.decompress import MAGIC_LENGTH, Caps, decompress, detect_compression
from ocisync.content.files import READ, FileSection
from ocisync.content.repository import Source
from ocisync.content.tar.index import TarLimits
from ocisync.content.tar.stream import TarStream
from ocisync.content.threads import run_file, run_steps
from ocisync.content.verify import Verifier, read_manifest
from ocisync.errors import (
    ArchiveError,
    DiffIdMismatch,
    DigestMismatch,
    DiskError,
    InputError,
    LimitExceeded,
    UnsupportedManifest,
)
from ocisync.images.inspect import load_manifest
from ocisync.images.unpack.apply import LayerApplier, Steps
from ocisync.images.unpack.attributes import Attributes
from ocisync.images.unpack.safe_root import remove_all
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, parse_digest
from ocisync.model.manifest import parse_json_object

OpenLayer = Callable[[Descriptor], AbstractAsyncContextManager[FileSection]]
_LAYER_KINDS = frozenset(("", "gzip", "zstd"))


@dataclass(frozen=True, slots=True)
class UnpackOptions:
    """How far content may grow, and whose it becomes."""

    rootless: bool = field(default_factory=lambda: os.geteuid() != 0)
    caps: Caps = field(default_factory=Caps)
    limits: TarLimits = field(default_factory=TarLimits)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer, and what it must be when it is uncompressed."""

    desc: Descriptor
    diff_id: Digest


async def read_layers(source: Source, image: Descriptor) -> tuple[Layer, ...]:
    """The layers of an image, the base first, once manifest and configuration are seen to agree.

    Raises:
        UnsupportedManifest: no image (an artifact, an index), or not one for Linux.
        DiffIdMismatch: not one diff ID per layer.
    """
    manifest = await load_manifest(source, image)
    if manifest.is_index or manifest.config is None or manifest.config.media_type not in media_types.CONFIGS:
        raise UnsupportedManifest(f"{image.digest}: not an image that can be unpacked, but {manifest.media_type}")
    config = parse_json_object(await read_manifest(source, manifest.config))
    diff_ids = _parse_diff_ids(config, image)
    if len(diff_ids) != len(manifest.layers):
        raise DiffIdMismatch(
            f"{image.digest}: {len(manifest.layers)} layers, but {len(diff_ids)} diff IDs in the configuration"
        )
    for layer in manifest.layers:
        _check_type(layer)
    return tuple(Layer(desc, diff_id) for desc, diff_id in zip(manifest.layers, diff_ids, strict=True))


async def unpack_layers(
    layers: Sequence[Layer], open_layer: OpenLayer, folder: Path, options: UnpackOptions
) -> Sequence[str]:
    """Unpack to a folder that is missing or empty; what could not be taken over is returned as warnings.

    Raises:
        InputError: the folder holds something.
        ArchiveError, LimitExceeded, VerificationError: a layer cannot be applied; nothing is left behind.
        DiskError: the disk is full, or the operating system refused.
    """
    attributes = Attributes(rootless=options.rootless)
    async with _stage(folder) as root:
        writer = LayerApplier(root, attributes)
        try:
            for layer in layers:
                async with open_layer(layer.desc) as region:
                    await run_steps(_apply(layer, region, writer, options))
            await run_steps(writer.finish())
        finally:
            writer.close()
    return attributes.warnings


async def check_free(folder: Path) -> None:
    """See that a folder can be unpacked to, before anything is fetched; raises as `unpack_layers` does."""
    await run_file(partial(_check_free, folder))


def _apply(layer: Layer, region: FileSection, writer: LayerApplier, options: UnpackOptions) -> Steps:
    """Apply a layer while its content is verified."""
    check = Verifier(layer.diff_id)
    try:
        yield from writer.apply(TarStream(_verify(region, check, options.caps), options.limits))
    except (ArchiveError, LimitExceeded) as exc:
        raise exc.at(f"layer {layer.desc.digest}") from exc
    try:
        check.finish()
    except DigestMismatch as exc:
        raise DiffIdMismatch(
            f"{layer.desc.digest}: the layer's content is {exc.facts.get('actual')}, but the configuration says "
            f"{layer.diff_id}: the image was put together wrongly"
        ) from exc


def _verify(region: FileSection, check: Verifier, caps: Caps) -> Iterator[bytes]:
    kind = detect_compression(region.head(MAGIC_LENGTH))
    if kind not in _LAYER_KINDS:
        raise ArchiveError(f"compressed by {kind}: no layer may be")
    for chunk in decompress(region, kind, caps) if kind else _read_plain(region):
        check.update(chunk)
        yield chunk


def _read_plain(region: FileSection) -> Iterator[bytes]:
    for offset in range(0, region.size, READ):
        yield region.read_at(offset, min(READ, region.size - offset))


def _parse_diff_ids(config: Mapping[str, object], image: Descriptor) -> list[Digest]:
    rootfs = config.get("rootfs")
    kind = rootfs.get("type") if isinstance(rootfs, Mapping) else None
    if not isinstance(rootfs, Mapping) or kind != "layers":
        raise UnsupportedManifest(f"{image.digest}: the configuration's rootfs.type is {kind!r}, not 'layers'")
    if config.get("os", "linux") != "linux":
        raise UnsupportedManifest(f"{image.digest}: an image for {str(config.get('os'))[:40]!r}; only Linux's unpack")
    listed = rootfs.get("diff_ids") or []
    if not isinstance(listed, list):
        raise UnsupportedManifest(f"{image.digest}: the configuration's rootfs.diff_ids is not a list")
    return [parse_digest(item) for item in listed]


def _check_type(layer: Descriptor) -> None:
    if layer.media_type in media_types.LAYERS:
        return
    what = "a foreign layer, which is not in the registry" if media_types.is_foreign(layer.media_type) else "no layer"
    raise UnsupportedManifest(f"{layer.digest}: the type {layer.media_type[:100]!r} is {what}; it cannot be unpacked")


@asynccontextmanager
async def _stage(folder: Path) -> AsyncIterator[int]:
    """The root of a new tree, which gets its name when the block ends well and is removed otherwise."""
    staged = await run_file(partial(_StagingFolder, folder))
    try:
        yield staged.root
        await run_file(staged.commit)
    finally:
        with CancelScope(shield=True):
            await run_file(staged.close)


class _StagingFolder:
    """A folder beside the final one, closed to others."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.abspath(folder))  # noqa: PTH100 (links are not to be resolved)
        _check_free(self._folder)
        self._name = ""
        self.root = self._parent = -1
        try:
            self._parent = os.open(self._folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            prefix = f".{self._folder.name[:100]}."
            self._name = Path(tempfile.mkdtemp(prefix=prefix, suffix=".unpacking", dir=self._folder.parent)).name
            self.root = os.open(self._name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._parent)
        except OSError as exc:
            self.close()
            raise DiskError(f"{folder}: cannot be made: {exc.strerror}", errno=exc.errno) from exc

    def commit(self) -> None:
        """Give the tree its name."""
        try:
            os.rename(self._name, self._folder.name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        except OSError as exc:
            raise InputError(f"{self._folder}: cannot be put in place: {exc.strerror}") from exc
        self._name = ""

    def close(self) -> None:
        """Remove what has no name yet."""
        if self._name:
            remove_all(self._parent, os.fsencode(self._name))
        for fd in (self.root, self._parent):
            if fd >= 0:
                os.close(fd)
        self.root = self._parent = -1
        self._name = ""


def _check_free(folder: Path) -> None:
    try:
        if not folder.absolute().parent.is_dir():
            raise InputError(f"{folder}: its parent folder does not exist")
        if not _is_free(folder):
            raise InputError(f"{folder}: it exists, and is not an empty folder: name a new or an empty one")
    except OSError as exc:
        raise InputError(f"{folder}: cannot be read: {exc.strerror}") from exc


def _is_free(folder: Path) -> bool:
    if folder.is_symlink() or not folder.exists():
        return not folder.is_symlink()
    return folder.is_dir() and not any(folder.iterdir())
