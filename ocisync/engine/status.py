"""What `ocisync engine status` shows: the daemons, what each works on, and what waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocisync.engine.locks import connected
from ocisync.engine.scheduler import describe
from ocisync.engine.worker_table import ALIVE
from ocisync.errors import StoreError

if TYPE_CHECKING:
    import psycopg

_WORKERS = """
SELECT id, extract(epoch FROM now() - seen_at)::float8, extract(epoch FROM now() - started_at)::float8,
    slots, labels, generation, seen_at > now() - make_interval(secs => %s)
FROM worker ORDER BY id
"""
_RUNNING = """
SELECT worker, rule, item, extract(epoch FROM now() - started_at)::float8 FROM follow
WHERE started_at IS NOT NULL ORDER BY started_at
"""
# Why a row that is due waits: it is handed out and waits for a slot or for another of its lock, or it is not yet.
_WAITING = """
SELECT one.rule, one.item, extract(epoch FROM now() - one.due_at)::float8,
    CASE WHEN one.job IS NULL AND one.label <> '' AND NOT EXISTS (
             SELECT 1 FROM worker WHERE one.label = ANY(string_to_array(labels, ','))
                 AND seen_at > now() - make_interval(secs => %s))
         THEN 'for a daemon with the label ' || one.label
         WHEN EXISTS (SELECT FROM follow AS other
             WHERE other.lock = one.lock AND other.job IS NOT NULL AND other.id <> one.id)
         THEN 'for another that writes to the same target'
         WHEN EXISTS (SELECT FROM worker WHERE one.host = ANY(string_to_array(resting, ','))
             AND seen_at > now() - make_interval(secs => %s))
         THEN 'for ' || one.host || ', which is to be left alone'
         WHEN one.job IS NULL THEN 'to be handed out'
         ELSE 'for a slot' END
FROM follow AS one WHERE one.started_at IS NULL AND one.due_at <= now() ORDER BY one.due_at LIMIT 1000
"""
_NEXT = "SELECT count(*), extract(epoch FROM min(due_at) - now())::float8 FROM follow WHERE due_at > now()"


@dataclass(frozen=True, slots=True)
class WorkerNow:
    """A daemon. Times are in seconds."""

    id: str
    seen: float  # ago
    age: float
    slots: int
    labels: str
    generation: str
    is_alive: bool


@dataclass(frozen=True, slots=True)
class UnitNow:
    """A unit that runs or waits."""

    rule: str
    item: str
    seconds: float  # since it began, or since it is due
    worker: str = ""  # who works on it
    reason: str = ""  # why it waits


@dataclass(frozen=True, slots=True)
class EngineNow:
    """The engine as a whole."""

    workers: list[WorkerNow]
    running: list[UnitNow]
    waiting: list[UnitNow]
    later: int  # units that are not due yet
    next_due: float | None  # seconds until the first of them is


async def look(dsn: str) -> EngineNow:
    """Ask the database.

    Raises:
        StoreError: it cannot be reached, or has no tables of ours.
    """
    try:
        async with connected(dsn) as connection:
            workers = [WorkerNow(*row) for row in await _ask(connection, _WORKERS, ALIVE)]
            running = [
                UnitNow(str(rule), str(item), float(seconds), str(worker))
                for worker, rule, item, seconds in await _ask(connection, _RUNNING)
            ]
            waiting = [
                UnitNow(str(rule), str(item), float(seconds), reason=str(reason))
                for rule, item, seconds, reason in await _ask(connection, _WAITING, ALIVE, ALIVE)
            ]
            [(later, next_due)] = await _ask(connection, _NEXT)
    except Exception as exc:
        raise StoreError(f"PostgreSQL: {describe(exc)}", code="state.unreachable") from exc
    return EngineNow(workers, running, waiting, int(later), None if next_due is None else float(next_due))


async def _ask(connection: psycopg.AsyncConnection[Any], query: str, *values: object) -> list[Any]:
    return await (await connection.execute(query.encode(), values or None)).fetchall()
