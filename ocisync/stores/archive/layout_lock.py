"""A layout directory for the time that it is written to: if nothing is published, nothing stays.

Every writer holds `.ocisync.writers` shared for as long as it works. Blobs that were added are removed at the end only
by a writer that gets this lock alone and finds index.json as it was at the start: then no other writer can have found
such a blob and relied on it. The kernel drops these locks when a process dies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from ocisync.errors import DiskError
from ocisync.stores.archive.atomic_file import write_file
from ocisync.stores.archive.index_json import INDEX_FILE, LAYOUT_FILE
from ocisync.stores.archive.render import LAYOUT

LOCK_FILE = ".ocisync.lock"  # held while index.json is read and written
_WRITERS = ".ocisync.writers"  # held, shared, by everyone at work
_FOLDERS = ("blobs/sha256", "blobs/sha512", "blobs")


class LayoutLock:
    """Makes the layout where it is missing. Its methods block: call them in a thread.

    Raises:
        DiskError: it cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._was_there = os.path.lexists(root)
        self._is_new = not os.path.lexists(root / LAYOUT_FILE)
        self._lock = self._join()
        self._before = self._index_state()

    def close(self, added: Sequence[Path] | None) -> None:
        """Remove the blobs that were added (None: keep them), unless another writer may rely on them."""
        with self._lock:
            if added is not None and self._is_alone() and self._index_state() == self._before:
                self._remove(added)

    def _join(self) -> IO[str]:
        while True:
            make_layout(self._root)
            lock = open_lock(self._root / _WRITERS)
            fcntl.flock(lock, fcntl.LOCK_SH)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock.fileno()), (self._root / _WRITERS).stat()):
                    return lock
            lock.close()  # its file was removed with a layout into which nothing was published: make it again

    def _is_alone(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _index_state(self) -> tuple[int, int] | None:
        try:
            found = (self._root / INDEX_FILE).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _remove(self, added: Sequence[Path]) -> None:
        with suppress(OSError):
            for path in added:
                path.unlink(missing_ok=True)
        if self._is_new:
            for name in (LAYOUT_FILE, LOCK_FILE, _WRITERS):
                with suppress(OSError):
                    (self._root / name).unlink(missing_ok=True)
            for folder in (*(self._root / name for name in _FOLDERS), *(() if self._was_there else (self._root,))):
                with suppress(OSError):
                    folder.rmdir()


def make_layout(root: Path) -> None:
    """The folders and the version of a layout, where they are missing; raises DiskError."""
    make_folder(root / "blobs" / "sha256")
    if not (root / LAYOUT_FILE).is_file():
        write_file(root / LAYOUT_FILE, LAYOUT)


def make_folder(folder: Path) -> None:
    """A folder with all above it; raises DiskError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DiskError(f"{folder}: cannot be made: {exc.strerror}", errno=exc.errno) from exc


def open_lock(path: Path) -> IO[str]:
    """A file to be locked; raises DiskError."""
    try:
        return path.open("a")
    except OSError as exc:
        raise DiskError(f"{path}: cannot be opened: {exc.strerror}", errno=exc.errno) from exc
