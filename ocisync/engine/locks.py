"""One writer per target repository over all daemons: PostgreSQL's advisory locks, held by a session of our own."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anyio
import structlog

from ocisync.state.postgres_database import CONNECT_WAIT, KEEP_ALIVE, SCHEMA

if TYPE_CHECKING:
    import psycopg

log = structlog.get_logger(__name__)

_LOOK = 0.5  # seconds between two tries for a lock that another session holds
_BEAT = 2.0  # seconds between two looks whether the session lives
_GRACE = 30.0  # seconds without a session after which work is given up: by then the server gave the locks to others
_TRY = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
_RELEASE = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))"


class LockLost(Exception):
    """The session ended, and another has the lock now: what was done under it must stop."""


class SessionLocks:
    """Locks by name. They are the session's: the server frees them when this process or its network dies.

    A process that is stopped (SIGSTOP) keeps its session, so that nobody does its work twice. When the session is cut
    off, the locks are taken again on a new one; where that fails, because another daemon has one meanwhile or the
    server stays away, the work under it is cancelled.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._turn = anyio.Lock()
        self._held: dict[str, anyio.CancelScope | None] = {}  # None: no block to cancel
        self._lost: set[str] = set()

    async def serve(self) -> None:
        """Keep the session, until cancelled."""
        last_seen, is_lost = anyio.current_time(), False
        try:
            while True:
                try:
                    async with self._turn:
                        await (await self._ensure()).execute("SELECT 1")
                    last_seen, is_lost = anyio.current_time(), False
                except Exception as exc:  # noqa: BLE001 (whatever the driver raises: the session is gone)
                    await self._drop()
                    if not is_lost:
                        log.warning("engine.session_lost", error=str(exc).strip())
                    is_lost = True
                    if anyio.current_time() - last_seen > _GRACE:
                        self._give_up(list(self._held))
                await anyio.sleep(_BEAT)
        finally:
            with anyio.CancelScope(shield=True):
                await self._drop()

    @contextlib.asynccontextmanager
    async def hold(self, name: str, patience: float = math.inf) -> AsyncIterator[bool]:
        """Hold a lock while the block runs; False when another has it for longer than `patience` seconds.

        Raises:
            LockLost: the lock went to another meanwhile; the block was cancelled.
        """
        if not await self._acquire(name, patience):
            yield False
            return
        try:
            with anyio.CancelScope() as scope:
                self._held[name] = scope
                yield True
            if name in self._lost:
                raise LockLost(name)
        finally:
            with anyio.CancelScope(shield=True):
                await self._release(name)

    async def try_once(self, name: str) -> bool:
        """Take a lock that is kept for as long as the session lasts; whether it is ours."""
        return name in self._held or await self._acquire(name, 0.0)

    async def release(self, name: str) -> None:
        """Give back a lock that `try_once` took."""
        if name in self._held:
            await self._release(name)

    async def _acquire(self, name: str, patience: float) -> bool:
        deadline = anyio.current_time() + patience
        while True:
            if name not in self._held and await self._try(name):
                return True
            if anyio.current_time() >= deadline:
                return False
            await anyio.sleep(_LOOK)

    async def _try(self, name: str) -> bool:
        async with self._turn:
            try:
                connection = await self._ensure()
                if name in self._held or not await _ask(connection, _TRY, name):
                    return False
            except Exception as exc:  # noqa: BLE001 (whatever the driver raises: there is no session now)
                log.debug("engine.lock_failed", lock=name, error=str(exc).strip())
                await self._drop()
                return False
            self._held[name] = None
            self._lost.discard(name)
            return True

    async def _release(self, name: str) -> None:
        self._held.pop(name, None)
        self._lost.discard(name)
        async with self._turn:
            if self._connection is None:
                return
            try:
                await _ask(self._connection, _RELEASE, name)
            except Exception as exc:  # noqa: BLE001 (a session that is gone holds nothing)
                log.debug("engine.lock_failed", lock=name, error=str(exc).strip())
                await self._drop()

    async def _ensure(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is not None:
            return self._connection
        self._connection = connection = await open_connection(self._dsn)
        taken = [name for name in self._held if not await _ask(connection, _TRY, name)]
        self._give_up(taken)
        return connection

    def _give_up(self, names: list[str]) -> None:
        for name in names:
            scope = self._held.get(name)
            self._lost.add(name)
            if scope is None:
                self._held.pop(name, None)
            else:
                log.warning("engine.lock_lost", lock=name)
                scope.cancel()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close()


async def open_connection(dsn: str) -> psycopg.AsyncConnection[Any]:
    """A connection whose names are those of our schema."""
    import psycopg

    return await psycopg.AsyncConnection.connect(
        dsn, connect_timeout=CONNECT_WAIT, autocommit=True, options=f"-c search_path={SCHEMA}", **KEEP_ALIVE
    )


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection for a block. psycopg's own block rolls back first, and when cancelled there it leaves it open."""
    connection = await open_connection(dsn)
    try:
        yield connection
    finally:
        with anyio.CancelScope(shield=True):
            await connection.close()


async def _ask(connection: psycopg.AsyncConnection[Any], query: str, name: str) -> bool:
    found = await (await connection.execute(query.encode(), (name,))).fetchone()
    return bool(found and found[0])
