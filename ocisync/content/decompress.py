"""Decompression with flat memory and caps: gzip, zstd, xz and bzip2, told by their first bytes.

Spec: RFC 1952 (gzip, members in a row are one stream), RFC 8878 (zstd).
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

import zstandard
from isal import igzip_lib

from ocisync.content.files import READ, FileSection, Spool
from ocisync.errors import ArchiveError, LimitExceeded

MAGIC_LENGTH = 6  # bytes
MAX_WINDOW = 128 * 1024 * 1024  # bytes; what `zstd --long` uses without a further option
MAX_XZ_MEMORY = 128 * 1024 * 1024  # bytes; xz -9 needs 65 MiB
_MAX_EMPTY_MEMBERS = 1000
_INPUT = 128 * 1024  # bytes
_PER_STEP = 8 * READ  # bytes of output between two looks for cancellation
_ZSTD_SKIPPABLE = bytes.fromhex("2a4d18")
_FAILURES: tuple[type[Exception], ...] = (
    cast(type[Exception], igzip_lib.error),
    zstandard.ZstdError,
    lzma.LZMAError,
    OSError,
    ValueError,
    EOFError,
)


@dataclass(frozen=True, slots=True)
class Caps:
    """How far content may grow; a file that grows further is a decompression bomb.

    The ratio alone would refuse small files of zeros, which layers do contain; the size alone would let a file of 64 MB
    fill a disk of 64 GB.
    """

    output: int = 64 * 1024**3  # bytes
    ratio: int = 1000
    ratio_from: int = 64 * 1024**2  # bytes; below that any ratio is harmless


def detect_compression(head: bytes) -> str:
    """`gzip`, `zstd`, `xz`, `bzip2`, or empty for anything else."""
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == _ZSTD_SKIPPABLE and head[0] >> 4 == 5):
        return "zstd"
    if head[:6] == b"\xfd7zXZ\0":
        return "xz"
    return "bzip2" if head[:3] == b"BZh" else ""


def decompress(
    region: FileSection, kind: str, caps: Caps, seen: Callable[[bytes], None] | None = None
) -> Iterator[bytes]:
    """The content in chunks of at most 1 MiB; `seen` is shown the compressed bytes as they are read.

    Raises:
        ArchiveError: the data is corrupt or ends too early.
        LimitExceeded: it grows beyond the caps, or wants too large a window.
    """
    reader = _Reader(region, seen or _ignore)
    total = 0
    try:
        for chunk in _read_zstd(reader) if kind == "zstd" else _read_members(reader, _NEW[kind]):
            total += len(chunk)
            _check_caps(total, reader.taken, caps)
            yield chunk
    except _FAILURES as exc:
        raise _translate_error(kind, exc) from exc


def decompress_to_spool(region: FileSection, kind: str, folder: Path, caps: Caps) -> Generator[None, None, Spool]:
    """Decompress to a temporary file that has no name; a generator for `run_steps`. The caller closes the spool.

    Raises:
        ArchiveError, LimitExceeded: as `decompress` does.
        DiskError: the folder is full or not writable.
    """
    spool = Spool(folder)
    try:
        due = _PER_STEP
        for chunk in decompress(region, kind, caps):
            spool.write(chunk)
            if spool.size >= due:
                due += _PER_STEP
                yield
    except BaseException:
        spool.close()
        raise
    return spool


class _Reader:
    """The compressed bytes, in order."""

    def __init__(self, region: FileSection, seen: Callable[[bytes], None]) -> None:
        self._region = region
        self._seen = seen
        self.taken = 0  # bytes

    def read(self, size: int = _INPUT) -> bytes:
        """The next bytes; empty at the end."""
        size = min(size if size > 0 else _INPUT, self._region.size - self.taken)
        data = self._region.read_at(self.taken, size)
        self.taken += size
        self._seen(data)
        return data


class _Member(Protocol):
    """What the decompressors of bz2, lzma and isal share: one member, bounded output."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _read_members(reader: _Reader, new: Callable[[], _Member]) -> Iterator[bytes]:
    """Decompress members in a row; zeros may follow the last."""
    pending = reader.read()
    empty = 0
    while True:
        member = new()
        size = 0
        for chunk in _read_member(reader, member, pending):
            size += len(chunk)
            yield chunk
        empty += not size  # a file of empty members costs time and never reaches a cap of bytes
        if empty > _MAX_EMPTY_MEMBERS:
            raise LimitExceeded(f"the compressed data has more than {_MAX_EMPTY_MEMBERS} empty members")
        pending = _find_next_member(reader, member.unused_data)
        if not pending:
            return


def _read_member(reader: _Reader, member: _Member, pending: bytes) -> Iterator[bytes]:
    while not member.eof:
        if member.needs_input and not pending:
            pending = reader.read()
            if not pending:
                raise EOFError("it ends too early")
        chunk = member.decompress(pending, READ)
        pending = b""
        if chunk:
            yield chunk


def _find_next_member(reader: _Reader, rest: bytes) -> bytes:
    rest = rest.lstrip(b"\0")
    while not rest:
        more = reader.read()
        if not more:
            return b""
        rest = more.lstrip(b"\0")
    return rest


def _read_zstd(reader: _Reader) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    with decompressor.stream_reader(
        cast(IO[bytes], reader), read_size=_INPUT, read_across_frames=True, closefd=False
    ) as stream:
        while chunk := stream.read(READ):
            yield chunk


def _check_caps(total: int, taken: int, caps: Caps) -> None:
    if total > caps.output:
        told = f"it decompresses to more than {caps.output} bytes"
        raise LimitExceeded(f"{told}; if it should be that large, raise `archives.size` in the configuration")
    if total > caps.ratio_from and total > caps.ratio * taken:
        told = f"it grows more than {caps.ratio}-fold when it is decompressed: a decompression bomb"
        raise LimitExceeded(f"{told}; if it is not a bomb, raise `archives.ratio` in the configuration")


def _translate_error(kind: str, exc: Exception) -> ArchiveError | LimitExceeded:
    text = str(exc)
    if "memory" in text.lower():
        return LimitExceeded(f"the {kind} data wants more memory to be decompressed than is allowed")
    return ArchiveError(f"the {kind} data cannot be decompressed: {text[:200]}")


def _ignore(_: bytes) -> None:
    pass


_NEW: dict[str, Callable[[], _Member]] = {
    "gzip": lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY),
    "bzip2": bz2.BZ2Decompressor,
}
