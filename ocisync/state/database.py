"""One SQLite file behind one thread: transactions, and a rebuild when the file turns out to be damaged.

What several callers want at the same moment is one transaction, or where that fails, each its own. What the file holds
is a cache (see sync/ledger.py), so a damaged or newer file is moved aside and a fresh one begun.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Final, TypeVar, cast

import structlog
from anyio import CapacityLimiter, to_thread

from ocisync.content.failpoints import failpoint
from ocisync.errors import DiskError, OcisyncError, StoreError
from ocisync.state.batching import BatchExecutor, PendingCall
from ocisync.state.migrations import APPLICATION_ID, STEPS, NewerSchema
from ocisync.state.ownership import explain_refusal, make_private, make_private_folder
from ocisync.state.rows import CorruptDatabase

T = TypeVar("T")
log = structlog.get_logger()

FILE_NAME = "ledger.sqlite3"
BUSY_WAIT = 10.0  # seconds to wait for another process that writes
_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_DISK: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_SMALL = 16 * 1024 * 1024  # bytes; to look through so much takes some 10 ms
_IOERR_SHORT_READ = 522  # the file ends in the middle of a page


class SqliteDatabase:
    """The file of one state folder (a `Database`)."""

    def __init__(self, folder: Path, *, read_only: bool = False, in_full: bool = True) -> None:
        """`in_full`: look through all of a large file when it is opened, not only when something in it is met."""
        self.path = folder / FILE_NAME
        self.read_only = read_only
        self._in_full = in_full
        self._limiter = CapacityLimiter(1)
        self._executor = BatchExecutor(self._run_batch, self._limiter)
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open or make the file; a damaged or newer one is moved aside first.

        Raises:
            DiskError: the folder cannot be written.
        """
        await to_thread.run_sync(self._open, limiter=self._limiter)

    async def close(self) -> None:
        """Close the file; what was committed stays."""
        await to_thread.run_sync(self._close, limiter=self._limiter)

    async def read(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Run queries in the thread.

        Raises:
            StoreError, DiskError: the file cannot be used now.
        """
        return cast("T", await self._executor.ask(PendingCall(act, is_write=False)))

    async def write(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Run statements in the thread, all of them or none; raises as `read` does."""
        return cast("T", await self._executor.ask(PendingCall(act, is_write=True)))

    def _run_batch(self, calls: Sequence[PendingCall]) -> None:
        if len(calls) > 1 and self._run_as_one(calls):
            return
        for call in calls:
            try:
                call.finish(self._run_guarded(partial(_run_all, [call]))[0])
            except Exception as exc:  # noqa: BLE001 (raised where it was asked for)
                call.finish(None, exc)

    def _run_as_one(self, calls: Sequence[PendingCall]) -> bool:
        if self._connection is None:
            return False
        try:
            results = _run_all(calls, self._connection)
        except Exception:  # noqa: BLE001 (met again, and told, when each is done by itself)
            return False
        for call, result in zip(calls, results, strict=True):
            call.finish(result)
        return True

    def _run_guarded(self, act: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            raise StoreError(f"{self.path}: the ledger is closed")
        try:
            return act(self._connection)
        except (sqlite3.Error, CorruptDatabase) as exc:
            if not _is_damage(exc):
                raise _as_ours(exc, self.path) from exc
            return self._rebuild_and_run(act, exc)

    def _rebuild_and_run(self, act: Callable[[sqlite3.Connection], T], why: Exception) -> T:
        self._close()
        try:
            self._connection = connection = self._reopen(why)
            return act(connection)
        except (sqlite3.Error, CorruptDatabase) as exc:
            raise _as_ours(exc, self.path) from exc

    def _reopen(self, why: Exception) -> sqlite3.Connection:
        if self.read_only:
            log.warning("state.unreadable", path=str(self.path), error=str(why))
            return _open_in_memory()
        with _rebuild_lock(self.path):
            if isinstance(why, CorruptDatabase) or (sound := _open_if_sound(self.path)) is None:
                _move_aside(self.path, "damaged", why)
                return _open_writable(self.path)
            return sound

    def _open(self) -> None:
        try:
            self._connection = self._open_to_read() if self.read_only else self._open_to_write()
        except sqlite3.Error as exc:
            raise _as_ours(exc, self.path) from exc
        except OSError as exc:
            reason = explain_refusal(self.path, exc)
            raise DiskError(f"{self.path.parent}: the state folder cannot be used: {reason}") from exc

    def _open_to_write(self) -> sqlite3.Connection:
        make_private_folder(self.path.parent)
        with _rebuild_lock(self.path):
            try:
                return _open_writable(self.path, in_full=self._in_full)
            except NewerSchema as exc:
                _move_aside(self.path, "newer", exc)
            except (sqlite3.Error, CorruptDatabase) as exc:
                if not _is_damage(exc):
                    raise
                _move_aside(self.path, "damaged", exc)
            return _open_writable(self.path)

    def _open_to_read(self) -> sqlite3.Connection:
        if not self.path.exists():
            return _open_in_memory()
        if not os.access(self.path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.path))
        try:
            return _open_read_only(self.path, in_full=self._in_full)
        except (sqlite3.Error, NewerSchema, CorruptDatabase) as exc:
            log.warning("state.unreadable", path=str(self.path), error=str(exc))
            return _open_in_memory()

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None


def _run_all(calls: Sequence[PendingCall], connection: sqlite3.Connection) -> list[object]:
    if not any(call.is_write for call in calls):
        return [call.act(connection) for call in calls]
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = [call.act(connection) for call in calls]
        failpoint("ledger")
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    return results


def _open_writable(path: Path, *, in_full: bool = True) -> sqlite3.Connection:
    for suffix in ("", "-wal", "-shm"):  # SQLite gives the other two the mode of the first when it makes them
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(f"{path}{suffix}", os.O_RDWR | os.O_CLOEXEC | (0 if suffix else os.O_CREAT), 0o600)
            try:
                make_private(descriptor, path.parent)
            finally:
                os.close(descriptor)
    connection = _connect(path, "rwc")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        _check_file(connection, path, in_full=in_full)
        if version_of(connection) == 0:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection)
        _check_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_read_only(path: Path, *, in_full: bool) -> sqlite3.Connection:
    connection = _connect(path, "ro")
    try:
        _check_file(connection, path, in_full=in_full)
        if version_of(connection) == len(STEPS):
            _check_tables(connection)
            return connection
        copy = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        connection.backup(copy)
        migrate(copy)
    except BaseException:
        connection.close()
        raise
    connection.close()
    return copy


