"""A folder as one layer: the same bytes for the same tree, whoever made it, when, and in which order.

Entries are sorted by the bytes of their names, each folder before its content. All have one given time, and one given
owner unless owners are to be kept; the first name of a file with several is the file, the others are hard links.
Holes are found in the content, not in the file system's map. A folder that changes while it is read would give an image
that never existed, so the tree is walked a second time and compared. Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ocisync.content.files import READ
from ocisync.content.tar.headers import FOLDER, HARD_LINK, REGULAR, SYMLINK
from ocisync.content.tar.member import TarMember
from ocisync.content.tar.write import END, padding, render_member
from ocisync.errors import InputChanged, InputError, LimitExceeded
from ocisync.images.pack.excludes import Excludes
from ocisync.images.pack.holes import Piece, find_data
from ocisync.images.unpack.attributes import is_portable, list_xattrs
from ocisync.images.unpack.path_resolver import MAX_DEPTH, quote

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_OPEN_HANDLE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
_LEFT_OUT = b".gitignore"  # what keeps an empty folder in a repository
_KINDS = {
    stat.S_IFREG: REGULAR,
    stat.S_IFDIR: FOLDER,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFIFO: b"6",
}


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """What is taken, and what it is given."""

    mtime: int = 0  # seconds since the epoch, of every entry
    owner: tuple[int, int] | None = None  # user and group of every entry; None: as they are
    excludes: Excludes = field(default_factory=Excludes)


@dataclass(frozen=True, slots=True)
class _TreeEntry:
    """One entry of the tree."""

    path: bytes  # from the root, without a leading slash
    name: bytes
    folder: int  # a descriptor, good until the walk goes on
    was: os.stat_result


class TreeReader:
    """A layer's tar, read from a folder that must stay as it is."""

    def __init__(self, root: Path, options: TreeOptions) -> None:
        self.warnings: list[str] = []
        self._root = root
        self._options = options
        self._states = array("q")  # of each entry, in order
        self._links: dict[tuple[int, int], bytes] = {}  # device and inode of what has several names: the first one

    def render(self) -> Iterator[bytes]:
        """The tar's bytes.

        Raises:
            InputError: something cannot be read, or cannot be in a layer.
            InputChanged: something changed meanwhile.
        """
        try:
            for entry in self._walk():
                self._states.append(_hash_state(entry))
                yield from self._render_member(entry)
            self._check_unchanged()
        except OSError as exc:
            raise InputError(f"{self._root}: cannot be read: {exc.strerror}", errno=exc.errno) from exc
        yield END

    def _walk(self) -> Iterator[_TreeEntry]:
        try:
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise InputError(f"{self._root}: cannot be read: {exc.strerror}") from exc
        try:
            yield from self._walk_folder(fd, b"", 0)
        finally:
            os.close(fd)

    def _walk_folder(self, fd: int, path: bytes, depth: int) -> Iterator[_TreeEntry]:
        if depth > MAX_DEPTH:
            raise LimitExceeded(f"{self._root}: {quote((path,))}: more than {MAX_DEPTH} folders deep")
        for name in sorted(os.fsencode(name) for name in os.listdir(fd)):
            inner = path + b"/" + name if path else name
            entry = _TreeEntry(inner, name, fd, self._stat(fd, name, inner))
            is_folder = stat.S_ISDIR(entry.was.st_mode)
            if self._is_left_out(entry, is_folder=is_folder):
                continue
            yield entry
            if is_folder:
                yield from self._enter(entry, depth)

    def _enter(self, entry: _TreeEntry, depth: int) -> Iterator[_TreeEntry]:
        fd = self._open(entry, _OPEN_FOLDER)
        try:
            yield from self._walk_folder(fd, entry.path, depth + 1)
        finally:
            os.close(fd)

    def _is_left_out(self, entry: _TreeEntry, *, is_folder: bool) -> bool:
        if self._options.excludes.match(entry.path) or (entry.name == _LEFT_OUT and not is_folder):
            return True
        if entry.name.startswith(b".wh."):
            raise InputError(f"{self._show(entry)}: a layer would take this name for a removal; rename or exclude it")
        if not stat.S_ISSOCK(entry.was.st_mode):
            return False
        warning = f"{self._show(entry)}: a socket, left out"
        if warning not in self.warnings:
            self.warnings.append(warning)
        return True

    def _render_member(self, entry: _TreeEntry) -> Iterator[bytes]:
        was = entry.was
        key = was.st_dev, was.st_ino
        if was.st_nlink > 1 and not stat.S_ISDIR(was.st_mode):
            first = self._links.setdefault(key, entry.path)
            if first != entry.path:
                yield render_member(self._make_member(entry, HARD_LINK, link=first, xattrs={}))
                return
        kind = _KINDS[stat.S_IFMT(was.st_mode)]
        if kind == REGULAR:
            yield from self._render_regular(entry)
            return
        link = os.readlink(entry.name, dir_fd=entry.folder) if kind == SYMLINK else b""
        yield render_member(self._make_member(entry, kind, link=link, xattrs=self._read_handle_xattrs(entry)))

    def _render_regular(self, entry: _TreeEntry) -> Iterator[bytes]:
        fd = self._open(entry, _OPEN_FILE)
        try:
            now = os.fstat(fd)
            if (now.st_dev, now.st_ino, now.st_size) != (entry.was.st_dev, entry.was.st_ino, entry.was.st_size):
                raise self._changed_error(entry.path)
            member = self._make_member(entry, REGULAR, size=now.st_size, xattrs=_read_xattrs(fd))
            pieces = find_data(fd, now.st_size)
            member.data = pieces
            yield render_member(member)
            yield from self._read_content(fd, entry, pieces if pieces is not None else ((0, now.st_size),))
            yield padding(member)
        finally:
            os.close(fd)

    def _read_content(self, fd: int, entry: _TreeEntry, pieces: tuple[Piece, ...]) -> Iterator[bytes]:
        for offset, length in pieces:
            end = offset + length
            while offset < end:
                data = os.pread(fd, min(READ, end - offset), offset)
                if not data:
                    raise self._changed_error(entry.path)
                offset += len(data)
                yield data

    def _make_member(
        self, entry: _TreeEntry, kind: bytes, *, xattrs: dict[bytes, bytes], size: int = 0, link: bytes = b""
    ) -> TarMember:
        was = entry.was
        uid, gid = self._options.owner or (was.st_uid, was.st_gid)
        device = (os.major(was.st_rdev), os.minor(was.st_rdev)) if kind in (b"3", b"4") else (0, 0)
        mode = 0o777 if kind == SYMLINK else stat.S_IMODE(was.st_mode)
        return TarMember(entry.path, kind, link, size, mode, uid, gid, self._options.mtime * 10**9, device, xattrs)

    def _read_handle_xattrs(self, entry: _TreeEntry) -> dict[bytes, bytes]:
        fd = self._open(entry, _OPEN_HANDLE)
        try:
            return _read_xattrs(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    def _check_unchanged(self) -> None:
        """Walk again: whatever was added, removed, replaced or written to shows."""
        states = iter(self._states)
        for entry in self._walk():
            if next(states, None) != _hash_state(entry):
                raise self._changed_error(entry.path)
        if next(states, None) is not None:
            raise self._changed_error(b"")

    def _stat(self, fd: int, name: bytes, path: bytes) -> os.stat_result:
        try:
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError as exc:
            raise self._changed_error(path) from exc

    def _open(self, entry: _TreeEntry, flags: int) -> int:
        try:
            return os.open(entry.name, flags, dir_fd=entry.folder)
        except FileNotFoundError as exc:
            raise self._changed_error(entry.path) from exc
        except OSError as exc:
            raise InputError(f"{self._show(entry)}: cannot be read: {exc.strerror}") from exc

    def _changed_error(self, path: bytes) -> InputChanged:
        where = f"{self._root}: {quote((path,))}" if path else f"{self._root}: something in it"
        return InputChanged(f"{where} changed while it was packed; pack it again when nothing writes to it")

    def _show(self, entry: _TreeEntry) -> str:
        return f"{self._root}: {quote((entry.path,))}"


def _hash_state(entry: _TreeEntry) -> int:
    was = entry.was
    is_folder = stat.S_ISDIR(was.st_mode)
    return hash(
        (entry.path, was.st_ino, was.st_mode, 0 if is_folder else was.st_size, was.st_mtime_ns, was.st_ctime_ns)
    )


def _read_xattrs(where: int | str) -> dict[bytes, bytes]:
    names = (name for name in list_xattrs(where) if is_portable(os.fsencode(name)))
    return {os.fsencode(name): os.getxattr(where, name) for name in names}
