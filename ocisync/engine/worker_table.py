"""The table `worker`: which daemons share the work, and how many jobs each takes at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.AsyncConnection[Any]

ALIVE = 15.0  # seconds since a daemon was seen last; it is seen every two
_SEEN = """
INSERT INTO worker (id, seen_at, slots, labels, generation, activity, resting, pauses)
VALUES (%(id)s, now(), %(slots)s, %(labels)s, %(generation)s, %(activity)s, %(resting)s, %(pauses)s)
ON CONFLICT (id) DO UPDATE SET seen_at = now(), generation = excluded.generation, activity = excluded.activity,
    resting = excluded.resting, pauses = excluded.pauses
"""
_OTHERS = "SELECT id, activity FROM worker WHERE id <> %s AND seen_at > now() - make_interval(secs => %s) ORDER BY id"
_PAUSES = """
SELECT pauses, extract(epoch FROM now() - seen_at)::float8 FROM worker
WHERE id <> %s AND pauses <> '{}' AND seen_at > now() - make_interval(secs => %s)
"""
_ALIVE = "SELECT count(*), coalesce(sum(slots), 0) FROM worker WHERE seen_at > now() - make_interval(secs => %s)"


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life."""

    worker: str
    slots: int
    labels: Sequence[str]
    generation: str
    activity: str = "[]"  # what it does, as `fleet_view.write_jobs` says it
    resting: Collection[str] = ()  # hosts that it must leave alone for long
    pauses: Mapping[str, float] = field(default_factory=dict)  # for how many seconds more, of all that asked for it


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the daemons that are alive can do and cannot, all together."""

    labels: Collection[str]
    resting: Collection[str]  # hosts that one of them must leave alone


async def beat(connection: Connection, sign: Beat) -> None:
    """Note that a daemon is alive, and what it does."""
    values = {
        "id": sign.worker,
        "slots": sign.slots,
        "labels": ",".join(sign.labels),
        "generation": sign.generation,
        "activity": sign.activity,
        "resting": ",".join(sorted(sign.resting)),
        "pauses": json.dumps(sign.pauses),
    }
    await connection.execute(_SEEN.encode(), values)


async def list_activities(connection: Connection, worker: str) -> list[tuple[str, str]]:
    """What the other daemons do: their names, and what they wrote."""
    return await (await connection.execute(_OTHERS.encode(), (worker, ALIVE))).fetchall()


async def list_pauses(connection: Connection, worker: str) -> dict[str, float]:
    """For how many seconds more hosts want to be left alone by other daemons."""
    found: dict[str, float] = {}
    for text, age in await (await connection.execute(_PAUSES.encode(), (worker, ALIVE))).fetchall():
        for host, seconds in json.loads(text).items():
            found[host] = max(found.get(host, 0.0), seconds - age)
    return found


async def list_abilities(connection: Connection) -> Abilities:
    """The labels of the daemons that are alive, and the hosts that rest."""
    query = b"SELECT labels, resting FROM worker WHERE seen_at > now() - make_interval(secs => %s)"
    rows = await (await connection.execute(query, (ALIVE,))).fetchall()
    return Abilities(*({name for row in rows for name in row[column].split(",") if name} for column in (0, 1)))


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
