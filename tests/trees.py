"""Compare two folder trees in everything a layer can say: `python -m tests.trees ONE OTHER` prints what differs."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """What one name is."""

    kind: str
    mode: str
    owner: tuple[int, int]
    content: str  # a digest, a link's target, or a device's number
    xattrs: tuple[tuple[str, bytes], ...]
    twins: tuple[str, ...]  # every name of the same file, when it has several
    mtime: int  # nanoseconds


def snapshot(root: Path) -> dict[str, Entry]:
    """Every entry below and including a folder, by its path."""
    paths = [root, *(Path(folder) / name for folder, below, files in os.walk(root) for name in (*below, *files))]
    names: dict[tuple[int, int], list[str]] = {}
    for path in paths:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            names.setdefault((found.st_dev, found.st_ino), []).append(str(path.relative_to(root)))
    return {str(path.relative_to(root)): _entry(path, names) for path in paths}


def differences(one: Path, other: Path, ignore: Collection[str] = ()) -> list[str]:
    """What differs, a line each; `ignore` names fields of Entry."""
    left, right = snapshot(one), snapshot(other)
    out = [f"{path}: only in {one}" for path in left.keys() - right.keys()]
    out += [f"{path}: only in {other}" for path in right.keys() - left.keys()]
    for path in left.keys() & right.keys():
        for field in (field.name for field in fields(Entry) if field.name not in ignore):
            a, b = getattr(left[path], field), getattr(right[path], field)
            if a != b:
                out.append(f"{path}: {field}: {a!r} and {b!r}")
    return sorted(out)


def _entry(path: Path, names: dict[tuple[int, int], list[str]]) -> Entry:
    found = path.lstat()
    xattrs = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in _xattrs(path))
    twins = sorted(names.get((found.st_dev, found.st_ino), []))
    return Entry(
        stat.filemode(found.st_mode)[0],
        f"{stat.S_IMODE(found.st_mode):o}",
        (found.st_uid, found.st_gid),
        _content(path, found),
        xattrs,
        tuple(twins) if len(twins) > 1 else (),
        found.st_mtime_ns,
    )


def _xattrs(path: Path) -> list[str]:
    return sorted(name for name in os.listxattr(path, follow_symlinks=False) if name != "security.selinux")


def _content(path: Path, found: os.stat_result) -> str:
    if stat.S_ISLNK(found.st_mode):
        return str(path.readlink())
    if stat.S_ISREG(found.st_mode):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return f"{found.st_rdev:x}"


def main() -> None:
    """Exit 0 when the trees are equal."""
    found = differences(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    sys.stdout.write("\n".join(found or ["equal"]) + "\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
