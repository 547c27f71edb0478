"""Move and delete dropped files without losing another: none is overwritten, and none that was not read is taken.

Everything here blocks; call it in a thread. Errors are OSErrors, or InputChanged when the name leads to another file.
"""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from pathlib import Path

from ocisync.content.failpoints import failpoint
from ocisync.drop.scan import DELETING, FolderEntry, current
from ocisync.errors import InputChanged

MAX_SUFFIX = 10_000


def reserve(entry: FolderEntry, folder: Path) -> Path:
    """A path for the entry below the folder, made as an empty file or folder that is ours to replace.

    An equal or empty file found there is replaced, so that a move that was interrupted ends as it would have.
    """
    wanted = folder / entry.relative
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, MAX_SUFFIX):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}.{number}")
        if _create_empty(path, is_folder=entry.is_folder) or _is_replaceable(path, entry):
            return path
    raise FileExistsError(errno.EEXIST, "too many files of this name", str(wanted))


def move(entry: FolderEntry, to: Path) -> None:
    """Move to a reserved path.

    Raises:
        InputChanged: another file has taken the entry's place; it stays where it is.
    """
    failpoint("archive.move")
    try:
        Path(entry.path).rename(to)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            _release(to)
            raise
        _copy(entry, to)
        delete(entry)
    else:
        _check(entry, to)
    failpoint("archive.move")


def delete(entry: FolderEntry) -> None:
    """Delete; raises as `move` does."""
    path = Path(entry.path)
    aside = path.with_name(f"{DELETING}{path.name}")
    failpoint("archive.move")
    path.rename(aside)
    _check(entry, aside)
    failpoint("archive.move")
    if entry.is_folder:
        shutil.rmtree(aside)
    else:
        aside.unlink()


def restore(leftover: Path) -> None:
    """Give a file that was about to be deleted when the process ended its name again, if that is free."""
    back = leftover.with_name(leftover.name.removeprefix(DELETING))
    if not os.path.lexists(back):
        leftover.rename(back)


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _create_empty(path: Path, *, is_folder: bool) -> bool:
    try:
        if is_folder:
            path.mkdir()
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    except FileExistsError:
        return False
    return True


def _is_replaceable(path: Path, entry: FolderEntry) -> bool:
    if path.is_symlink() or path.is_dir() != entry.is_folder:
        return False
    if entry.is_folder:
        return not any(path.iterdir())
    size = path.stat().st_size
    return path.is_file() and (size == 0 or (size == entry.stamp.size and filecmp.cmp(path, entry.path, shallow=False)))


def _release(reserved: Path) -> None:
    if reserved.is_dir():
        reserved.rmdir()
    elif reserved.stat().st_size == 0:
        reserved.unlink()


def _check(entry: FolderEntry, at: Path) -> None:
    now = current(FolderEntry(entry.relative, str(at), entry.stamp, 0.0, entry.is_folder))
    if now.stamp == entry.stamp:
        return
    if not os.path.lexists(entry.path):
        at.rename(entry.path)
    raise InputChanged(f"{entry.path}: another file took its place after it was read; it is left alone and read again")


def _copy(entry: FolderEntry, to: Path) -> None:
    part = to.with_name(f".{to.name}.part")
    if entry.is_folder:
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(entry.path, part, symlinks=True)
    else:
        shutil.copy2(entry.path, part, follow_symlinks=False)
        _sync(part)
    part.rename(to)
    _sync(to.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
