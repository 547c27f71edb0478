"""Whether a file that cannot be used may only lack its end: somebody writes to it, or a transfer pauses.

Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal

from ocisync.content.decompress import MAGIC_LENGTH, detect_compression
from ocisync.content.files import open_folder_beneath
from ocisync.drop.scan import FolderEntry

_END = 1024  # bytes of zeros that end a tar archive: two blocks
_MOST_PADDING = 20 * 512  # bytes of zeros that tar programs add to fill a record
_MAGIC_AT = 257  # where a tar's first header says that it is one


def is_open_for_writing(entry: FolderEntry) -> bool:
    """Whether somebody has a file open for writing, as far as the system tells: Linux does, of our own files."""
    descriptor = _open(entry)
    try:
        return _has_writer(descriptor)
    finally:
        os.close(descriptor)


def looks_incomplete(entry: FolderEntry) -> bool:
    """Whether the bytes look like the beginning of an archive.

    A tar that does not end as tars do, or in more zeros than they do: space that was reserved for what is to come. Of a
    compressed file only its decompression tells, so one that failed may always lack its end.
    """
    if entry.is_folder:
        return False
    descriptor = _open(entry)
    try:
        size = os.fstat(descriptor).st_size
        head = os.pread(descriptor, _MAGIC_AT + 5, 0)
        if detect_compression(head[:MAGIC_LENGTH]):
            return True
        if head[_MAGIC_AT:] != b"ustar":
            return not head.strip(b"\0")  # nothing has been written yet
        tail = os.pread(descriptor, _MOST_PADDING + _END, max(0, size - _MOST_PADDING - _END))
        return any(tail[-_END:]) or not any(tail)
    finally:
        os.close(descriptor)


def _open(entry: FolderEntry) -> int:
    *folders, name = entry.relative.split("/")
    with open_folder_beneath(entry.root, folders) as folder:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)


def _has_writer(descriptor: int) -> bool:
    """By a lease, which Linux gives only for files that nobody has open for writing."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        # A writer who opens the file while we have the lease waits for us, and we get a signal: not SIGIO, which would
        # end the process, but one that does nothing.
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as exc:
        return exc.errno == errno.EAGAIN  # any other: not ours, or a file system that has no leases
    return False


_F_SETSIG = 10  # of fcntl(2) on Linux; Python does not name it everywhere
