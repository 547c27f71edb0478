"""Layers applied to a tree, one after the other: whiteouts, replaced types, links, permissions, attributes.

Spec: image-spec v1.1, layer.md, "Applying Changesets". Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator

from ocisync.content.tar.headers import FOLDER, HARD_LINK, REGULAR, SYMLINK
from ocisync.content.tar.member import TarMember
from ocisync.content.tar.stream import TarStream
from ocisync.errors import ArchiveError, DiskError, LimitExceeded
from ocisync.images.unpack.attributes import Attributes
from ocisync.images.unpack.path_resolver import Parts, ResolvedPath, clean_name, shown
from ocisync.images.unpack.safe_root import SafeRoot, finish_folders

MAX_FILE = 1 << 40  # bytes of one file, holes included
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."  # its own files, which docker leaves out too
_DEVICES = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK}
_FIFO = b"6"
_MEMBERS_PER_STEP = 200
_BYTES_PER_STEP = 8 * 1024 * 1024
_NEW_FOLDER = (0o755, 0)  # mode and time of folders that no layer describes

Steps = Generator[None, None, None]


class LayerApplier:
    """A tree that grows by layers; folders get their modes and times at the end.

    Raises (while layers are applied):
        ArchiveError: a member that cannot be applied, or that would leave the folder.
        LimitExceeded: too deep, too long, too large.
        DiskError: the operating system refused.
    """

    def __init__(self, root: int, attributes: Attributes) -> None:
        self._root = root
        self._attributes = attributes
        self._tree = SafeRoot(root, self._new_folder)
        self._folders: dict[int, tuple[int, int]] = {}  # inode: mode, time in nanoseconds
        self._made: set[tuple[int, bytes]] = set()  # what this layer has put where: the folder's inode, the name

    def apply(self, layer: TarStream) -> Steps:
        """Apply one layer; a generator for `run_steps`."""
        self._made.clear()
        for number, member in enumerate(layer, 1):
            try:
                yield from self._apply(member, layer)
            except OSError as exc:
                raise DiskError(f"{_named(member)}: cannot be made: {exc.strerror}", errno=exc.errno) from exc
            if number % _MEMBERS_PER_STEP == 0:
                yield
        yield from layer.drain()

    def finish(self) -> Steps:
        """Give all folders their modes and times; a generator for `run_steps`."""
        yield from finish_folders(self._root, self._finish_folder)

    def close(self) -> None:
        """Give the descriptors back."""
        self._tree.close()

    def _apply(self, member: TarMember, layer: TarStream) -> Steps:
        parts = clean_name(member.name)
        if any(part.startswith(_WHITEOUT) for part in parts):
            self._whiteout(parts)
        elif not parts:
            self._describe_root(member)
        elif member.kind == FOLDER:
            self._folder(member, parts)
        elif member.kind == HARD_LINK:
            self._hard_link(member, parts)
        else:
            yield from self._file(member, parts, layer)

    def _whiteout(self, parts: Parts) -> None:
        if any(part.startswith(_AUFS) for part in parts):
            if parts[-1] == _OPAQUE and (place := self._tree.place(parts, create=False)):
                self._tree.clear(place.folder, self._is_made)
            return
        target = parts[-1].removeprefix(_WHITEOUT)
        if target == parts[-1] or target in (b"", b".", b".."):
            raise ArchiveError(f"{shown(parts)}: a whiteout of nothing, or of a folder's own or upper entry: refused")
        place = self._tree.place((*parts[:-1], target), create=False)
        if place is not None:
            self._tree.remove(place, self._is_made)

    def _describe_root(self, member: TarMember) -> None:
        if member.kind != FOLDER:
            raise ArchiveError("a member of the layer would replace the root folder itself")
        self._describe_folder(self._root, member)

    def _folder(self, member: TarMember, parts: Parts) -> None:
        place = self._place(parts)
        found = place.look()
        if found is not None and stat.S_ISDIR(found.st_mode):
            fd = self._tree.open_folder(place)
        else:
            self._tree.remove(place, self._unmade)
            fd = self._tree.make_folder(place)
        try:
            self._describe_folder(fd, member)
        finally:
            os.close(fd)
        self._made.add((place.inode, place.name))

    def _describe_folder(self, fd: int, member: TarMember) -> None:
        self._attributes.strip(fd)
        self._attributes.describe(fd, member)
        self._folders[os.fstat(fd).st_ino] = (self._attributes.mode(member), member.mtime)

    def _hard_link(self, member: TarMember, parts: Parts) -> None:
        target = clean_name(member.link)
        source = self._tree.place(target, create=False) if target else None
        found = source.look() if source else None
        if source is None or found is None:
            raise ArchiveError(f"{shown(parts)}: a hard link to {shown(target)}, which is not there")
        if stat.S_ISDIR(found.st_mode):
            raise ArchiveError(f"{shown(parts)}: a hard link to the folder {shown(target)}")
        folder = os.dup(source.folder)
        try:
            place = self._place(parts)
            there = place.look()
            if there is None or there.st_ino != found.st_ino:
                self._tree.remove(place, self._unmade)
                os.link(source.name, place.name, src_dir_fd=folder, dst_dir_fd=place.folder, follow_symlinks=False)
        finally:
            os.close(folder)
        self._made.add((place.inode, place.name))

    def _file(self, member: TarMember, parts: Parts, layer: TarStream) -> Steps:
        place = self._place(parts)
        self._tree.remove(place, self._unmade)
        if member.kind == REGULAR:
            yield from self._regular(place, member, layer)
        elif member.kind == SYMLINK:
            os.symlink(member.link, place.name, dir_fd=place.folder)
            self._describe(place, member)
        else:
            self._special(place, member)
        self._made.add((place.inode, place.name))

    def _regular(self, place: ResolvedPath, member: TarMember, layer: TarStream) -> Steps:
        if member.size > MAX_FILE:
            raise LimitExceeded(f"{_named(member)}: a file of {member.size} bytes; at most {MAX_FILE} are accepted")
        fd = self._tree.make_file(place)
        try:
            yield from _write(fd, member, layer)
            self._attributes.describe(fd, member)
            os.fchmod(fd, self._attributes.mode(member))
            os.utime(fd, ns=(member.mtime, member.mtime))
        finally:
            os.close(fd)

    def _special(self, place: ResolvedPath, member: TarMember) -> None:
        if member.kind == _FIFO:
            os.mkfifo(place.name, 0o600, dir_fd=place.folder)
        elif member.kind not in _DEVICES:
            raise ArchiveError(f"{_named(member)}: a member of type {member.kind!r}, which no layer may hold")
        elif not self._attributes.make_device(place, _DEVICES[member.kind], member):
            os.close(self._tree.make_file(place))
        self._describe(place, member)

    def _describe(self, place: ResolvedPath, member: TarMember) -> None:
        """Owner, attributes and time of what cannot be opened; a link itself, never what it leads to."""
        fd = self._tree.handle(place)
        try:
            self._attributes.describe_handle(fd, member)
        finally:
            os.close(fd)
        os.utime(place.name, ns=(member.mtime, member.mtime), dir_fd=place.folder, follow_symlinks=False)

    def _place(self, parts: Parts) -> ResolvedPath:
        place = self._tree.place(parts, create=True)
        if place is None:
            raise ArchiveError(f"{shown(parts)}: a folder in it cannot be made")
        return place

    def _new_folder(self, fd: int) -> None:
        """A folder that was made, or lost what it had: as if no layer had described it."""
        self._attributes.strip(fd)
        self._folders[os.fstat(fd).st_ino] = _NEW_FOLDER

    def _finish_folder(self, fd: int, inode: int) -> None:
        mode, mtime = self._folders.get(inode, _NEW_FOLDER)
        os.fchmod(fd, mode)
        os.utime(fd, ns=(mtime, mtime))

    def _is_made(self, inode: int, name: bytes) -> bool:
        return (inode, name) in self._made

    def _unmade(self, inode: int, name: bytes) -> bool:
        self._made.discard((inode, name))
        return False


def _write(fd: int, member: TarMember, layer: TarStream) -> Steps:
    """The content, with its holes."""
    if member.data is not None:
        os.ftruncate(fd, member.size)
    chunks = layer.content()
    held = memoryview(b"")
    due = _BYTES_PER_STEP
    for offset, length in member.data if member.data is not None else ((0, member.size),):
        end = offset + length
        while offset < end:
            held = held or memoryview(next(chunks))
            written = os.pwrite(fd, held[: end - offset], offset)
            held = held[written:]
            offset += written
            due -= written
            if due <= 0:
                due = _BYTES_PER_STEP
                yield


def _named(member: TarMember) -> str:
    return shown((member.name,))