def _open_in_memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    migrate(connection)
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_WAIT, check_same_thread=False, isolation_level=None)


def _check_file(connection: sqlite3.Connection, path: Path, *, in_full: bool) -> None:
    """See that it is our file; to look through all of a large one takes seconds, so it gets that only `in_full`."""
    if in_full or path.stat().st_size <= _SMALL:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise CorruptDatabase(verdict)
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and owner != APPLICATION_ID:
        raise CorruptDatabase("it is another program's database")


def _check_tables(connection: sqlite3.Connection) -> None:
    """Compare the tables with those of a new file: a file that was cut or restored in part may lack some."""
    missing = _new_columns() - _list_columns(connection)
    if missing:
        table, column = min(missing)
        raise CorruptDatabase(f"the table {table} is missing, or lacks {column}")


@cache
def _new_columns() -> frozenset[tuple[str, str]]:
    with contextlib.closing(_open_in_memory()) as connection:
        return _list_columns(connection)


def _list_columns(connection: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    tables = "SELECT t.name, c.name FROM sqlite_schema AS t JOIN pragma_table_info(t.name) AS c WHERE t.type = 'table'"
    return frozenset((str(table), str(column)) for table, column in connection.execute(tables))


def _open_if_sound(path: Path) -> sqlite3.Connection | None:
    """The file opened, if another process has rebuilt it meanwhile."""
    try:
        return _open_writable(path)
    except (sqlite3.Error, CorruptDatabase, NewerSchema):
        return None


def _move_aside(path: Path, kind: str, why: Exception) -> None:
    aside = path.with_name(f"{path.name}.{kind}-{time.time_ns() // 1_000_000}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")
    log.warning("state.rebuilt", path=str(path), kept=str(aside), error=str(why))


@contextlib.contextmanager
def _rebuild_lock(path: Path) -> Iterator[None]:
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        make_private(descriptor, path.parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_damage(exc: Exception) -> bool:
    if isinstance(exc, CorruptDatabase):
        return True
    code = getattr(exc, "sqlite_errorcode", None) or 0
    missing = isinstance(exc, sqlite3.OperationalError) and str(exc).startswith("no such")
    return missing or code == _IOERR_SHORT_READ or code & 0xFF in _DAMAGE


def _as_ours(exc: Exception, path: Path) -> OcisyncError:
    code = (getattr(exc, "sqlite_errorcode", None) or 0) & 0xFF
    if code in _DISK:
        return DiskError(f"{path}: the ledger cannot be used: {exc}; look at the disk's space and permissions")
    return StoreError(f"{path}: the ledger failed: {exc}", code="state.failed")


def version_of(connection: sqlite3.Connection) -> int:
    """How many steps the file has seen."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection, steps: Sequence[str] = STEPS) -> int:
    """Bring the schema to the present version, one transaction per step; return the version it had.

    Raises:
        NewerSchema: the file has seen more steps than this program knows.
    """
    before = version_of(connection)
    if before > len(steps):
        raise NewerSchema(f"its schema is version {before}; this program knows {len(steps)}")
    for number, step in enumerate(steps[before:], start=before + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {step}; PRAGMA user_version = {number}; COMMIT;")
    return before
