"""What is known of files: listings in the order of keys, ETags, and when each tag was published.

All tags of one manifest are links to one file and share its time. So a tag's own date is that of an empty file below
`.ocisync/published/`, under the tag's key. It is dated before the tag is linked: a writer that is killed in between
leaves a date that is too young, never one that is too old. A tag that is no link, as another tool writes it, has its
file's time; so has one whose date was lost.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ocisync.content.object_store import ObjectInfo
from ocisync.stores.directory.paths import FILE_MODE, make_folders, open_folder, split_key
from ocisync.stores.static.layout import MANIFESTS, PRIVATE

_DATES = (PRIVATE.rstrip("/"), "published")
_MARK = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def walk(root: Path, prefix: str, start_after: str = "") -> Generator[ObjectInfo, None, None]:
    """Plain files whose keys begin with a prefix and come after `start_after`; plain code for a thread."""
    parts = tuple(prefix.split("/")[:-1])
    base = "".join(f"{part}/" for part in parts)
    if not all(part not in ("", ".", "..") for part in parts):
        return
    with suppress(FileNotFoundError), open_folder(root, parts) as fd:
        yield from _walk_folder(root, fd, base, prefix, start_after)


def _walk_folder(root: Path, fd: int, base: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
    dates = _read_dates(root, base)
    for name in _list_names(fd, base):
        key = base + name
        if not (key.startswith(prefix) or prefix.startswith(key)) or (start_after and _is_behind(key, start_after)):
            continue
        with suppress(FileNotFoundError):
            if name.endswith("/"):
                yield from _walk_inner(root, fd, name[:-1], key, prefix, start_after)
            elif stat.S_ISREG((found := os.stat(name, dir_fd=fd, follow_symlinks=False)).st_mode):
                yield info_of(key, found, _date(found, dates.get(name)))


def _walk_inner(root: Path, parent: int, name: str, key: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        yield from _walk_folder(root, fd, key, prefix, start_after)
    finally:
        os.close(fd)


def _list_names(fd: int, base: str) -> list[str]:
    """A folder's entries as they sort within keys: folders by their name and a slash."""
    with os.scandir(fd) as entries:
        found = [f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries]
    return sorted((name for name in found if base + name != PRIVATE), key=os.fsencode)


def _is_behind(key: str, start_after: str) -> bool:
    """Whether nothing at or below this key comes after `start_after`."""
    return os.fsencode(key) <= os.fsencode(start_after) and not (key.endswith("/") and start_after.startswith(key))


def info_of(key: str, found: os.stat_result, modified: float, content_type: str = "") -> ObjectInfo:
    """What is known of a file; hard links to one file have one ETag, and a rewritten file another."""
    return ObjectInfo(key, found.st_size, etag_of(found), modified, content_type)


def etag_of(found: os.stat_result) -> str:
    """An ETag from a file's identity, quotes included."""
    return f'"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"'


def date_key(root: Path, key: str) -> None:
    """Date a tag's key now; best effort after a crash, for nothing is synchronised with the disk."""
    folders, name = split_key(key)
    with make_folders(root, (*_DATES, *folders), fsync=False) as parent:
        fd = os.open(name, _MARK, FILE_MODE, dir_fd=parent)
        try:
            os.utime(fd)  # by the clock that dates the other files
        finally:
            os.close(fd)


def date_of(root: Path, key: str, found: os.stat_result) -> float:
    """When a key was published, in seconds since the epoch."""
    folders, name = split_key(key)
    own = None
    if found.st_nlink > 1 and _has_dates(folders):
        with suppress(OSError), open_folder(root, (*_DATES, *folders)) as parent:
            own = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mtime
    return _date(found, own)


def forget_date(root: Path, key: str) -> None:
    """Remove a key's date."""
    folders, name = split_key(key)
    if _has_dates(folders):
        with suppress(OSError), open_folder(root, (*_DATES, *folders)) as parent:
            os.unlink(name, dir_fd=parent)


def _read_dates(root: Path, base: str) -> Mapping[str, float]:
    """The dates of one folder's tags; none where there are none, or they are another user's."""
    folders = tuple(base.split("/")[:-1])
    if not _has_dates(folders):
        return {}
    with suppress(OSError), open_folder(root, (*_DATES, *folders)) as fd, os.scandir(fd) as entries:
        return {entry.name: entry.stat(follow_symlinks=False).st_mtime for entry in entries}
    return {}


def _has_dates(folders: tuple[str, ...]) -> bool:
    return bool(folders) and folders[-1] == MANIFESTS


def _date(found: os.stat_result, own: float | None) -> float:
    return found.st_mtime if own is None or found.st_nlink < 2 else own
