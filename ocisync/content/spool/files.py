"""One blob's bytes in a file that outlives the process, held by one process at a time. Everything here blocks.

A file's name is its blob's digest and its length is how much has arrived; the bytes are not trusted: whoever reads them
verifies them.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ocisync.content.files import pwrite_all
from ocisync.errors import DiskError
from ocisync.model.digest import Digest, is_digest

_LEFT = 1 << 30  # bytes
FAILED = "spool.failed"  # the code of errors that only mean: do without the spool


class Leftover(NamedTuple):
    """A file that an earlier run left."""

    digest: Digest
    size: int  # bytes that have arrived
    age: float  # seconds since it was written to


class SpoolFile:
    """An open file, locked against other processes."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @property
    def length(self) -> int:
        """Bytes that have arrived."""
        return os.fstat(self._fd).st_size

    def write_at(self, offset: int, chunks: Iterable[bytes | memoryview]) -> None:
        """Write all of the chunks, one after the other.

        Raises:
            DiskError: `spool.failed`: the disk is full or broken.
        """
        try:
            for chunk in chunks:
                pwrite_all(self._fd, chunk, offset)
                offset += len(chunk)
        except OSError as exc:
            raise _make_disk_error(self.path, exc) from exc

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """How many bytes were read, at least one; raises as `read_at` does."""
        try:
            count = os.preadv(self._fd, [buffer], offset)
        except OSError as exc:
            raise _make_disk_error(self.path, exc) from exc
        if not count:
            raise self._make_cut_error()
        return count

    def read_at(self, offset: int, length: int) -> bytes:
        """Some bytes, at least one.

        Raises:
            DiskError: `spool.failed`: there are none.
        """
        try:
            data = os.pread(self._fd, length, offset)
        except OSError as exc:
            raise _make_disk_error(self.path, exc) from exc
        if not data:
            raise self._make_cut_error()
        return data

    def _make_cut_error(self) -> DiskError:
        return DiskError(f"{self.path}: the file was cut off; does another program truncate files there?", code=FAILED)

    def cut(self, length: int) -> None:
        """Drop what lies behind `length` bytes."""
        os.ftruncate(self._fd, length)

    def close(self) -> None:
        """Let other processes have it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def open_file(folder: Path, digest: Digest) -> SpoolFile | None:
    """Open or make a blob's file; None when another process has it, or the folder cannot be written."""
    path = folder / digest.replace(":", "-")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink:  # or else it was removed before it was locked
            return SpoolFile(path, fd)
    except OSError:
        pass
    os.close(fd)
    return None


def remove_file(folder: Path, digest: Digest) -> bool:
    """Remove a blob's file that no other process has; whether it is gone."""
    file = open_file(folder, digest)
    if file is None:
        return False
    try:
        file.path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        file.close()
    return True


def list_leftovers(folder: Path) -> list[Leftover]:
    """What is there, the oldest first."""
    return sorted(_leftovers(folder), key=lambda one: -one.age)


def measure_room(folder: Path) -> int:
    """How many bytes more the disk should take: a twentieth of it, at most a GiB, is left to others."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize - min(found.f_blocks * found.f_frsize // 20, _LEFT)


def _leftovers(folder: Path) -> Iterator[Leftover]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        digest = entry.name.replace("-", ":", 1)
        if is_digest(digest) and entry.is_file(follow_symlinks=False):
            found = entry.stat(follow_symlinks=False)
            yield Leftover(Digest(digest), found.st_size, time.time() - found.st_mtime)


def _make_disk_error(path: Path, exc: OSError) -> DiskError:
    return DiskError(f"{path}: cannot be used: {exc.strerror}", code=FAILED, errno=exc.errno)
