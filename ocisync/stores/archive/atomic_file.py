"""A file that appears under its name only when it is whole and on the disk.

Its methods block: call them in a thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from anyio import CancelScope

from ocisync.content.threads import run_file
from ocisync.errors import DiskError

_MODE = 0o644
_O_TMPFILE: int | None = getattr(os, "O_TMPFILE", None)


class StagedFile:
    """Written without a name where the file system can, so that a killed process leaves nothing behind.

    `folder`: a descriptor of the folder, where others may write into that. Then only the path's last part counts, and a
    link of that name is replaced; else what it leads to is. The descriptor stays the caller's.

    Raises:
        DiskError: the folder is missing, full or read-only.
    """

    def __init__(self, path: Path, folder: int | None = None) -> None:
        self.size = 0  # bytes
        self._path = real_path(path) if folder is None else path
        self._part = ""  # its name until it is whole; empty: it has none
        self._fd = self._folder = -1
        try:
            self._folder = os.dup(folder) if folder is not None else _open_folder(self._path.parent)
            self._fd = self._open()
        except OSError as exc:
            self.close()
            raise self._wrap_error(exc) from exc

    def write(self, data: bytes | bytearray) -> None:
        """Append."""
        rest = memoryview(data)
        try:
            while rest:
                done = os.pwrite(self._fd, rest, self.size)
                rest = rest[done:]
                self.size += done
        except OSError as exc:
            raise self._wrap_error(exc) from exc

    def commit(self) -> None:
        """Make the file visible under its name, replacing what was there."""
        try:
            os.fchmod(self._fd, _MODE)
            os.fsync(self._fd)
            if not self._part:
                # linkat cannot replace a file, so the nameless file gets a name of its own first and is then renamed.
                part = _choose_name(self._path)
                # Python follows the link only when it is given a folder.
                os.link(
                    f"/proc/self/fd/{self._fd}",
                    part,
                    src_dir_fd=self._fd,
                    dst_dir_fd=self._folder,
                    follow_symlinks=True,
                )
                self._part = part
            os.rename(self._part, self._path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            self._part = ""
            os.fsync(self._folder)
        except OSError as exc:
            raise self._wrap_error(exc) from exc
        finally:
            self.close()

    def close(self) -> None:
        """Drop what was not committed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        folder, self._folder = self._folder, -1
        if folder >= 0:
            if self._part:
                with suppress(FileNotFoundError):
                    os.unlink(self._part, dir_fd=folder)
            os.close(folder)

    def _open(self) -> int:
        if _O_TMPFILE is not None:
            try:
                return os.open(".", os.O_RDWR | os.O_CLOEXEC | _O_TMPFILE, 0o600, dir_fd=self._folder)
            except OSError as exc:
                if exc.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # some file systems cannot
                    raise
        self._part = _choose_name(self._path)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._part, flags, 0o600, dir_fd=self._folder)

    def _wrap_error(self, exc: OSError) -> DiskError:
        return DiskError(f"{self._path}: cannot be written: {exc.strerror}", errno=exc.errno)


@asynccontextmanager
async def stage_file(path: Path, folder: int | None = None) -> AsyncIterator[StagedFile]:
    """A staged file for the time of the block; what is not committed is dropped."""
    staged = await run_file(partial(StagedFile, path, folder))
    try:
        yield staged
    finally:
        with CancelScope(shield=True):
            await run_file(staged.close)


def write_file(path: Path, data: bytes, folder: int | None = None) -> None:
    """Write a small file whole or not at all; `folder` as for `StagedFile`."""
    staged = StagedFile(path, folder)
    try:
        staged.write(data)
        staged.commit()
    finally:
        staged.close()


def real_path(path: Path) -> Path:
    """Where a path leads. What a link leads to is replaced, not the link.

    Raises:
        DiskError: to a folder, a pipe or a device, which a file must not replace.
    """
    real = Path(os.path.realpath(path))
    try:
        mode = real.lstat().st_mode
    except OSError:
        return real  # nothing is there yet, or staging will say what is wrong
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise DiskError(f"{path}: {kind} is there, and is not replaced: name another place")
    return real


def _open_folder(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _choose_name(path: Path) -> str:
    kept = os.fsencode(path.name)[:100].decode(errors="ignore")
    return f".{kept}.{os.urandom(6).hex()}.partial"
