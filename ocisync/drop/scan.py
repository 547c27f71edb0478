"""Look at everything in a drop folder, opening no file: there may be FIFOs, devices, links and half-written files.

Folders are opened from the drop folder's descriptor on, part by part, and no link is followed: whoever may drop files
must not have other folders looked at.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ocisync.content.files import open_folder_beneath
from ocisync.drop.naming import is_image_folder, is_temporary
from ocisync.drop.rule import DropRule
from ocisync.errors import DiskError

MAX_ENTRIES = 50_000  # per look; what is beyond is found once some of these are gone
MAX_DEPTH = 32  # folders
DELETING = ".ocisync-deleting-"  # prefix of what was being deleted when the process ended


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file does.

    The time of change (ctime) is the one that no writer can set: `cp -p` and reproducible builds leave size and mtime
    as they were when a file is written anew.
    """

    size: int  # bytes
    mtime_ns: int
    inode: int
    ctime_ns: int = 0


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A file, or the folder of an OCI layout."""

    relative: str
    path: str
    stamp: Stamp
    changed: float  # seconds since the epoch: when it was last written to or renamed
    is_folder: bool = False
    device: int = 0

    @property
    def root(self) -> Path:
        """The drop folder."""
        return Path(self.path[: -len(self.relative)])

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode: the file itself, whatever its name."""
        return self.device, self.stamp.inode


@dataclass(slots=True)
class Scan:
    """One look at a folder."""

    entries: list[FolderEntry] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # path -> why
    leftovers: list[str] = field(default_factory=list)  # relative paths of interrupted deletions
    is_missing: bool = False


def scan(rule: DropRule) -> Scan:
    """Look at the folder, links never followed. It blocks: call it in a thread.

    Raises:
        DiskError: the folder is there and cannot be read.
    """
    found = Scan()
    own = {identity for folder in (rule.done_path, rule.failed_path) if (identity := _identify(folder))}
    pending: list[tuple[str, ...]] = [()]
    while pending and len(found.entries) < MAX_ENTRIES:
        parts = pending.pop()
        relative = "/".join(parts)
        try:
            with open_folder_beneath(rule.path, parts) as folder:
                children = _list_children(folder, relative, found)
                if relative and is_image_folder(child.name for child in children):
                    _add(found, relative, partial(_layout_entry, folder, f"{rule.path}/{relative}", relative))
                else:
                    pending.extend(_sort_children(children, folder, rule.path, parts, own, found))
        except OSError as exc:
            _note_unreadable(relative, rule, found, exc)
    if pending:
        found.skipped[str(rule.path)] = f"more than {MAX_ENTRIES} files; take some away, or use `done: move`"
    found.entries.sort(key=lambda entry: entry.relative)
    return found


def current(entry: FolderEntry) -> FolderEntry:
    """The same file or folder as it is now; raises OSError."""
    *folders, name = entry.relative.split("/")
    with open_folder_beneath(entry.root, folders) as folder:
        return entry_at(folder, name, entry)


def entry_at(folder: int, name: str, entry: FolderEntry) -> FolderEntry:
    """What lies under a name in an open folder, as `entry` would be if it were that; raises OSError."""
    if not entry.is_folder:
        now = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return _file_entry(now, entry.path, entry.relative)
    layout = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        return _layout_entry(layout, entry.path, entry.relative)
    finally:
        os.close(layout)


def layout_files(layout: int) -> Iterator[tuple[int, str, str]]:
    """The regular files of an open OCI layout, in order: their folder's descriptor, name, and path in the layout.

    The descriptor is good until the next file.
    """
    for path, folders, names, folder in os.fwalk(".", dir_fd=layout, follow_symlinks=False):
        folders.sort()
        for name in sorted(names):
            if stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                yield folder, name, f"{path}/{name}".removeprefix("./")


def _file_entry(now: os.stat_result, path: str, relative: str) -> FolderEntry:
    if not stat.S_ISREG(now.st_mode):
        raise OSError(f"{_name_kind(now.st_mode)}, not a file")
    stamp = Stamp(now.st_size, now.st_mtime_ns, now.st_ino, now.st_ctime_ns)
    return FolderEntry(relative, path, stamp, max(now.st_ctime, now.st_mtime), device=now.st_dev)


def _layout_entry(layout: int, path: str, relative: str) -> FolderEntry:
    """An OCI layout's folder as it is now: the sum of its files; raises OSError."""
    own = os.fstat(layout)
    files = [os.stat(name, dir_fd=folder, follow_symlinks=False) for folder, name, _ in layout_files(layout)]
    newest = max((file.st_mtime_ns for file in files), default=0)
    newest_change = max((file.st_ctime_ns for file in files), default=0)
    stamp = Stamp(sum(file.st_size for file in files), newest, own.st_ino, newest_change)
    return FolderEntry(relative, path, stamp, max(newest, newest_change) / 1e9, is_folder=True, device=own.st_dev)


def _list_children(folder: int, relative: str, found: Scan) -> list[os.DirEntry[str]]:
    children = []
    with os.scandir(folder) as listing:
        for child in listing:
            if child.name.startswith(DELETING):
                found.leftovers.append(f"{relative}/{child.name}" if relative else child.name)
            elif not is_temporary(child.name):
                children.append(child)
            if len(children) > MAX_ENTRIES:
                break
    return sorted(children, key=lambda child: child.name, reverse=True)


def _sort_children(
    children: list[os.DirEntry[str]],
    folder: int,
    root: Path,
    parent: tuple[str, ...],
    own: set[tuple[int, int]],
    found: Scan,
) -> Iterator[tuple[str, ...]]:
    """Take down the files; the folders come back, to be looked at next."""
    for child in children:
        relative = "/".join((*parent, child.name))
        reason = _find_oddity(child.name) or (len(parent) >= MAX_DEPTH and f"more than {MAX_DEPTH} folders deep") or ""
        if reason:
            found.skipped[relative] = reason
        elif not child.is_dir(follow_symlinks=False):
            _add(found, relative, partial(_readable_entry, child, folder, f"{root}/{relative}", relative))
        elif _identity_of(child.stat(follow_symlinks=False)) not in own:
            yield (*parent, child.name)


def _readable_entry(child: os.DirEntry[str], folder: int, path: str, relative: str) -> FolderEntry:
    now = child.stat(follow_symlinks=False)
    entry = _file_entry(now, path, relative)
    if not os.access(child.name, os.R_OK, dir_fd=folder, effective_ids=True):
        raise PermissionError(_explain_unreadable(now, child.name))
    return entry


def _explain_unreadable(now: os.stat_result, name: str) -> str:
    """Whose file it is, who may not read it, and what to do: `docker save -o` writes files that only root may read."""
    own, mode = _name_user(os.geteuid()), stat.S_IMODE(now.st_mode)
    return (
        f"it cannot be read by this user ({own}): its mode is {mode:04o} and it belongs to {_name_user(now.st_uid)}; "
        f"chmod a+r it, or write it by `docker save IMAGE > {name}` in place of `docker save -o`"
    )


def _name_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


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


def _identify(folder: Path) -> tuple[int, int] | None:
    try:
        return _identity_of(folder.stat())
    except OSError:
        return None


def _identity_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
