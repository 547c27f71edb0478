"""The table `worker`: which daemons share the work, and how many jobs each takes at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.AsyncConnection[Any]

ALIVE = 15.0  # seconds since a daemon was seen last; it is seen every two
_SEEN = """
INSERT INTO worker (id, seen_at, slots, labels, generation, activity) VALUES (%s, now(), %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET seen_at = now(), generation = excluded.generation, activity = excluded.activity
"""
_OTHERS = "SELECT id, activity FROM worker WHERE id <> %s AND seen_at > now() - make_interval(secs => %s) ORDER BY id"
_ALIVE = "SELECT count(*), coalesce(sum(slots), 0) FROM worker WHERE seen_at > now() - make_interval(secs => %s)"


async def beat(
    connection: Connection, worker: str, slots: int, labels: Sequence[str], generation: str, activity: str
) -> None:
    """Note that a daemon is alive, and what it does."""
    await connection.execute(_SEEN.encode(), (worker, slots, ",".join(labels), generation, activity))


async def list_activities(connection: Connection, worker: str) -> list[tuple[str, str]]:
    """What the other daemons do: their names, and what they wrote."""
    return await (await connection.execute(_OTHERS.encode(), (worker, ALIVE))).fetchall()


async def list_labels(connection: Connection) -> set[str]:
    """The labels of the daemons that are alive."""
    query = b"SELECT labels FROM worker WHERE seen_at > now() - make_interval(secs => %s)"
    rows = await (await connection.execute(query, (ALIVE,))).fetchall()
    return {label for (labels,) in rows for label in labels.split(",") if label}


async def leave(connection: Connection, worker: str) -> None:
    """Note that a daemon has ended."""
    await connection.execute(b"DELETE FROM worker WHERE id = %s", (worker,))


async def count_alive(connection: Connection) -> tuple[int, int]:
    """How many daemons are alive, and their slots together."""
    row = await (await connection.execute(_ALIVE.encode(), (ALIVE,))).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


async def list_mine(connection: Connection, worker: str) -> list[tuple[int, int]]:
    """The rows and attempts that a daemon is said to work on."""
    query = b"SELECT id, attempt FROM follow WHERE worker = %s AND job IS NOT NULL"
    rows = await (await connection.execute(query, (worker,))).fetchall()
    return [(int(unit), int(attempt)) for unit, attempt in rows]
