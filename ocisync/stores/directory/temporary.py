"""Temporary files of a directory store: written on the registry's file system, and moved into place when whole.

A writer holds a lock on its file while it writes, so whoever starts later can tell an abandoned file from one in use,
in another container as well. A large blob's file is named for its digest: what a writer that is gone had of it is taken
up by the next one.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ocisync.content.verify import UploadCheck
from ocisync.model.digest import Digest
from ocisync.stores.directory.paths import FILE_MODE

_DAY = 24 * 3600.0  # seconds
_LINK_GRACE = 60.0  # seconds; a link is moved into place at once
_LINK = "link-"
_PART = "part-"
_KEPT_FROM = 64 << 20  # bytes; what is smaller is rather read again
_READ = 1 << 20  # bytes


class Temporary:
    """One file being written; plain code for a thread."""

    def __init__(self, folder: Path, size: int, digest: Digest | None) -> None:
        self._check = UploadCheck(size, digest)
        part = _take_part(folder, digest) if digest and size >= _KEPT_FROM else None
        self.path, self._fd = part or _create(folder)
        self._is_part = part is not None
        self.length = self._hash_written(size) if part else 0  # bytes that an earlier writer left

    def _hash_written(self, size: int) -> int:
        """Hash what is there; what cannot be a part of the blob is dropped."""
        if os.fstat(self._fd).st_size > size:
            os.ftruncate(self._fd, 0)
        length = 0
        while chunk := os.read(self._fd, _READ):
            self._check.update(chunk)
            length += len(chunk)
        return length

    def write(self, chunks: Iterable[bytes]) -> None:
        """Hash and write the next bytes."""
        for chunk in chunks:
            self._check.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._fd, view) :]

    def write_piece(self, piece: memoryview) -> int:
        """Write bytes that the caller hashes by `check`; how many."""
        return os.write(self._fd, piece)

    @property
    def check(self) -> UploadCheck:
        """What has hashed all that is in the file."""
        return self._check

    def finish(self, *, fsync: bool) -> None:
        """Check the whole, and make it last."""
        self._check.finish()
        os.fchmod(self._fd, FILE_MODE)
        if fsync:
            os.fsync(self._fd)

    @property
    def is_open(self) -> bool:
        """Whether the file is still to be closed."""
        return self._fd >= 0

    def close(self) -> os.stat_result:
        """Give up the lock of a file that was moved into place."""
        found = os.fstat(self._fd)
        os.close(self._fd)
        self._fd = -1
        return found

    def discard(self, *, keep: bool = False) -> None:
        """Give up the lock, and remove the file unless it is to be kept and can be taken up."""
        if not (keep and self._is_part):
            with suppress(FileNotFoundError):
                self.path.unlink()
        self.close()


def _create(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / file_name()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a file system without locks: leftovers go by their age
            fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)  # a cleaner came between the two calls


def _take_part(folder: Path, digest: Digest) -> tuple[Path, int] | None:
    """The file of a blob's bytes; None when another writer has it, or there are no locks."""
    path = folder / (_PART + digest.replace(":", "-"))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), path.stat(follow_symlinks=False)):  # or it was moved into place meanwhile
            return path, fd
    except OSError:
        pass
    os.close(fd)
    return None


def file_name() -> str:
    """A name for a file that is locked as long as somebody needs it."""
    return secrets.token_hex(12)


def link_name() -> str:
    """A name for a link that will be moved over an existing file."""
    return _LINK + secrets.token_hex(12)


def remove_abandoned(folder: Path, now: float | None = None) -> int:
    """Remove what writers left that are gone; the number of files. `now` is by the clock that dates the files."""
    moment = _now(folder) if now is None else now
    return sum(_remove_if_abandoned(path, moment) for path in folder.iterdir())


def _now(folder: Path) -> float:
    """The time by the clock that dates the files: a file server's may differ from ours by days."""
    path = folder / file_name()
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return path.lstat().st_ctime
    except OSError:  # a full disk, or somebody tidied up
        return time.time()
    finally:
        with suppress(OSError):
            path.unlink()


def _remove_if_abandoned(path: Path, now: float) -> bool:
    """Whether a file was removed: never one whose writer holds its lock, whatever the clocks say."""
    with suppress(OSError):  # gone already, or another user's
        age = now - path.lstat().st_ctime
        if path.name.startswith(_LINK):  # to a file that is published, whose lock would tell nothing
            if age > _LINK_GRACE:
                path.unlink()
                return True
            return False
        if path.name.startswith(_PART) and age <= _DAY:
            return False  # it may be taken up
        return _remove_unlocked(path, age)
    return False


def _remove_unlocked(path: Path, age: float) -> bool:
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return False
    except OSError:  # a file system without locks: only the age tells
        if age <= _DAY:
            os.close(fd)
            return False
    try:
        path.unlink()  # while the lock is held: a writer that waits for it sees that its file is gone
    finally:
        os.close(fd)
    return True
