"""Names of members, and the way down them: part by part from a descriptor of the root, never out of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from ocisync.errors import ArchiveError, LimitExceeded

MAX_DEPTH = 256  # folders
MAX_LINKS = 40  # as Linux follows
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_OPENED = 4096  # folders on the way to one name; links that go up and down again would open more

Parts = tuple[bytes, ...]


class ResolvedPath:
    """Where a name leads: a folder's descriptor, and the last part."""

    __slots__ = ("folder", "inode", "name")

    def __init__(self, folder: int, inode: int, name: bytes) -> None:
        self.folder = folder
        self.inode = inode
        self.name = name

    def stat(self) -> os.stat_result | None:
        """What is there now, a link itself and not what it leads to."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None


def clean_name(name: bytes) -> Parts:
    """The parts of a member's name, empty for the root itself; `a/../b` is `b`, a leading slash means the root.

    Raises:
        ArchiveError: it climbs out of the folder.
    """
    done: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not done:
                raise ArchiveError(f"{quote((name,))}: the name leads out of the folder; nothing is written there")
            done.pop()
        elif part not in (b"", b"."):
            done.append(part)
    return tuple(done)


def quote(parts: Sequence[bytes]) -> str:
    """A name for messages."""
    return repr(b"/".join(parts).decode("utf-8", "backslashreplace")[:200])


class PathResolver:
    """A walk down one name, part by part, with a descriptor of the folder that was reached.

    Every part is opened with O_NOFOLLOW. A link in the middle is read, and its parts are walked in its place, from the
    root when it is absolute. `openat2(RESOLVE_IN_ROOT)` would do the same, but exists on Linux only, since 5.6, and
    container runtimes' seccomp filters refused it for years.
    """

    def __init__(self, root: int, parts: Parts) -> None:
        self.fd = os.dup(root)
        self.pending = list(reversed(parts))
        self._root = root
        self._parts = parts
        self._done: list[bytes] = []
        self._links = 0
        self._opened = 0

    def close(self) -> None:
        """Give the descriptor back, unless it was handed on."""
        os.close(self.fd)

    def current(self) -> ResolvedPath:
        """The place of the next part."""
        return ResolvedPath(self.fd, 0, self.pending[-1])

    def advance(self) -> bool:
        """Take the next part; False when there is nothing of that name."""
        part = self.pending[-1]
        if part in (b"", b"."):
            self.pending.pop()
        elif part == b"..":
            self.pending.pop()
            self._climb()
        else:
            try:
                return self.enter(os.open(part, OPEN_FOLDER, dir_fd=self.fd))
            except FileNotFoundError:
                return False
            except OSError as exc:
                if exc.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                self._follow(self.pending.pop())
        return True

    def enter(self, fd: int) -> bool:
        """Go into the folder that the next part names; always True."""
        self._replace(fd)
        self._done.append(self.pending.pop())
        if len(self._done) > MAX_DEPTH:
            raise LimitExceeded(f"{quote(self._parts)}: more than {MAX_DEPTH} folders deep")
        return True

    def _follow(self, part: bytes) -> None:
        try:
            target = os.readlink(part, dir_fd=self.fd)
        except OSError as exc:
            raise ArchiveError(f"{quote(self._parts)}: {quote((part,))} in it is a file, not a folder") from exc
        self._links += 1
        if self._links > MAX_LINKS:
            raise ArchiveError(f"{quote(self._parts)}: the links in it form a loop")
        self.pending.extend(reversed(target.split(b"/")))
        if target.startswith(b"/"):
            self._return_to(0)

    def _climb(self) -> None:
        if not self._done:
            raise ArchiveError(f"{quote(self._parts)}: a link in it leads out of the folder; nothing is written there")
        self._return_to(len(self._done) - 1)

    def _return_to(self, depth: int) -> None:
        """Walk down again from the root: `..` of a descriptor would be the operating system's, not ours."""
        again, self._done = self._done[:depth], []
        self._replace(os.dup(self._root))
        for part in again:
            self._replace(os.open(part, OPEN_FOLDER, dir_fd=self.fd))
            self._done.append(part)

    def _replace(self, fd: int) -> None:
        os.close(self.fd)
        self.fd = fd
        self._opened += 1
        if self._opened > _MAX_OPENED:
            raise LimitExceeded(f"{quote(self._parts)}: its links lead through more than {_MAX_OPENED} folders")
