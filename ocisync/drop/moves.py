"""Move and delete dropped files without losing another: none is overwritten, and none that was not read is taken.

Whoever may drop files can swap names at any moment. So every name is used from an open folder, whose descriptor was
reached from its root without following a link; and after each renaming it is checked that the file that was moved is
the one that was read.

Everything here blocks; call it in a thread. Errors are OSErrors, or InputChanged when the name leads to another file.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ocisync.content.failpoints import failpoint
from ocisync.content.files import FOLDER_MODE, open_folder_beneath
from ocisync.content.own_folders import CREATE
from ocisync.drop.scan import DELETING, FolderEntry, entry_at
from ocisync.errors import InputChanged

MAX_SUFFIX = 10_000
_MAX_NAME = 255  # bytes, on every common file system
_CHUNK = 1 << 20  # bytes
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@contextmanager
def open_parent(entry: FolderEntry) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder in which an entry lies, and its name there."""
    *folders, name = entry.relative.split("/")
    with open_folder_beneath(entry.root, folders) as folder:
        yield folder, name


@contextmanager
def open_child(folder: int, name: str) -> Iterator[int]:
    """A descriptor of a folder in an open folder; a link is not followed."""
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def reserve(entry: FolderEntry, folder: int) -> str:
    """A name for the entry in an open folder, made as an empty file or folder that is ours to replace.

    An equal or empty file found there is replaced, so that a move that was interrupted ends as it would have.
    """
    wanted = entry.relative.rpartition("/")[2]
    for number in range(1, MAX_SUFFIX):
        name = wanted if number == 1 else fit_name(wanted, f".{number}")
        if _create_empty(folder, name, is_folder=entry.is_folder) or _is_replaceable(folder, name, entry):
            return name
    raise FileExistsError(errno.EEXIST, "too many files of this name", wanted)


def move(entry: FolderEntry, folder: int, to: str) -> None:
    """Move to a reserved name in an open folder.

    Raises:
        InputChanged: another file has taken the entry's place; it stays where it is.
    """
    failpoint("archive.move")
    with open_parent(entry) as (parent, name):
        try:
            os.rename(name, to, src_dir_fd=parent, dst_dir_fd=folder)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                _release(folder, to, is_folder=entry.is_folder)
                raise
            _copy(entry, parent, name, folder, to)
            delete(entry)
        else:
            _check(entry, parent, name, folder, to)
    failpoint("archive.move")


def delete(entry: FolderEntry) -> None:
    """Delete; raises as `move` does."""
    with open_parent(entry) as (folder, name):
        aside = fit_name(name, prefix=DELETING)
        failpoint("archive.move")
        os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
        _check(entry, folder, name, folder, aside)
        failpoint("archive.move")
        remove(folder, aside)


def remove(folder: int, name: str) -> None:
    """Delete a file, a link, or a folder with all below it, from an open folder."""
    try:
        os.unlink(name, dir_fd=folder)
    except (IsADirectoryError, PermissionError):  # POSIX lets systems say either of a folder
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise
        shutil.rmtree(name, dir_fd=folder)


def restore(root: Path, leftover: str) -> None:
    """Give a file that was about to be deleted when the process ended its name again, if that is free.

    A leftover with no name of its own is nothing of ours, and stays. Raises OSError.
    """
    *folders, name = leftover.split("/")
    back = name.removeprefix(DELETING)
    if back in ("", ".", ".."):
        return
    with open_folder_beneath(root, folders) as folder:
        if not exists(folder, back):
            os.rename(name, back, src_dir_fd=folder, dst_dir_fd=folder)


def read_small_file(folder: int, name: str) -> str:
    """The first 64 KiB of a text in an open folder."""
    with _open(folder, name) as descriptor:
        return os.read(descriptor, 1 << 16).decode(errors="replace")


def fit_name(name: str, suffix: str = "", *, prefix: str = "") -> str:
    """The name with what goes before and after it, cut at its front where a file system could not hold it."""
    room = _MAX_NAME - len(os.fsencode(prefix + suffix))
    kept = os.fsencode(name)[-room:].decode(errors="ignore")
    return f"{prefix}{kept}{suffix}"


