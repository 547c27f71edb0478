"""Folders of ours inside a folder into which others may write: done, failed, the reasons in there, outboxes.

Whoever may write there could put a link in the place of our folder or of a file of ours. So each is used from an open
folder that was reached without following a link, and files are made by O_EXCL. Everything here blocks.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ocisync.content.files import FOLDER_MODE, open_folder_beneath

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # a FIFO must not block


@contextmanager
def open_own_folder(root: Path, folder: Path, below: str = "", *, make: bool = True) -> Iterator[int]:
    """A descriptor of the done or the failed folder, or of a folder below it.

    Where it lies in the drop folder `root`, whoever may drop files could put a link in its place; elsewhere its path is
    the configuration's, and is followed.
    """
    parts = tuple(below.split("/")) if below else ()
    if folder != root and folder.is_relative_to(root):
        parts = (*folder.relative_to(root).parts, *parts)
    else:
        root = folder
        if make:
            root.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    with open_folder_beneath(root, parts, make=make) as opened:
        yield opened


def write_whole(folder: int, name: str, text: str) -> None:
    """Write a small file into an open folder so that it is there whole or not at all; what had its name is replaced."""
    part = f".ocisync-{secrets.token_hex(8)}.part"
    descriptor = os.open(part, CREATE, 0o644, dir_fd=folder)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(part, dir_fd=folder)
        raise


def read_bounded(folder: int, name: str, most: int) -> bytes:
    """All of a small file in an open folder.

    Raises:
        OSError: it is missing, no regular file (EINVAL), or has more than `most` bytes (EFBIG).
    """
    descriptor = os.open(name, _READ, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"more than {most} bytes", name)
    return data
