"""Whether a file that cannot be used may only lack its end: somebody writes to it, or a transfer pauses.

Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
from pathlib import Path

from ocisync.content.decompress import Caps, decompress, detect_compression
from ocisync.content.files import FileGuard, FileSection, InputFile, open_folder_beneath
from ocisync.content.tar.headers import BLOCK, has_checksum
from ocisync.drop.scan import FolderEntry
from ocisync.errors import ArchiveError, LimitExceeded

_END = 2 * BLOCK  # bytes of zeros that end a tar archive
_TAIL = 20 * BLOCK + _END  # tar programs add zeros until a record is full
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh")
_NAME = re.compile(rb"[\w./@+:-]*\0*", re.ASCII)  # a header's first 100 bytes
_MODE = re.compile(rb"[0-7 \0]*")  # the numbers that follow


def is_open_for_writing(entry: FolderEntry) -> bool:
    """Whether somebody has a file open for writing, as far as the system tells: Linux does, of our own files."""
    descriptor = _open(entry)
    try:
        return _has_writer(descriptor)
    finally:
        os.close(descriptor)


def looks_incomplete(entry: FolderEntry) -> bool:
    """Whether a file's bytes look like the beginning of an archive.

    A tar that does not end as tars do, or in more zeros than they do: space that was reserved for what is to come. What
    is compressed is decompressed to its end for that.
    """
    file = InputFile(Path(entry.path), FileGuard(entry.root, entry.identity))
    try:
        head = file.read_at(0, min(BLOCK, file.size))
        if kind := detect_compression(head):
            return _lacks_compressed_end(FileSection(file, 0, file.size), kind)
        if len(head) < BLOCK:
            return _may_begin_archive(head)
        if not has_checksum(head):
            return not head.strip(b"\0")  # nothing has been written there yet
        size = min(_TAIL, file.size)
        return _lacks_end(file.read_at(file.size - size, size))
    finally:
        file.close()


def _may_begin_archive(head: bytes) -> bool:
    """Whether less than a block can be the beginning of a tar's first header, or of a compressed file."""
    if any(magic.startswith(head) for magic in _COMPRESSED):
        return True
    return bool(_NAME.fullmatch(head[:100]) and _MODE.fullmatch(head[100:148]))


def _lacks_compressed_end(section: FileSection, kind: str) -> bool:
    head, tail = b"", b""
    try:
        for chunk in decompress(section, kind, Caps()):
            head = (head + chunk[:BLOCK])[:BLOCK]
            tail = (tail + chunk[-_TAIL:])[-_TAIL:]
    except ArchiveError:
        return True
    except LimitExceeded:
        return False
    # zstd does not tell when it ends between two of its blocks.
    return not head or (has_checksum(head) and _lacks_end(tail))


def _lacks_end(tail: bytes) -> bool:
    return any(tail[-_END:]) or (len(tail) == _TAIL and not any(tail))


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
