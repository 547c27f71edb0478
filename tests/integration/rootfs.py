"""What tests of pack and unpack share: layers made by hand, and images of them."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio

from ocisync.commands.images.unpack import Unpacked, unpack_to
from ocisync.config.models import Config
from ocisync.content.files import FileSection
from ocisync.images.unpack.unpack_image import Layer, UnpackOptions, unpack_layers
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.locator import LayoutLocator
from ocisync.wiring.session import Session, open_session
from tests.servers.images import Image, digest_of, image_of, layout_files
from tests.unit.content.tar.tars import Memory

Piece = tuple[tarfile.TarInfo, bytes]
MTIME = 1_600_000_000  # seconds
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw+ep


def file(name: str, body: bytes = b"", **facts: object) -> Piece:
    """A regular file."""
    return _piece(name, tarfile.REGTYPE, body, {"mode": 0o644, **facts})


def folder(name: str, **facts: object) -> Piece:
    """A folder."""
    return _piece(name, tarfile.DIRTYPE, b"", {"mode": 0o755, **facts})


def symlink(name: str, target: str, **facts: object) -> Piece:
    """A symbolic link."""
    return _piece(name, tarfile.SYMTYPE, b"", {"mode": 0o777, "linkname": target, **facts})


def hard_link(name: str, target: str, **facts: object) -> Piece:
    """A hard link."""
    return _piece(name, tarfile.LNKTYPE, b"", {"mode": 0o644, "linkname": target, **facts})


def special(name: str, kind: bytes, major: int = 0, minor: int = 0, **facts: object) -> Piece:
    """A device or FIFO."""
    return _piece(name, kind, b"", {"mode": 0o600, "devmajor": major, "devminor": minor, **facts})


def layer(*pieces: Piece) -> bytes:
    """A layer's tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, body in pieces:
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


def gnu_tar(root: Path, *options: str) -> bytes:
    """A folder as GNU tar writes it."""
    command = ["tar", "-C", str(root), "--sort=name", *options, "-cf", "-", "."]
    return subprocess.run(command, check=True, capture_output=True).stdout


def write_layout(root: Path, named: Mapping[str, Image]) -> Path:
    """An OCI layout in a directory."""
    for name, data in layout_files(named).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


async def unpack_bytes(
    layers: Sequence[bytes],
    into: Path,
    options: UnpackOptions | None = None,
    stored: Callable[[bytes], bytes] = lambda data: data,
) -> Sequence[str]:
    """Unpack layers that are at hand, after they were compressed by `stored`; the warnings."""
    blobs = {digest_of(data): stored(data) for data in layers}

    @asynccontextmanager
    async def opened(desc: Descriptor) -> AsyncIterator[FileSection]:
        yield FileSection(Memory(blobs[desc.digest]), 0, desc.size)

    def described(diff_id: str) -> Layer:
        return Layer(Descriptor("layer", Digest(diff_id), len(blobs[diff_id])), Digest(diff_id))

    wanted = [described(digest_of(data)) for data in layers]
    return await unpack_layers(wanted, opened, into, options or UnpackOptions())


async def unpack_layout(
    layout: Path, into: Path, reference: str = "", cache: Path | None = None, options: UnpackOptions | None = None
) -> Unpacked:
    """Unpack an image of a layout directory."""
    async with session_in(into.parent / "scratch") as session:
        place = LayoutLocator(str(layout), reference)
        return await unpack_to(session, place, into, "", cache, options or UnpackOptions())


@asynccontextmanager
async def session_in(scratch: Path) -> AsyncIterator[Session]:
    """A session without any configuration."""
    await anyio.Path(scratch).mkdir(exist_ok=True)
    config = await anyio.to_thread.run_sync(partial(Config, version=1))
    async with open_session(config, scratch=scratch) as session:
        yield session


async def umoci_unpack(layout: Path, into: Path, reference: str, *options: str) -> None:
    """The same by umoci."""
    command = ["umoci", "raw", "unpack", *options, "--image", f"{layout}:{reference}", str(into)]
    await in_thread(partial(subprocess.run, command, check=True, capture_output=True))


async def in_thread(act: Callable[[], object]) -> None:
    """Do something that blocks."""
    await anyio.to_thread.run_sync(act)


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def image(*layers: bytes, compressed: bool = True) -> Image:
    """An image of these layers."""
    return image_of(layers, compressed=compressed)


def _piece(name: str, kind: bytes, body: bytes, facts: dict[str, object]) -> Piece:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = kind, len(body), MTIME
    xattrs = facts.pop("xattrs", {})
    assert isinstance(xattrs, dict)
    info.pax_headers = {
        f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape") for key, value in xattrs.items()
    }
    for key, value in facts.items():
        setattr(info, key, value)
    return info, body
