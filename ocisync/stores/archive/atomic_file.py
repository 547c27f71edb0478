"""A file that appears under its name only when it is whole and on the disk.

Its methods block: call them in a thread.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from anyio import CancelScope

from ocisync.content.threads import run_file
from ocisync.errors import DiskError

_MODE = 0o644
_O_TMPFILE: int | None = getattr(os, "O_TMPFILE", None)


class StagedFile:
    """Written without a name where the file system can, so that a killed process leaves nothing behind.

    Raises:
        DiskError: the folder is missing, full or read-only.
    """

    def __init__(self, path: Path) -> None:
        self.size = 0  # bytes
        self._path = real_path(path)
        self._name: Path | None = None
        self._fd = -1
        try:
            self._fd = self._open()
        except OSError as exc:
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
            if self._name is None:
                # linkat cannot replace a file, so the nameless file gets a name of its own first and is then renamed.
                self._name = _choose_name(self._path)
                # Python follows the link only when it is given a folder, which an absolute path does not use.
                os.link(f"/proc/self/fd/{self._fd}", self._name, src_dir_fd=self._fd, follow_symlinks=True)
            self._name.replace(self._path)
            self._name = None
            sync_folder(self._path.parent)
        except OSError as exc:
            raise self._wrap_error(exc) from exc
        finally:
            self.close()

    def close(self) -> None:
        """Drop what was not committed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self._name is not None:
            self._name.unlink(missing_ok=True)

    def _open(self) -> int:
        if _O_TMPFILE is not None:
            try:
                return os.open(self._path.parent, os.O_RDWR | os.O_CLOEXEC | _O_TMPFILE, 0o600)
            except OSError as exc:
                if exc.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # some file systems cannot
                    raise
        fd, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name[:100]}.", suffix=".partial")
        self._name = Path(name)
        return fd

    def _wrap_error(self, exc: OSError) -> DiskError:
        return DiskError(f"{self._path}: cannot be written: {exc.strerror}", errno=exc.errno)


@asynccontextmanager
async def stage_file(path: Path) -> AsyncIterator[StagedFile]:
    """A staged file for the time of the block; what is not committed is dropped."""
    staged = await run_file(partial(StagedFile, path))
    try:
        yield staged
    finally:
        with CancelScope(shield=True):
            await run_file(staged.close)


def write_file(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all."""
    staged = StagedFile(path)
    try:
        staged.write(data)
        staged.commit()
    finally:
        staged.close()


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder last."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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


def _choose_name(path: Path) -> Path:
    return path.with_name(f".{path.name[:100]}.{os.urandom(6).hex()}.partial")
