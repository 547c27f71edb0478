"""Keys as paths below a root folder, walked by descriptors so that no link and no `..` can lead out of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ocisync.errors import DiskError, Handling, InvalidName, StoreError
from ocisync.stores.static.layout import PRIVATE

FILE_MODE, FOLDER_MODE = 0o644, 0o755
_MAX_COMPONENT = 255  # bytes, on every common file system
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}
_NOT_A_FOLDER = {errno.ELOOP, errno.ENOTDIR}


def split_key(key: str) -> tuple[tuple[str, ...], str]:
    """The folders and the file name of a key; a key that ends in `/` is stored as its `index.html`.

    Raises:
        InvalidName: the key could leave the root, or names ocisync's own folder.
    """
    *folders, name = (key + "index.html" if key.endswith("/") else key).split("/")
    if not all(_is_plain(part) for part in (*folders, name)) or key.startswith(PRIVATE):
        raise InvalidName(f"{key[:200]!r} cannot be a file below the registry's folder")
    return tuple(folders), name


def _is_plain(part: str) -> bool:
    return part not in ("", ".", "..") and "\0" not in part and len(os.fsencode(part)) <= _MAX_COMPONENT


@contextmanager
def open_folder(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """A descriptor of an existing folder below the root.

    Raises:
        FileNotFoundError: there is none.
    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            fd = _enter(fd, part)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def make_folders(root: Path, parts: tuple[str, ...], *, fsync: bool) -> Iterator[int]:
    """A descriptor of a folder below the root that is made, with its parents, when it is not there."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            made = make_folder(fd, part)
            if made and fsync:
                os.fsync(fd)
            fd = _enter(fd, part)
            if made:
                os.fchmod(fd, FOLDER_MODE)
        yield fd
    finally:
        os.close(fd)


def make_folder(parent: int, name: str) -> bool:
    """Whether the folder had to be made."""
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=parent)
    except FileExistsError:
        return False
    return True


def _enter(fd: int, part: str) -> int:
    inner = os.open(part, _OPEN_FOLDER, dir_fd=fd)
    os.close(fd)
    return inner


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the system says into errors that name the path and what to do.

    FileNotFoundError and FileExistsError pass: they are answers, not failures.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as exc:
        raise _explain(exc, path) from exc


def _explain(exc: OSError, path: Path) -> StoreError:
    if exc.errno in _FULL:
        return DiskError(
            f"{path}: the disk is full, or a quota is used up: free some space; nothing half-written was left behind",
            path=str(path), full=True,
        )  # fmt: skip
    if exc.errno in _NOT_A_FOLDER:
        return StoreError(
            f"{path}: a symbolic link or a file stands where the registry needs a folder of its own: move it away",
            handling=Handling.FAIL, path=str(path),
        )  # fmt: skip
    if exc.errno in _NO_DESCRIPTORS:
        return StoreError(
            f"{path}: too many open files: raise the limit (ulimit -n, or LimitNOFILE= in the unit)",
            code="limit.files", path=str(path),
        )  # fmt: skip
    if exc.errno == errno.EROFS:
        return DiskError(f"{path}: the file system is read-only: mount it writable", path=str(path))
    if isinstance(exc, PermissionError):
        return DiskError(f"{path}: permission denied: let ocisync's user write there", path=str(path))
    return DiskError(f"{path}: {exc.strerror or exc}: check the disk and the system's log", path=str(path))
