"""A folder tree that nothing leaves: every name is walked from a descriptor of its root, part by part.

Links in the middle of a name are read and walked beneath the root, as chroot would: absolute ones begin at the root
again, and what climbs above it is refused. The last part of a name is never followed. No name is resolved as a text, so
it does not matter what a link was replaced by meanwhile. Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from ocisync.errors import LimitExceeded
from ocisync.images.unpack.path_resolver import MAX_DEPTH, OPEN_FOLDER, Parts, PathResolver, ResolvedPath

_OPEN_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_HANDLE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
_OWN_FOLDER = 0o700  # while the tree is made; the final modes are set at its end

Keep = Callable[[int, bytes], bool]  # by the folder's inode and the name in it


class SafeRoot:
    """The tree below one folder; `new_folder` is shown each folder that is made, or emptied and kept.

    Raises:
        ArchiveError: a name leads out of the tree, through a file, or in a circle.
        LimitExceeded: too deep.
        OSError: what the operating system refuses.
    """

    def __init__(self, root: int, new_folder: Callable[[int], None] = lambda _: None) -> None:
        self._root = root
        self._on_new_folder = new_folder
        self._at: Parts | None = None  # the folder that was walked to last
        self._fd = -1
        self._inode = 0

    def close(self) -> None:
        """Give the descriptors back, but for the root's, which is the caller's."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def resolve(self, parts: Parts, *, create: bool) -> ResolvedPath | None:
        """The place of a name that is not the root's; None when a folder before it is missing and not to be made.

        The descriptor in it is the tree's own and good until the next call.
        """
        if parts[:-1] != self._at:
            fd = self._walk(parts[:-1], create=create)
            if fd is None:
                return None
            self.close()
            self._at, self._fd, self._inode = parts[:-1], fd, os.fstat(fd).st_ino
        return ResolvedPath(self._fd, self._inode, parts[-1])

    def make_folder(self, path: ResolvedPath) -> int:
        """A new folder; its descriptor is the caller's to close."""
        os.mkdir(path.name, _OWN_FOLDER, dir_fd=path.folder)
        fd = os.open(path.name, OPEN_FOLDER, dir_fd=path.folder)
        self._on_new_folder(fd)
        return fd

    def make_file(self, path: ResolvedPath) -> int:
        """A new, empty file; its descriptor is the caller's to close."""
        return os.open(path.name, _OPEN_NEW, 0o600, dir_fd=path.folder)

    def open_handle(self, path: ResolvedPath) -> int:
        """A descriptor of whatever is there, that opens neither links nor devices; the caller's to close."""
        return os.open(path.name, _OPEN_HANDLE, dir_fd=path.folder)

    def open_folder(self, path: ResolvedPath) -> int:
        """A descriptor of a folder; the caller's to close."""
        return os.open(path.name, OPEN_FOLDER, dir_fd=path.folder)

    def remove(self, path: ResolvedPath, keep: Keep) -> None:
        """Remove what is there with all below it, but for what is to be kept and the folders on the way to that."""
        found = path.stat()
        if found is not None:
            if not stat.S_ISREG(found.st_mode):
                self._at = None  # the cached folder may be the removed one, or may have been reached through it
            self._remove(path, found.st_mode, keep)

    def clear(self, fd: int, keep: Keep) -> bool:
        """Remove what is in a folder, but for what is to be kept; whether nothing was kept."""
        self._at = None
        inode = os.fstat(fd).st_ino
        with os.scandir(fd) as entries:
            found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
        kept = [
            not self._remove(ResolvedPath(fd, inode, name), stat.S_IFDIR if inner else 0, keep) for name, inner in found
        ]
        return not any(kept)

    def _remove(self, path: ResolvedPath, mode: int, keep: Keep) -> bool:
        if not stat.S_ISDIR(mode):
            if keep(path.inode, path.name):
                return False
            os.unlink(path.name, dir_fd=path.folder)
            return True
        fd = self.open_folder(path)
        try:
            emptied = self.clear(fd, keep)
            is_kept = keep(path.inode, path.name)
            if not emptied and not is_kept:
                self._on_new_folder(fd)
        finally:
            os.close(fd)
        if emptied and not is_kept:
            os.rmdir(path.name, dir_fd=path.folder)
        return emptied and not is_kept

    def _walk(self, parts: Parts, *, create: bool) -> int | None:
        """The descriptor of a folder, the caller's to close; None when it is missing and not to be made."""
        walk = PathResolver(self._root, parts)
        try:
            while walk.pending:
                if not walk.advance() and not (create and walk.enter(self.make_folder(walk.current()))):
                    walk.close()
                    return None
        except BaseException:
            walk.close()
            raise
        return walk.fd


def finish_folders(fd: int, finish: Callable[[int, int], None], depth: int = 0) -> Iterator[None]:
    """Call `finish` with descriptor and inode of every folder, those inside first; yields once per folder."""
    if depth > MAX_DEPTH:
        raise LimitExceeded(f"folders nested more than {MAX_DEPTH} deep")
    for name in _list_folders(fd):
        inner = os.open(name, OPEN_FOLDER, dir_fd=fd)
        try:
            yield from finish_folders(inner, finish, depth + 1)
        finally:
            os.close(inner)
    finish(fd, os.fstat(fd).st_ino)
    yield


def remove_all(parent: int, name: bytes) -> None:
    """Remove a folder with all in it, whatever its permissions; what is gone already is no error."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode):
            os.unlink(name, dir_fd=parent)
            return
        fd = _open_for_removal(parent, name)
        try:
            with os.scandir(fd) as entries:
                names = [os.fsencode(entry.name) for entry in entries]
            for inner in names:
                remove_all(fd, inner)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=parent)


def _list_folders(fd: int) -> list[bytes]:
    with os.scandir(fd) as entries:
        return [os.fsencode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _open_for_removal(folder: int, name: bytes) -> int:
    with contextlib.suppress(PermissionError):
        os.chmod(name, _OWN_FOLDER, dir_fd=folder)
    return os.open(name, OPEN_FOLDER, dir_fd=folder)
