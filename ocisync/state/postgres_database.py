"""The state in PostgreSQL: one connection behind one thread, made anew when the server was away.

Everything is in the schema `ocisync`, so that one database may serve other programs too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from anyio import CapacityLimiter, to_thread

from ocisync.content.failpoints import failpoint
from ocisync.errors import ConfigError, Handling, StoreError
from ocisync.logs import clean
from ocisync.state.batching import BatchExecutor, PendingCall
from ocisync.state.postgres_schema import STEPS
from ocisync.state.rows import CorruptDatabase, Found, Rows

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

SCHEMA = "ocisync"
CONNECT_WAIT = 10  # seconds for one connection
_PATIENCE = 20.0  # seconds in which a lost server may come back before what was asked fails
_PAUSE = 0.5  # seconds between two tries
_MIGRATION = 0x6F636973  # the advisory lock of whoever changes the schema


class PostgresRows:
    """A transaction with SQLite's face: `?` for values."""

    __slots__ = ("_connection",)

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, query: str, values: Sequence[object] = (), /) -> Found:
        """Run one statement."""
        return cast("Found", self._connection.execute(query.replace("?", "%s").encode(), values or None))

    def executemany(self, query: str, values: Iterable[Sequence[object]], /) -> object:
        """Run one statement for each row of values; the driver sends them together."""
        with self._connection.cursor() as cursor:
            cursor.executemany(query.replace("?", "%s").encode(), list(values))
        return None


class PostgresDatabase:
    """A `Database` in PostgreSQL. What the server cuts off is run once more on a new connection.

    The statements of records write whole rows in place of others, so that a transaction whose commit was cut off may be
    run twice.
    """

    def __init__(self, dsn: str, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self._dsn = dsn
        self._limiter = CapacityLimiter(1)
        self._executor = BatchExecutor(self._run_batch, self._limiter)
        self._connection: psycopg.Connection[Any] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            ConfigError: psycopg is not installed, or the schema is not the one that this program knows.
            StoreError: the server cannot be reached, or refuses.
        """
        await to_thread.run_sync(self._open, limiter=self._limiter)

    async def close(self) -> None:
        """Disconnect; what was committed stays."""
        await to_thread.run_sync(self._close, limiter=self._limiter)

    async def read(self, act: Callable[[Rows], T]) -> T:
        """Run queries.

        Raises:
            StoreError: the server cannot be used now.
        """
        return cast("T", await self._executor.ask(PendingCall(act, is_write=False)))

    async def write(self, act: Callable[[Rows], T]) -> T:
        """Run statements, all of them or none; raises as `read` does."""
        return cast("T", await self._executor.ask(PendingCall(act, is_write=True)))

    def _open(self) -> None:
        import psycopg

        try:
            self._connection = connect(self._dsn)
            check_schema(self._connection)
        except psycopg.Error as exc:
            raise _as_ours(exc) from exc
        except ConfigError:
            self._close()
            raise

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
        self._connection = None

    def _run_batch(self, calls: Sequence[PendingCall]) -> None:
        if len(calls) > 1:
            try:
                results = self._run_guarded(partial(_run_all, calls))
            except Exception:  # noqa: BLE001 (met again, and told, when each is done by itself)
                results = []
            for call, result in zip(calls, results, strict=False):
                call.finish(result)
        for call in calls:
            if call.is_done:
                continue
            try:
                call.finish(self._run_guarded(partial(_run_all, [call]))[0])
            except Exception as exc:  # noqa: BLE001 (raised where it was asked for)
                call.finish(None, exc)

    def _run_guarded(self, act: Callable[[psycopg.Connection[Any]], T]) -> T:
        import psycopg

        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = connect(self._dsn)
                return act(self._connection)
            except CorruptDatabase as exc:
                raise StoreError(f"the ledger in PostgreSQL: {exc}", code="state.failed") from exc
            except psycopg.OperationalError as exc:
                self._close()
                if time.monotonic() > deadline:
                    raise _as_ours(exc) from exc
                time.sleep(_PAUSE)
            except psycopg.Error as exc:
                raise _as_ours(exc) from exc


def connect(dsn: str) -> psycopg.Connection[Any]:
    """A connection whose names are those of our schema.

    Raises:
        ConfigError: psycopg is not installed.
        psycopg.Error: the server cannot be reached, or refuses.
    """
    try:
        import psycopg
    except ImportError as exc:
        raise ConfigError(
            "engine.type postgres needs psycopg and procrastinate: pip install 'ocisync[postgres]'",
            code="engine.missing",
        ) from exc
    connection = psycopg.connect(dsn, connect_timeout=CONNECT_WAIT, autocommit=True, **KEEP_ALIVE)
    connection.execute(f"SET search_path TO {SCHEMA}".encode())
    return connection


# A worker whose network is gone must lose its session soon, and notice it soon: both ends probe.
KEEP_ALIVE: dict[str, Any] = {
    "application_name": "ocisync",
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}


def check_schema(connection: psycopg.Connection[Any]) -> None:
    """See that the tables are those that this program knows.

    Raises:
        ConfigError: they are missing, older or newer.
    """
    version = version_of(connection)
    if version == len(STEPS):
        return
    state = "has no tables of ocisync yet" if version == 0 else f"has ocisync's tables of version {version}"
    cure = "update this ocisync" if version > len(STEPS) else "run `ocisync engine migrate`"
    raise ConfigError(
        f"the PostgreSQL database {state}; this ocisync needs version {len(STEPS)}: {cure}", code="engine.schema"
    )


def version_of(connection: psycopg.Connection[Any]) -> int:
    """How many steps of the schema the database has seen."""
    found = connection.execute("SELECT to_regclass('ocisync.schema_version')").fetchone()
    if found is None or found[0] is None:
        return 0
    row = connection.execute("SELECT version FROM ocisync.schema_version").fetchone()
    return int(row[0]) if row else 0


def migrate(dsn: str, more: Callable[[psycopg.Connection[Any]], None] | None = None) -> tuple[int, int]:
    """Bring the tables to the version that this program knows; return the version before and after.

    Several may run it at a time: one works, the others wait and find nothing to do. `more` runs within the same lock.

    Raises:
        ConfigError: the tables are newer than this program.
        StoreError: the server cannot be reached, or refuses.
    """
    import psycopg

    try:
        with connect(dsn) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", (_MIGRATION,))
            before = version_of(connection)
            if before > len(STEPS):
                check_schema(connection)
            for number, step in enumerate(STEPS[before:], start=before + 1):
                with connection.transaction():
                    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}".encode())
                    connection.execute(step.encode())
                    connection.execute("DELETE FROM schema_version")
                    connection.execute("INSERT INTO schema_version (version) VALUES (%s)", (number,))
            if more is not None:
                more(connection)
            return before, len(STEPS)
    except psycopg.Error as exc:
        raise _as_ours(exc) from exc


def _run_all(calls: Sequence[PendingCall], connection: psycopg.Connection[Any]) -> list[object]:
    with connection.transaction():
        results = [call.act(PostgresRows(connection)) for call in calls]
        failpoint("ledger")
    return results


def _as_ours(exc: Exception) -> StoreError:
    text = clean(" ".join(str(exc).split()))
    return StoreError(f"PostgreSQL: {text}", code="state.unreachable", handling=Handling.RETRY)
