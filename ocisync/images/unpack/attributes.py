"""Owners, permissions, extended attributes and devices: what is taken over from a layer, and what is not.

docs/pack-and-unpack.md states the policy for users.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ocisync.content.tar.headers import SYMLINK
from ocisync.content.tar.member import TarMember
from ocisync.errors import ArchiveError
from ocisync.images.unpack.path_resolver import ResolvedPath, quote

MAX_ID = 2**32 - 2  # the last one means "leave it" to chown
_MAX_WARNINGS = 20
_HOST_ATTRIBUTES = (b"system.", b"security.selinux", b"security.ima", b"security.evm")  # the host's own business
_OVERLAY = (b"trusted.overlay.", b"user.overlay.")  # they would lead an overlay mount of the tree elsewhere
_UNSUPPORTED = frozenset((errno.ENOTSUP, errno.EPERM, errno.EACCES))


class Attributes:
    """Applies what a member says about itself, as far as the policy allows."""

    def __init__(self, *, rootless: bool) -> None:
        self._rootless = rootless
        self.warnings: list[str] = []

    def choose_mode(self, member: TarMember) -> int:
        """The permissions; rootless, set-id bits would lend the caller's own rights, so they are left out."""
        return member.mode & ~(stat.S_ISUID | stat.S_ISGID) if self._rootless else member.mode

    def apply(self, fd: int, member: TarMember) -> None:
        """Owner and extended attributes of an open file or folder; chown first, for it takes capabilities away."""
        if not self._rootless:
            os.fchown(fd, *_choose_owner(member))
        self._set_attributes(fd, member)

    def apply_to_handle(self, fd: int, member: TarMember) -> None:
        """Owner, permissions and extended attributes of what only a handle leads to."""
        path = f"/proc/self/fd/{fd}"  # leads to the very thing, also when that is a link
        if not self._rootless:
            os.chown(path, *_choose_owner(member))
        if member.kind != SYMLINK:
            Path(path).chmod(self.choose_mode(member))
        self._set_attributes(path, member)

    def make_device(self, path: ResolvedPath, kind: int, member: TarMember) -> bool:
        """Make a device node; False where one may not be made, and an empty file is to stand for it."""
        if self._rootless:
            self._warn(f"{quote((member.name,))}: a device, which only root can make; an empty file stands for it")
            return False
        try:
            os.mknod(path.name, kind | 0o600, os.makedev(*member.device), dir_fd=path.folder)
        except PermissionError:
            self._warn(f"{quote((member.name,))}: the device may not be made here; an empty file stands for it")
            return False
        except OverflowError as exc:
            raise ArchiveError(f"{quote((member.name,))}: no device has the number {member.device}") from exc
        return True

    def strip(self, fd: int) -> None:
        """Take away the extended attributes that a layer can set."""
        for name in list_xattrs(fd):
            if self._may_set(os.fsencode(name)):
                os.removexattr(fd, name)

    def _set_attributes(self, where: int | str, member: TarMember) -> None:
        for name, value in sorted(member.xattrs.items()):
            if not self._may_set(name):
                self._warn(f"{quote((member.name,))}: the attribute {quote((name,))} is not taken over")
                continue
            try:
                os.setxattr(where, name, value)
            except OSError as exc:
                if exc.errno not in _UNSUPPORTED:
                    raise
                self._warn(f"{quote((member.name,))}: the attribute {quote((name,))} cannot be set: {exc.strerror}")

    def _may_set(self, name: bytes) -> bool:
        return is_portable(name) and (name.startswith(b"user.") or not self._rootless)

    def _warn(self, text: str) -> None:
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(text)


def is_portable(name: bytes) -> bool:
    """Whether an extended attribute belongs to the file, not to the machine or the mount it lies on."""
    return not name.startswith((*_HOST_ATTRIBUTES, *_OVERLAY))


def list_xattrs(where: int | str) -> list[str]:
    """The names of a file's extended attributes; none where the file system keeps none."""
    try:
        return sorted(os.listxattr(where))
    except OSError as exc:
        if exc.errno in _UNSUPPORTED:
            return []
        raise


def _choose_owner(member: TarMember) -> tuple[int, int]:
    if member.uid > MAX_ID or member.gid > MAX_ID:
        raise ArchiveError(
            f"{quote((member.name,))}: no owner {member.uid}:{member.gid} can exist on Linux; --rootless ignores owners"
        )
    return member.uid, member.gid