def list_names(folder: int) -> list[str]:
    """What lies in an open folder."""
    return os.listdir(folder)


def exists(folder: int, name: str) -> bool:
    """Whether an open folder has a file, a link or anything else of this name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _create_empty(folder: int, name: str, *, is_folder: bool) -> bool:
    try:
        if is_folder:
            os.mkdir(name, FOLDER_MODE, dir_fd=folder)
        else:
            os.close(os.open(name, CREATE, 0o644, dir_fd=folder))
    except FileExistsError:
        return False
    return True


def _is_replaceable(folder: int, name: str, entry: FolderEntry) -> bool:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if entry.is_folder:
        return stat.S_ISDIR(found.st_mode) and _is_empty_folder(folder, name)
    if not stat.S_ISREG(found.st_mode):
        return False
    return found.st_size == 0 or (found.st_size == entry.stamp.size and _holds_the_same(folder, name, entry))


def _is_empty_folder(folder: int, name: str) -> bool:
    with open_child(folder, name) as child:
        return not list_names(child)


def _holds_the_same(folder: int, name: str, entry: FolderEntry) -> bool:
    with open_parent(entry) as (parent, own), _open(parent, own) as first, _open(folder, name) as second:
        while data := os.read(first, _CHUNK):
            if data != os.read(second, len(data)):
                return False
        return not os.read(second, 1)


@contextmanager
def _open(folder: int, name: str) -> Iterator[int]:
    descriptor = os.open(name, _READ, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _release(folder: int, name: str, *, is_folder: bool) -> None:
    """Take back what `reserve` made."""
    if is_folder:
        os.rmdir(name, dir_fd=folder)
    elif os.stat(name, dir_fd=folder, follow_symlinks=False).st_size == 0:
        os.unlink(name, dir_fd=folder)


def _check(entry: FolderEntry, parent: int, name: str, folder: int, moved: str) -> None:
    """Look whether what was renamed is what was read; else give it its name back, if that is free.

    A renaming changes the time of change, so that is not compared.
    """
    try:
        now = entry_at(folder, moved, entry)
    except OSError:
        now = None
    if now is not None and now.identity == entry.identity and _content_stamp(now) == _content_stamp(entry):
        return
    if not exists(parent, name):
        os.rename(moved, name, src_dir_fd=folder, dst_dir_fd=parent)
    raise InputChanged(f"{entry.path}: another file took its place after it was read; it is left alone and read again")


def _content_stamp(entry: FolderEntry) -> tuple[int, int]:
    return entry.stamp.size, entry.stamp.mtime_ns


def _copy(entry: FolderEntry, parent: int, name: str, folder: int, to: str) -> None:
    """Copy to another file system, to a name that is not visible until all is there."""
    part = f".ocisync-{secrets.token_hex(8)}.part"
    try:
        (_copy_folder if entry.is_folder else _copy_file)(parent, name, folder, part)
        os.rename(part, to, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        if exists(folder, part):
            remove(folder, part)
        raise
    os.fsync(folder)


def _copy_file(parent: int, name: str, folder: int, to: str) -> None:
    with _open(parent, name) as source:
        found = os.fstat(source)
        target = os.open(to, CREATE, stat.S_IMODE(found.st_mode) & 0o777, dir_fd=folder)
        try:
            while data := os.read(source, _CHUNK):
                while data:
                    data = data[os.write(target, data) :]
            os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
            os.fsync(target)
        finally:
            os.close(target)


def _copy_folder(parent: int, name: str, folder: int, to: str) -> None:
    """Files and folders are copied, links as links; other things are no part of a layout."""
    os.mkdir(to, FOLDER_MODE, dir_fd=folder)
    with open_child(parent, name) as source, open_child(folder, to) as target:
        for child in list_names(source):
            mode = os.stat(child, dir_fd=source, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                _copy_folder(source, child, target, child)
            elif stat.S_ISREG(mode):
                _copy_file(source, child, target, child)
            elif stat.S_ISLNK(mode):
                os.symlink(os.readlink(child, dir_fd=source), child, dir_fd=target)
