"""Local files read by position: the input as it was when it was opened, and spools that no crash can leave behind.

Everything here blocks; call it in a thread (`content.threads`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from ocisync.errors import DiskError, InputChanged, InputError, machine_error

READ = 1024 * 1024  # bytes per read
FOLDER_MODE = 0o755  # of folders that are made, whatever the umask allows
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What a name leads to is missing or is no regular file. Anything else is no fault of the file's and may pass.
_NO_REGULAR_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG}
_NAMED_MODE = 0o644  # what is published, anyone may read


class ReadAt(Protocol):
    """Bytes that can be read from any position, by several threads at a time."""

    @property
    def size(self) -> int:
        """The length in bytes."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset` on.

        Raises:
            InputChanged: there are fewer than there were, or the file was written to.
        """
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with what is there from `offset` on; raises as `read_at` does."""
        ...


@dataclass(frozen=True, slots=True)
class FileSection:
    """A stretch of a file."""

    file: ReadAt
    offset: int  # bytes
    size: int  # bytes

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset` within the stretch."""
        return self.file.read_at(self.offset + offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with what is there from `offset` within the stretch on."""
        self.file.read_into(self.offset + offset, buffer)

    def head(self, length: int) -> bytes:
        """The first bytes, at most `length`."""
        return self.read_at(0, min(length, self.size))


@dataclass(frozen=True, slots=True)
class FileGuard:
    """For files where others may write: below `root` no link is followed, and only one file is meant.

    Whoever may put files into a folder must not borrow the rights of whoever reads them: a link could lead to any file
    that this process may read.
    """

    root: Path
    identity: tuple[int, int] | None = None  # device and inode of the file that was looked at; None: any regular file

    def open(self, path: Path, flags: int) -> int:
        """A descriptor of a file below the root; raises OSError."""
        *folders, name = path.relative_to(self.root).parts
        with open_folder_beneath(self.root, folders) as folder:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)

    def stat(self, path: Path) -> os.stat_result:
        """What a name below the root leads to; raises OSError."""
        *folders, name = path.relative_to(self.root).parts
        with open_folder_beneath(self.root, folders) as folder:
            return os.stat(name, dir_fd=folder, follow_symlinks=False)


@contextmanager
def open_folder_beneath(root: Path, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
    """A descriptor of a folder below a root, part by part so that no link on the way is followed.

    `make`: folders that are missing are made. Links in the root's own path are the business of who configured it.

    Raises:
        OSError: a part is missing, or it is a link or a file.
    """
    if any(part in ("", ".", "..") or "/" in part for part in parts):
        raise OSError(errno.EINVAL, "not a name", "/".join(parts))
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, FOLDER_MODE, dir_fd=fd)
            inner = os.open(part, _OPEN_FOLDER, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


class InputFile:
    """A regular file that must stay as it was while it is read.

    The descriptor is kept, so a file that is replaced under its name is still read whole; `check` then tells.

    Raises:
        InputError: it is missing, or is no regular file.
        InputChanged: it is another one than the guard's.
        DiskError: it cannot be opened, which is no fault of the file's.
    """

    def __init__(self, path: Path, guard: FileGuard | None = None) -> None:
        self.path = path
        self._guard = guard
        self._fd = -1
        self._fd = _open_regular(path, guard)
        self._was = os.fstat(self._fd)
        if guard and guard.identity and guard.identity != (self._was.st_dev, self._was.st_ino):
            self.close()
            raise self._make_changed_error("was replaced by another file")

    @property
    def size(self) -> int:
        """The length in bytes, as it was when the file was opened."""
        return self._was.st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes.

        Raises:
            InputChanged: the file was cut or written to.
        """
        data = _pread(self._fd, offset, length)
        self._check_read(length, len(data))
        return data

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer; raises as `read_at` does."""
        self._check_read(len(buffer), _pread_into(self._fd, offset, buffer))

    def check(self) -> None:
        """Look whether the name still leads to the same, unchanged file.

        Raises:
            InputChanged: it does not.
        """
        try:
            now = self._guard.stat(self.path) if self._guard else self.path.stat()
        except OSError as exc:
            raise self._make_changed_error("was removed or renamed") from exc
        if (now.st_dev, now.st_ino) != (self._was.st_dev, self._was.st_ino):
            raise self._make_changed_error("was replaced by another file")
        if _state(now) != _state(self._was):
            raise self._make_changed_error("was cut or written to")

    def close(self) -> None:
        """Give the descriptor back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _check_read(self, wanted: int, found: int) -> None:
        if wanted != found or _state(os.fstat(self._fd)) != _state(self._was):
            raise self._make_changed_error("was cut or written to")

    def _make_changed_error(self, how: str) -> InputChanged:
        return InputChanged(f"{self.path}: the file {how} while it was read; it is read again once it is stable")


class Spool:
    """A temporary file without a name: written once from the start, then read at any position.

    Raises:
        DiskError: the folder is missing, full or not writable.
    """

    def __init__(self, folder: Path) -> None:
        self.size = 0  # bytes
        self._folder = folder
        self._fd = -1
        try:
            self._fd = _open_unnamed(folder)
        except OSError as exc:
            raise _disk_error(folder, exc) from exc

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append."""
        rest = memoryview(data)
        try:
            while rest:
                done = os.pwrite(self._fd, rest, self.size)
                rest = rest[done:]
                self.size += done
        except OSError as exc:
            raise _disk_error(self._folder, exc) from exc

    def reserve(self, length: int) -> int:
        """Leave room for `length` bytes that `write_at` fills later; where they begin."""
        offset = self.size
        self.size += length
        return offset

    def write_at(self, offset: int, data: bytes) -> None:
        """Fill a part of what was reserved; several threads may, each its own part."""
        try:
            pwrite_all(self._fd, data, offset)
        except OSError as exc:
            raise _disk_error(self._folder, exc) from exc

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes."""
        data = _pread(self._fd, offset, length)
        self._check_read(length, len(data))
        return data

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer."""
        self._check_read(len(buffer), _pread_into(self._fd, offset, buffer))

    def link(self, path: Path, *, fsync: bool) -> bool:
        """Give the file a name, once, on its own file system; nothing may be written to it afterwards.

        A lock on it tells others, until it is closed, that it is not abandoned.
        False where that cannot be done, or where files are to belong to their folder's group.
        """
        try:
            if os.fstat(self._fd).st_nlink or path.parent.stat().st_mode & stat.S_ISGID:
                return False
            os.fchmod(self._fd, _NAMED_MODE)
            if fsync:
                os.fsync(self._fd)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Python follows the link only when it is given a folder, which an absolute path does not use.
            os.link(f"/proc/self/fd/{self._fd}", path, src_dir_fd=self._fd, follow_symlinks=True)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give the disk space back, unless the file was given a name."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_read(self, wanted: int, found: int) -> None:
        if wanted != found:
            raise DiskError(f"{self._folder}: a temporary file was cut off; does another program truncate files there?")


def _open_regular(path: Path, guard: FileGuard | None) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO must not block
    try:
        fd = guard.open(path, flags) if guard else os.open(path, flags)
    except OSError as exc:
        if exc.errno in _NO_REGULAR_FILE:
            raise InputError(f"{path}: cannot be opened: {exc.strerror}") from exc
        raise machine_error(exc, str(path), "cannot be opened") from exc
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InputError(f"{path}: not a regular file")
    return fd


def _open_unnamed(folder: Path) -> int:
    tmpfile = getattr(os, "O_TMPFILE", None)
    if tmpfile is not None:
        try:
            return os.open(folder, os.O_RDWR | os.O_CLOEXEC | tmpfile, 0o600)
        except OSError as exc:
            if exc.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # some file systems cannot
                raise
    fd, name = tempfile.mkstemp(dir=folder, prefix=".ocisync-spool-")
    os.unlink(name)  # noqa: PTH108 (a path object adds nothing)
    return fd


def pwrite_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of the data at an offset; raises OSError."""
    rest = memoryview(data)
    while rest:
        done = os.pwrite(fd, rest, offset)
        rest, offset = rest[done:], offset + done


def _pread_into(fd: int, offset: int, buffer: memoryview) -> int:
    """How many bytes were there."""
    done = 0
    try:
        while done < len(buffer) and (count := os.preadv(fd, [buffer[done:]], offset + done)):
            done += count
    except OSError as exc:
        raise _make_read_error(offset, exc) from exc
    return done


def _make_read_error(offset: int, error: OSError) -> DiskError:
    return DiskError(f"reading at byte {offset} failed: {error.strerror}", errno=error.errno)


def _pread(fd: int, offset: int, length: int) -> bytes:
    parts: list[bytes] = []
    missing = length
    try:
        while missing and (data := os.pread(fd, missing, offset + length - missing)):
            parts.append(data)
            missing -= len(data)
    except OSError as exc:
        raise _make_read_error(offset, exc) from exc
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _state(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _disk_error(folder: Path, exc: OSError) -> DiskError:
    return DiskError(f"{folder}: no temporary file can be written there: {exc.strerror}", errno=exc.errno)
