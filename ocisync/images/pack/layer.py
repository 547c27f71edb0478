"""A folder as one layer: the same bytes for the same tree, whoever made it, when, and in which order.

Entries stand sorted by their bytes, each folder before what is in it. Everything here blocks; call it in a thread.
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
from ocisync.images.pack.sparse import Piece, find_data
from ocisync.images.unpack.attributes import is_portable, listed
from ocisync.images.unpack.path_resolver import MAX_DEPTH, shown

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
class _Found:
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

    def chunks(self) -> Iterator[bytes]:
        """The tar's bytes.

        Raises:
            InputError: something cannot be read, or cannot be in a layer.
            InputChanged: something changed meanwhile.
        """
        try:
            for found in self._walk():
                self._states.append(_state(found))
                yield from self._member(found)
            self._check_unchanged()
        except OSError as exc:
            raise InputError(f"{self._root}: cannot be read: {exc.strerror}", errno=exc.errno) from exc
        yield END

    def _walk(self) -> Iterator[_Found]:
        try:
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise InputError(f"{self._root}: cannot be read: {exc.strerror}") from exc
        try:
            yield from self._inside(fd, b"", 0)
        finally:
            os.close(fd)

    def _inside(self, fd: int, path: bytes, depth: int) -> Iterator[_Found]:
        if depth > MAX_DEPTH:
            raise LimitExceeded(f"{self._root}: {shown((path,))}: more than {MAX_DEPTH} folders deep")
        for name in sorted(os.fsencode(name) for name in os.listdir(fd)):
            inner = path + b"/" + name if path else name
            found = _Found(inner, name, fd, self._look(fd, name, inner))
            is_folder = stat.S_ISDIR(found.was.st_mode)
            if self._is_left_out(found, is_folder=is_folder):
                continue
            yield found
            if is_folder:
                yield from self._down(found, depth)

    def _down(self, found: _Found, depth: int) -> Iterator[_Found]:
        fd = self._open(found, _OPEN_FOLDER)
        try:
            yield from self._inside(fd, found.path, depth + 1)
        finally:
            os.close(fd)

    def _is_left_out(self, found: _Found, *, is_folder: bool) -> bool:
        if self._options.excludes.match(found.path) or (found.name == _LEFT_OUT and not is_folder):
            return True
        if found.name.startswith(b".wh."):
            raise InputError(f"{self._named(found)}: a layer would take this name for a removal; rename or exclude it")
        if not stat.S_ISSOCK(found.was.st_mode):
            return False
        warning = f"{self._named(found)}: a socket, left out"
        if warning not in self.warnings:
            self.warnings.append(warning)
        return True

    def _member(self, found: _Found) -> Iterator[bytes]:
        was = found.was
        key = was.st_dev, was.st_ino
        if was.st_nlink > 1 and not stat.S_ISDIR(was.st_mode):
            first = self._links.setdefault(key, found.path)
            if first != found.path:
                yield render_member(self._describe(found, HARD_LINK, link=first, xattrs={}))
                return
        kind = _KINDS[stat.S_IFMT(was.st_mode)]
        if kind == REGULAR:
            yield from self._regular(found)
            return
        link = os.readlink(found.name, dir_fd=found.folder) if kind == SYMLINK else b""
        yield render_member(self._describe(found, kind, link=link, xattrs=self._handle_xattrs(found)))

    def _regular(self, found: _Found) -> Iterator[bytes]:
        fd = self._open(found, _OPEN_FILE)
        try:
            now = os.fstat(fd)
            if (now.st_dev, now.st_ino, now.st_size) != (found.was.st_dev, found.was.st_ino, found.was.st_size):
                raise self._changed(found.path)
            member = self._describe(found, REGULAR, size=now.st_size, xattrs=_xattrs(fd))
            pieces = find_data(fd, now.st_size)
            member.data = pieces
            yield render_member(member)
            yield from self._content(fd, found, pieces if pieces is not None else ((0, now.st_size),))
            yield padding(member)
        finally:
            os.close(fd)

    def _content(self, fd: int, found: _Found, pieces: tuple[Piece, ...]) -> Iterator[bytes]:
        for offset, length in pieces:
            end = offset + length
            while offset < end:
                data = os.pread(fd, min(READ, end - offset), offset)
                if not data:
                    raise self._changed(found.path)
                offset += len(data)
                yield data

    def _describe(
        self, found: _Found, kind: bytes, *, xattrs: dict[bytes, bytes], size: int = 0, link: bytes = b""
    ) -> TarMember:
        was = found.was
        uid, gid = self._options.owner or (was.st_uid, was.st_gid)
        device = (os.major(was.st_rdev), os.minor(was.st_rdev)) if kind in (b"3", b"4") else (0, 0)
        mode = 0o777 if kind == SYMLINK else stat.S_IMODE(was.st_mode)
        return TarMember(found.path, kind, link, size, mode, uid, gid, self._options.mtime * 10**9, device, xattrs)

    def _handle_xattrs(self, found: _Found) -> dict[bytes, bytes]:
        fd = self._open(found, _OPEN_HANDLE)
        try:
            return _xattrs(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    def _check_unchanged(self) -> None:
        """Walk again: whatever was added, removed, replaced or written to shows."""
        states = iter(self._states)
        for found in self._walk():
            if next(states, None) != _state(found):
                raise self._changed(found.path)
        if next(states, None) is not None:
            raise self._changed(b"")

    def _look(self, fd: int, name: bytes, path: bytes) -> os.stat_result:
        try:
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError as exc:
            raise self._changed(path) from exc

    def _open(self, found: _Found, flags: int) -> int:
        try:
            return os.open(found.name, flags, dir_fd=found.folder)
        except FileNotFoundError as exc:
            raise self._changed(found.path) from exc
        except OSError as exc:
            raise InputError(f"{self._named(found)}: cannot be read: {exc.strerror}") from exc

    def _changed(self, path: bytes) -> InputChanged:
        where = f"{self._root}: {shown((path,))}" if path else f"{self._root}: something in it"
        return InputChanged(f"{where} changed while it was packed; pack it again when nothing writes to it")

    def _named(self, found: _Found) -> str:
        return f"{self._root}: {shown((found.path,))}"


def _state(found: _Found) -> int:
    was = found.was
    is_folder = stat.S_ISDIR(was.st_mode)
    return hash(
        (found.path, was.st_ino, was.st_mode, 0 if is_folder else was.st_size, was.st_mtime_ns, was.st_ctime_ns)
    )


def _xattrs(where: int | str) -> dict[bytes, bytes]:
    names = (name for name in listed(where) if is_portable(os.fsencode(name)))
    return {os.fsencode(name): os.getxattr(where, name) for name in names}
