"""Archives that are no files: standard input and output (`-`), pipes and devices.

They cannot be read twice or in any order, and must not be replaced by a file. So what comes is first written to a
temporary file without a name, and what goes is written straight through. Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Generator
from pathlib import Path

from ocisync.content.files import READ, Spool
from ocisync.errors import ConfigError, DiskError, InputError

STANDARD = "-"  # standard input or output, as skopeo and tar have it
_WAIT = 200  # milliseconds between two looks for cancellation
_STREAMS = (stat.S_ISFIFO, stat.S_ISCHR, stat.S_ISSOCK)


def is_stream(path: Path) -> bool:
    """Whether a path is standard input or output, or leads to a pipe or a device."""
    if str(path) == STANDARD:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return any(is_kind(mode) for is_kind in _STREAMS)


class StreamedInput(Spool):
    """What came through a stream, in a temporary file: nobody else can change it."""

    def check(self) -> None:
        """Nothing to look at."""


def read_stream(path: Path, folder: Path) -> Generator[None, None, StreamedInput]:
    """Read a stream to its end; a generator for `run_steps`. The caller closes the result.

    Raises:
        InputError: it is a terminal, or cannot be opened.
        DiskError: the folder is full or not writable.
    """
    try:
        fd = os.dup(0) if str(path) == STANDARD else os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise InputError(f"{path}: cannot be opened: {exc.strerror}") from exc
    if os.isatty(fd):
        os.close(fd)
        raise InputError(f"{path}: an archive is not read from a terminal: pipe it in, or name a file")
    spool = StreamedInput(folder)
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        while True:
            # A pipe without a writer yet is not at its end: only poll tells the two apart.
            if not poller.poll(_WAIT):
                yield
                continue
            data = os.read(fd, READ)
            if not data:
                return spool
            spool.write(data)
            yield
    except OSError as exc:
        spool.close()
        raise InputError(f"{path}: cannot be read: {exc.strerror}") from exc
    except BaseException:
        spool.close()
        raise
    finally:
        os.close(fd)


class StreamedOutput:
    """Standard output, a pipe or a device: written from its start to its end.

    Raises:
        ConfigError: it is a terminal.
        DiskError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.size = 0  # bytes
        self._path = path
        try:
            if str(path) == STANDARD:
                sys.stdout.flush()
                self._fd = os.dup(1)
            else:
                self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as exc:
            raise self._wrap_error(exc) from exc
        if os.isatty(self._fd):
            self.close()
            raise ConfigError(f"{path}: an archive is not written to a terminal: redirect it, or name a file")

    def write(self, data: bytes | bytearray) -> None:
        """Write on."""
        rest = memoryview(data)
        try:
            while rest:
                done = os.write(self._fd, rest)
                rest = rest[done:]
                self.size += done
        except OSError as exc:
            raise self._wrap_error(exc) from exc

    def commit(self) -> None:
        """It is all written already."""

    def close(self) -> None:
        """Give the descriptor back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _wrap_error(self, exc: OSError) -> DiskError:
        return DiskError(f"{self._path}: cannot be written: {exc.strerror}", errno=exc.errno)
