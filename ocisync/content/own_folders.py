"""Folders of ours inside a folder into which others may write: done, failed, and the reasons in there.

Whoever may write there could put a link in the place of our folder or of a file of ours. So each is used from an open
folder that was reached without following a link, and files are made by O_EXCL. Everything here blocks.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ocisync.content.files import FOLDER_MODE, open_folder_beneath

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def open_own_folder(root: Path, folder: Path, below: str = "", *, make: bool = True) -> Iterator[int]:
    """A descriptor of the done or the failed folder, or of a folder below it.

    Where it lies in the drop folder `root`, whoever may drop files could put a link in its place; elsewhere its path is
    the configuration's, and is followed.
    """
    parts = tuple(below.split("/")) if below else ()
    if folder.is_relative_to(root):
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
