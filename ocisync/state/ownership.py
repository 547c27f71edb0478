"""Whose the state is. A ledger that root made, with `sudo ocisync once`, must not lock the service out."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path


def make_private_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter; one that is there stays as it is.

    What root makes on the way belongs to whoever owns the folder above.
    """
    missing = [place for place in (folder, *folder.parents) if not place.is_dir()]
    for place in reversed(missing):
        place.mkdir(0o700 if place == folder else 0o777, exist_ok=True)
        above = place.parent.stat()
        if os.geteuid() == 0 and above.st_uid != 0:
            os.chown(place, above.st_uid, above.st_gid)


def make_private(descriptor: int, folder: Path) -> None:
    """Let only the owner open a file, who is that of its folder where root has made it.

    Whoever can open one for reading can lock it and so stop the daemon.
    """
    found = os.fstat(descriptor)
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
        os.fchmod(descriptor, 0o600)
    if found.st_uid == os.geteuid() == 0 and (owner := folder.stat()).st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def explain_refusal(path: Path, exc: OSError) -> str:
    """Why a file of the state cannot be used; where it is another user's, whose, and what to do."""
    text = exc.strerror or str(exc)
    if exc.errno not in (errno.EACCES, errno.EPERM):
        return text
    place = _find_place(path)
    owner, user = _name(place.stat().st_uid), _name(os.geteuid())
    if owner == user:
        return text
    folder = place if place.is_dir() else place.parent
    return (
        f"{text}: {place} belongs to {owner}, and this process runs as {user}. Run it as {owner} (sudo -u {owner}), or "
        f"give the folder to {user} (chown -R {user}: {folder})"
    )


def _find_place(path: Path) -> Path:
    """The path itself, or the folder on the way to it that can be looked at."""
    for place in (path, *path.parents):
        try:
            place.stat()
        except OSError:
            continue
        return place
    return Path("/")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
