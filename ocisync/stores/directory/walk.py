"""Listing a folder tree in the order of its keys, holding one folder's names per level."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

from ocisync.content.object_store import ObjectInfo
from ocisync.stores.directory.paths import folder
from ocisync.stores.static.layout import PRIVATE


def walk(root: Path, prefix: str, start_after: str = "") -> Generator[ObjectInfo, None, None]:
    """Plain files whose keys begin with a prefix and come after `start_after`; plain code for a thread."""
    parts = tuple(prefix.split("/")[:-1])
    base = "".join(f"{part}/" for part in parts)
    if not all(part not in ("", ".", "..") for part in parts):
        return
    with suppress(FileNotFoundError), folder(root, parts) as fd:
        yield from _below(fd, base, prefix, start_after)


def _below(fd: int, base: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
    for name in _names(fd, base):
        key = base + name
        if not (key.startswith(prefix) or prefix.startswith(key)) or _is_behind(key, start_after):
            continue
        with suppress(FileNotFoundError):
            if name.endswith("/"):
                yield from _into(fd, name[:-1], key, prefix, start_after)
            elif stat.S_ISREG((found := os.stat(name, dir_fd=fd, follow_symlinks=False)).st_mode):
                yield info_of(key, found)


def _into(parent: int, name: str, key: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        yield from _below(fd, key, prefix, start_after)
    finally:
        os.close(fd)


def _names(fd: int, base: str) -> list[str]:
    """A folder's entries as they sort within keys: folders by their name and a slash."""
    with os.scandir(fd) as entries:
        found = [f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries]
    return sorted((name for name in found if base + name != PRIVATE), key=os.fsencode)


def _is_behind(key: str, start_after: str) -> bool:
    """Whether nothing at or below this key comes after `start_after`."""
    return os.fsencode(key) <= os.fsencode(start_after) and not (key.endswith("/") and start_after.startswith(key))


def info_of(key: str, found: os.stat_result, content_type: str = "") -> ObjectInfo:
    """What is known of a file; hard links to one file have one ETag, and a rewritten file another."""
    return ObjectInfo(key, found.st_size, etag_of(found), found.st_mtime, content_type)


def etag_of(found: os.stat_result) -> str:
    """An ETag from a file's identity, quotes included."""
    return f'"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"'
