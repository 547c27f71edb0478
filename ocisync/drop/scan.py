"""Look at everything in a drop folder, opening nothing: there may be FIFOs, devices, links and half-written files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ocisync.drop.naming import is_temporary
from ocisync.drop.rule import DropRule
from ocisync.errors import DiskError

MAX_ENTRIES = 50_000  # per look; what is beyond is found once some of these are gone
MAX_DEPTH = 32  # folders
DELETING = ".ocisync-deleting-"  # prefix of what was being deleted when the process ended


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file does."""

    size: int  # bytes
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A file, or the folder of an OCI layout."""

    relative: str
    path: str
    stamp: Stamp
    changed: float  # seconds since the epoch: when it was last written to or renamed
    is_folder: bool = False


@dataclass(slots=True)
class Scan:
    """One look at a folder."""

    entries: list[FolderEntry] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # path -> why
    leftovers: list[str] = field(default_factory=list)  # paths of interrupted deletions
    is_missing: bool = False


def scan(rule: DropRule) -> Scan:
    """Look at the folder, links never followed. It blocks: call it in a thread.

    Raises:
        DiskError: the folder is there and cannot be read.
    """
    found = Scan()
    own = {identity for folder in (rule.done_path, rule.failed_path) if (identity := _identity(folder))}
    pending = [("", str(rule.path), 0)]
    while pending and len(found.entries) < MAX_ENTRIES:
        relative, path, depth = pending.pop()
        try:
            children = _list_children(path, found)
        except OSError as exc:
            _note_unreadable(relative, rule, found, exc)
            continue
        if relative and any(child.name == "oci-layout" for child in children):
            _add(found, relative, partial(layout_entry, path, relative))
            continue
        pending.extend(_sort_children(children, relative, depth, own, found))
    if pending:
        found.skipped[str(rule.path)] = f"more than {MAX_ENTRIES} files; take some away, or use `done: move`"
    found.entries.sort(key=lambda entry: entry.relative)
    return found


def file_entry(path: str, relative: str) -> FolderEntry:
    """A file as it is now; raises OSError, also when it is no regular file."""
    now = os.lstat(path)
    if not stat.S_ISREG(now.st_mode):
        raise OSError(f"{_name_kind(now.st_mode)}, not a file")
    return FolderEntry(relative, path, Stamp(now.st_size, now.st_mtime_ns, now.st_ino), max(now.st_ctime, now.st_mtime))


def layout_entry(path: str, relative: str) -> FolderEntry:
    """An OCI layout's folder as it is now: the sum of its files; raises OSError."""
    files = [file_entry(file, file) for file in layout_files(path)]
    size = sum(file.stamp.size for file in files)
    newest = max((file.stamp.mtime_ns for file in files), default=0)
    changed = max((file.changed for file in files), default=0.0)
    return FolderEntry(relative, path, Stamp(size, newest, os.lstat(path).st_ino), changed, is_folder=True)


def current(entry: FolderEntry) -> FolderEntry:
    """The same file or folder as it is now; raises OSError."""
    return (layout_entry if entry.is_folder else file_entry)(entry.path, entry.relative)


def layout_files(path: str) -> Iterator[str]:
    """The regular files of an OCI layout, in order."""
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            file = f"{folder}/{name}"
            if stat.S_ISREG(os.lstat(file).st_mode):
                yield file


def _list_children(path: str, found: Scan) -> list[os.DirEntry[str]]:
    children = []
    with os.scandir(path) as listing:
        for child in listing:
            if child.name.startswith(DELETING):
                found.leftovers.append(child.path)
            elif not is_temporary(child.name):
                children.append(child)
            if len(children) > MAX_ENTRIES:
                break
    return sorted(children, key=lambda child: child.name, reverse=True)


def _sort_children(
    children: list[os.DirEntry[str]], parent: str, depth: int, own: set[tuple[int, int]], found: Scan
) -> Iterator[tuple[str, str, int]]:
    for child in children:
        relative = f"{parent}/{child.name}" if parent else child.name
        reason = _find_oddity(child.name) or (depth >= MAX_DEPTH and f"more than {MAX_DEPTH} folders deep") or ""
        if reason:
            found.skipped[relative] = reason
        elif not child.is_dir(follow_symlinks=False):
            _add(found, relative, partial(_check_readable, child.path, relative))
        elif _identity(Path(child.path)) not in own:
            yield relative, child.path, depth + 1


def _check_readable(path: str, relative: str) -> FolderEntry:
    entry = file_entry(path, relative)
    if not os.access(path, os.R_OK):
        raise PermissionError("it cannot be read by this user")
    return entry


def _add(found: Scan, relative: str, look: Callable[[], FolderEntry]) -> None:
    try:
        found.entries.append(look())
    except FileNotFoundError:
        return  # taken away meanwhile
    except OSError as exc:
        found.skipped[relative] = exc.strerror or str(exc)


def _note_unreadable(relative: str, rule: DropRule, found: Scan, exc: OSError) -> None:
    if relative:
        found.skipped[relative] = exc.strerror or str(exc)
    elif isinstance(exc, FileNotFoundError):
        found.is_missing = True
    else:
        raise DiskError(f"{rule.path}: the drop folder of rule {rule.name} cannot be read: {exc.strerror}") from exc


def _find_oddity(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return "" if name.isprintable() else "its name has control characters"


def _name_kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
