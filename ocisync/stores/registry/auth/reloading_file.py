"""Files whose content may change while we run: they are read again then. Blocking: call it in a thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from ocisync.errors import AuthError

MAX_FILE = 4 * 1024 * 1024  # bytes
log = structlog.get_logger(__name__)
_T = TypeVar("_T")

Stamp = tuple[int, int, int]
"""What changes with a file: the time of its change in nanoseconds, its size in bytes, its inode."""


class ReloadingFile(Generic[_T]):
    """What a file holds; `absent` stands for a file that is not there."""

    def __init__(self, path: Path, parse: Callable[[bytes, Path], _T], absent: _T) -> None:
        self._path = path
        self._parse = parse
        self._absent = absent
        self._value = absent
        self._stamp: Stamp | None = None

    def current(self) -> _T:
        """What it holds now; what was known stays when it cannot be read or is half-written."""
        try:
            now = stamp(self._path)
            if now != self._stamp:
                self._value = self._parse(_read(self._path), self._path)
                self._stamp = now
        except FileNotFoundError:
            self._value, self._stamp = self._absent, None
        except (OSError, AuthError) as exc:
            log.warning("credentials.file_skipped", path=str(self._path), error=str(exc))
        return self._value


def stamp(path: Path) -> Stamp:
    """A file's stamp.

    Raises:
        OSError: there is no such file.
    """
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE)
