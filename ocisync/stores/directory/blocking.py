"""The blocking half of a directory store: what the system is asked, always called in a thread."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ocisync.content.failpoints import failpoint
from ocisync.content.object_store import ObjectInfo
from ocisync.errors import DiskError, PreconditionFailed
from ocisync.model.digest import Digest
from ocisync.model.manifest import MAX_MANIFEST_SIZE
from ocisync.stores.directory.file_info import date_key, date_of, etag_of, forget_date, info_of
from ocisync.stores.directory.paths import FILE_MODE, FOLDER_MODE, make_folders, open_folder, split_key
from ocisync.stores.directory.temporary import Temporary, file_name, link_name, remove_abandoned
from ocisync.stores.static import layout

_READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not block
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_COPY = 1024 * 1024  # bytes


class BlockingFiles:
    """Files below one root; FileNotFoundError means absent."""

    def __init__(self, root: Path, *, fsync: bool) -> None:
        self.root = root
        self.fsync = fsync
        self._private = root / layout.PRIVATE
        self._temporary = self._private / "tmp"

    def prepare(self) -> int:
        """Make the folders, and remove what writers left that are gone; the number of files."""
        for path, mode in ((self.root, FOLDER_MODE), (self._private, 0o700), (self._temporary, 0o700)):
            if not path.is_dir():
                try:
                    path.mkdir(parents=True, exist_ok=True)
                    path.chmod(mode)
                except FileNotFoundError as exc:  # which means absent elsewhere: /proc has no folders of ours
                    raise DiskError(f"{path}: the folder cannot be made: {exc.strerror}", errno=exc.errno) from exc
        return remove_abandoned(self._temporary)

    def head(self, key: str) -> ObjectInfo:
        """What is stored under a key."""
        info, fd = self.open(key)
        os.close(fd)
        return info

    def open(self, key: str) -> tuple[ObjectInfo, int]:
        """A plain file, for reading."""
        folders, name = split_key(key)
        with open_folder(self.root, folders) as parent:
            fd = os.open(name, _READ_FILE, dir_fd=parent)
        try:
            return self._info(key, fd), fd
        except BaseException:
            os.close(fd)
            raise

    def temporary(self, size: int, digest: Digest | None) -> Temporary:
        """A new temporary file on the same file system."""
        try:
            return Temporary(self._temporary, size, digest)
        except FileNotFoundError:  # somebody tidied up
            self.prepare()
            return Temporary(self._temporary, size, digest)

    def write(
        self, chunks: Iterable[bytes], size: int, digest: Digest | None, key: str, if_match: str | None
    ) -> ObjectInfo:
        """Verify content that is at hand, and put it into place."""
        temporary = self.temporary(size, digest)
        try:
            temporary.write(chunks)
            return self.commit(temporary, key, if_match)
        finally:
            if temporary.is_open:
                temporary.discard()

    def commit(self, temporary: Temporary, key: str, if_match: str | None) -> ObjectInfo:
        """Verify a temporary file, make it last, and move it into place."""
        temporary.finish(fsync=self.fsync)
        self._place(temporary.path, key, if_match)
        found = temporary.close()
        return info_of(key, found, found.st_mtime)

    def new_path(self) -> Path:
        """Where a locked file may be until it is moved into place."""
        return self._temporary / file_name()

    def take_over(self, path: Path, key: str, size: int) -> ObjectInfo | None:
        """Move a whole file into place; None when it is not of this size."""
        found = path.stat()
        if found.st_size != size:
            return None
        self._place(path, key, if_match=None)
        return info_of(key, found, found.st_mtime)

    def _place(self, path: Path, key: str, if_match: str | None) -> None:
        folders, name = split_key(key)
        failpoint("blob")
        with make_folders(self.root, folders, fsync=self.fsync) as parent:
            with self._lock(exclusive=if_match is not None):
                self._check(parent, name, key, if_match)
                os.replace(path, name, dst_dir_fd=parent)
            if self.fsync:
                os.fsync(parent)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove files; folders stay, since another writer may be about to use them."""
        for key in keys:
            folders, name = split_key(key)
            with suppress(FileNotFoundError), open_folder(self.root, folders) as parent:
                os.unlink(name, dir_fd=parent)
            forget_date(self.root, key)

    def touch(self, key: str) -> None:
        """Set a file's time of change to now."""
        folders, name = split_key(key)
        with open_folder(self.root, folders) as parent:
            os.utime(name, dir_fd=parent, follow_symlinks=False)

    def link_dated(self, from_key: str, to_key: str) -> None:
        """As `copy`, and the new key has a date of its own."""
        self.head(from_key)  # no date for what cannot be linked
        date_key(self.root, to_key)
        self.copy(from_key, to_key)

    def copy(self, from_key: str, to_key: str) -> None:
        """Put a hard link, or a copy where links cannot be, into the place of another key."""
        folders, name = split_key(from_key)
        to_folders, to_name = split_key(to_key)
        link = link_name()
        with open_folder(self.root, folders) as source, open_folder(self._temporary, ()) as scratch:
            try:
                self._link(source, name, scratch, link)
                with make_folders(self.root, to_folders, fsync=self.fsync) as parent:
                    with self._lock(exclusive=False):
                        os.replace(link, to_name, src_dir_fd=scratch, dst_dir_fd=parent)
                    if self.fsync:
                        os.fsync(parent)
            finally:
                with suppress(FileNotFoundError):  # moving a link over a link to the same file leaves both
                    os.unlink(link, dir_fd=scratch)

    def are_links(self, folder: str, names: Sequence[tuple[str, str]]) -> bool:
        """Whether both names of each pair are the same plain file in a folder."""
        parts = tuple(folder.split("/")[:-1])
        try:
            with open_folder(self.root, parts) as parent:
                for name, other in names:
                    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
                    same = os.stat(other, dir_fd=parent, follow_symlinks=False)
                    if found.st_ino != same.st_ino or found.st_dev != same.st_dev or not stat.S_ISREG(found.st_mode):
                        return False
        except FileNotFoundError:
            return False
        return True

    def _link(self, source: int, name: str, scratch: int, link: str) -> None:
        if not stat.S_ISREG(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
            raise FileNotFoundError(name)
        try:
            os.link(name, link, src_dir_fd=source, dst_dir_fd=scratch, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError:  # too many links, another file system, or one without links
            _copy_bytes(source, name, scratch, link, fsync=self.fsync)

    def _check(self, parent: int, name: str, key: str, if_match: str | None) -> None:
        if if_match is None:
            return
        etag = ""
        with suppress(FileNotFoundError):
            etag = etag_of(os.stat(name, dir_fd=parent, follow_symlinks=False))
        if etag != if_match:
            raise PreconditionFailed(f"{self.root}/{key}: another writer came first; look again")

    def _info(self, key: str, fd: int) -> ObjectInfo:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(key)
        is_manifest = f"/{layout.MANIFESTS}/" in key and found.st_size <= MAX_MANIFEST_SIZE
        body = os.pread(fd, found.st_size, 0) if is_manifest else None
        return info_of(key, found, date_of(self.root, key, found), layout.content_type_of(key, body))

    @contextmanager
    def _lock(self, *, exclusive: bool) -> Iterator[None]:
        """Keep other writers, of other processes too, from moving files between a look and our own move."""
        fd = os.open(self._private / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield
        finally:
            os.close(fd)


def _copy_bytes(source: int, name: str, scratch: int, copy: str, *, fsync: bool) -> None:
    reading = os.open(name, _READ_FILE, dir_fd=source)
    try:
        with os.fdopen(os.open(copy, _NEW_FILE, FILE_MODE, dir_fd=scratch), "wb", buffering=0) as writing:
            while chunk := os.read(reading, _COPY):
                _write_all(writing.fileno(), chunk)
            os.fchmod(writing.fileno(), FILE_MODE)
            if fsync:
                os.fsync(writing.fileno())
    finally:
        os.close(reading)


def _write_all(fd: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(fd, view) :]
