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
from ocisync.images.unpack.path_resolver import Parts, ResolvedPath, clean_name, quote
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

    A folder without write permission could not be filled, and each new entry would change its time again. A whiteout
    removes what lower layers put there, never what its own layer has made, whatever the order of the members.

    Raises (while layers are applied):
        ArchiveError: a member that cannot be applied, or that would leave the folder.
        LimitExceeded: too deep, too long, too large.
        DiskError: the operating system refused.
    """

    def __init__(self, root: int, attributes: Attributes) -> None:
        self._root = root
        self._attributes = attributes
        self._tree = SafeRoot(root, self._reset_folder)
        self._folders: dict[int, tuple[int, int]] = {}  # inode: mode, time in nanoseconds
        self._made: set[tuple[int, bytes]] = set()  # what this layer has put where: the folder's inode, the name
        self._cleared: set[tuple[int, bytes]] = (
            set()
        )  # of what this layer's whiteouts have taken the lower layers' parts

    def apply(self, layer: TarStream) -> Steps:
        """Apply one layer; a generator for `run_steps`."""
        self._made.clear()
        self._cleared.clear()
        for number, member in enumerate(layer, 1):
            try:
                yield from self._apply(member, layer)
            except OSError as exc:
                raise DiskError(f"{_quote(member)}: cannot be made: {exc.strerror}", errno=exc.errno) from exc
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
            self._apply_whiteout(parts)
        elif not parts:
            self._set_root_attributes(member)
        elif member.kind == FOLDER:
            self._make_folder(member, parts)
        elif member.kind == HARD_LINK:
            self._make_hard_link(member, parts)
        else:
            yield from self._make_file(member, parts, layer)

    def _apply_whiteout(self, parts: Parts) -> None:
        if any(part.startswith(_AUFS) for part in parts):
            path = self._tree.resolve(parts, create=False) if parts[-1] == _OPAQUE else None
            if path is not None and self._is_first((path.inode, b"")):
                self._tree.clear(path.folder, self._is_made)
            return
        target = parts[-1].removeprefix(_WHITEOUT)
        if target == parts[-1] or target in (b"", b".", b".."):
            raise ArchiveError(f"{quote(parts)}: a whiteout of nothing, or of a folder's own or upper entry: refused")
        path = self._tree.resolve((*parts[:-1], target), create=False)
        if path is not None and self._is_first((path.inode, path.name)):
            self._tree.remove(path, self._is_made)

    def _is_first(self, place: tuple[int, bytes]) -> bool:
        """Whether a whiteout has something to do: the same one again would find this layer's own things only.

        A layer of 8,000 files and 8,000 opaque whiteouts over them is small, and would be read 64 million times.
        """
        is_first = place not in self._cleared
        self._cleared.add(place)
        return is_first

    def _set_root_attributes(self, member: TarMember) -> None:
        if member.kind != FOLDER:
            raise ArchiveError("a member of the layer would replace the root folder itself")
        self._set_folder_attributes(self._root, member)

    def _make_folder(self, member: TarMember, parts: Parts) -> None:
        path = self._resolve(parts)
        found = path.stat()
        if found is not None and stat.S_ISDIR(found.st_mode):
            fd = self._tree.open_folder(path)
        else:
            self._tree.remove(path, self._forget_made)
            fd = self._tree.make_folder(path)
        try:
            self._set_folder_attributes(fd, member)
        finally:
            os.close(fd)
        self._made.add((path.inode, path.name))

    def _set_folder_attributes(self, fd: int, member: TarMember) -> None:
        self._attributes.strip(fd)
        self._attributes.apply(fd, member)
        self._folders[os.fstat(fd).st_ino] = (self._attributes.choose_mode(member), member.mtime)

    def _make_hard_link(self, member: TarMember, parts: Parts) -> None:
        target = clean_name(member.link)
        source = self._tree.resolve(target, create=False) if target else None
        found = source.stat() if source else None
        if source is None or found is None:
            raise ArchiveError(f"{quote(parts)}: a hard link to {quote(target)}, which is not there")
        if stat.S_ISDIR(found.st_mode):
            raise ArchiveError(f"{quote(parts)}: a hard link to the folder {quote(target)}")
        folder = os.dup(source.folder)
        try:
            path = self._resolve(parts)
            there = path.stat()
            if there is None or there.st_ino != found.st_ino:
                self._tree.remove(path, self._forget_made)
                os.link(source.name, path.name, src_dir_fd=folder, dst_dir_fd=path.folder, follow_symlinks=False)
        finally:
            os.close(folder)
        self._made.add((path.inode, path.name))

    def _make_file(self, member: TarMember, parts: Parts, layer: TarStream) -> Steps:
        path = self._resolve(parts)
        self._tree.remove(path, self._forget_made)
        if member.kind == REGULAR:
            yield from self._write_regular(path, member, layer)
        elif member.kind == SYMLINK:
            os.symlink(member.link, path.name, dir_fd=path.folder)
            self._set_attributes(path, member)
        else:
            self._make_special(path, member)
        self._made.add((path.inode, path.name))

    def _write_regular(self, path: ResolvedPath, member: TarMember, layer: TarStream) -> Steps:
        if member.size > MAX_FILE:
            raise LimitExceeded(f"{_quote(member)}: a file of {member.size} bytes; at most {MAX_FILE} are accepted")
        fd = self._tree.make_file(path)
        try:
            yield from _write(fd, member, layer)
            self._attributes.apply(fd, member)
            os.fchmod(fd, self._attributes.choose_mode(member))
            os.utime(fd, ns=(member.mtime, member.mtime))
        finally:
            os.close(fd)

    def _make_special(self, path: ResolvedPath, member: TarMember) -> None:
        if member.kind == _FIFO:
            os.mkfifo(path.name, 0o600, dir_fd=path.folder)
        elif member.kind not in _DEVICES:
            raise ArchiveError(f"{_quote(member)}: a member of type {member.kind!r}, which no layer may hold")
        elif not self._attributes.make_device(path, _DEVICES[member.kind], member):
            os.close(self._tree.make_file(path))
        self._set_attributes(path, member)

    def _set_attributes(self, path: ResolvedPath, member: TarMember) -> None:
        """Owner, attributes and time of what cannot be opened; a link itself, never what it leads to."""
        fd = self._tree.open_handle(path)
        try:
            self._attributes.apply_to_handle(fd, member)
        finally:
            os.close(fd)
        os.utime(path.name, ns=(member.mtime, member.mtime), dir_fd=path.folder, follow_symlinks=False)

    def _resolve(self, parts: Parts) -> ResolvedPath:
        path = self._tree.resolve(parts, create=True)
        if path is None:
            raise ArchiveError(f"{quote(parts)}: a folder in it cannot be made")
        return path

    def _reset_folder(self, fd: int) -> None:
        """A folder that was made, or lost what it had: as if no layer had described it."""
        self._attributes.strip(fd)
        self._folders[os.fstat(fd).st_ino] = _NEW_FOLDER

    def _finish_folder(self, fd: int, inode: int) -> None:
        mode, mtime = self._folders.get(inode, _NEW_FOLDER)
        os.fchmod(fd, mode)
        os.utime(fd, ns=(mtime, mtime))

    def _is_made(self, inode: int, name: bytes) -> bool:
        return (inode, name) in self._made

    def _forget_made(self, inode: int, name: bytes) -> bool:
        self._made.discard((inode, name))
        return False


def _write(fd: int, member: TarMember, layer: TarStream) -> Steps:
    """The content, with its holes."""
    if member.data is not None:
        os.ftruncate(fd, member.size)
    chunks = layer.read_content()
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


def _quote(member: TarMember) -> str:
    return quote((member.name,))
