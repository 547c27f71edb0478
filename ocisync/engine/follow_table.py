"""The table `follow`: which unit is due when, and who has it. Times are the database's, so that clocks may differ."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocisync.engine.units import Unit
from ocisync.engine.worker_table import Abilities
from ocisync.model.text.outside_json import storable
from ocisync.state.rule_records import RuleStatus

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.AsyncConnection[Any]

_PUT = """
INSERT INTO follow (rule, item, lock, host, label, generation, is_found, due_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, now() + make_interval(secs => %s))
ON CONFLICT (rule, item) DO UPDATE SET lock = excluded.lock, host = excluded.host, label = excluded.label,
    generation = excluded.generation
"""
# Round robin over rules, what was asked for first; never more of them than fit into the queue, and of one lock one at a
# time. Nothing for hosts that rest, nor for labels that nobody has.
_DUE = """
SELECT id, rule, item, lock, label, attempt + 1 FROM follow JOIN (
    SELECT id AS chosen, row_number() OVER (PARTITION BY rule ORDER BY is_wanted DESC, due_at) AS place,
        row_number() OVER (PARTITION BY lock ORDER BY is_wanted DESC, due_at) AS turn
    FROM follow WHERE job IS NULL AND due_at <= now() AND generation = %s AND (label = '' OR label = ANY(%s))
        AND NOT host = ANY(%s) AND NOT EXISTS (
            SELECT FROM follow AS other WHERE other.job IS NOT NULL AND other.lock = follow.lock)
) AS ranked ON chosen = id
WHERE job IS NULL AND turn = 1 ORDER BY is_wanted DESC, place, due_at LIMIT %s FOR UPDATE OF follow SKIP LOCKED
"""
_HAND_OUT = "UPDATE follow SET job = %s, attempt = %s, is_wanted = FALSE, worker = '', started_at = NULL WHERE id = %s"
_START = (
    "UPDATE follow SET worker = %s, started_at = now() WHERE id = %s AND attempt = %s AND job IS NOT NULL RETURNING id"
)
# A unit that was asked for while it ran is due at once.
_FINISH = """
UPDATE follow SET job = NULL, worker = '', started_at = NULL, failures = %(failures)s, code = %(code)s,
    message = %(message)s, present_interval = %(interval)s,
    last_success = CASE WHEN %(ok)s THEN now() ELSE last_success END,
    last_failure = CASE WHEN %(ok)s THEN last_failure ELSE now() END,
    due_at = CASE WHEN is_wanted THEN now() ELSE now() + make_interval(secs => %(wait)s) END
WHERE id = %(id)s AND attempt = %(attempt)s RETURNING id
"""
_RETURN = """
UPDATE follow SET job = NULL, worker = '', started_at = NULL, due_at = now() + make_interval(secs => %s)
WHERE id = %s AND attempt = %s
"""
_WANT = """
UPDATE follow SET is_wanted = TRUE, present_interval = NULL,
    due_at = CASE WHEN job IS NULL THEN least(due_at, now() + make_interval(secs => %s)) ELSE due_at END
WHERE rule = %s AND (%s OR item = ANY(%s))
"""
_LOST = """
UPDATE follow SET job = NULL, worker = '', started_at = NULL, due_at = now() WHERE job IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM procrastinate_jobs AS one WHERE one.id = follow.job AND one.status IN ('todo', 'doing')
) RETURNING rule, item
"""
_UNBEGUN = """
SELECT one.id FROM procrastinate_jobs AS one LEFT JOIN follow ON follow.job = one.id
WHERE one.status = 'doing' AND (follow.id IS NULL OR follow.worker = '')
"""
_FEW = 16  # units of a rule, up to which it is summed up whenever one of them ends; others wait for the next sweep
# A rule did all it should when its slowest unit did, and a new one changes that only once it ran; it fails while any of
# its units does.
_SUM_UP = """
INSERT INTO rule (name, last_started, last_success, last_failure, code, message, failures, next_due, present_interval)
SELECT rule, extract(epoch FROM now()),
    CASE WHEN bool_and(last_success IS NOT NULL) THEN extract(epoch FROM min(last_success)) END,
    extract(epoch FROM max(last_failure)),
    coalesce((array_agg(code ORDER BY failures DESC))[1], ''),
    coalesce((array_agg(message ORDER BY failures DESC))[1], ''),
    max(failures), extract(epoch FROM min(due_at)), max(present_interval)
FROM follow WHERE {which} GROUP BY rule
ON CONFLICT (name) DO UPDATE SET last_started = excluded.last_started,
    last_success = coalesce(excluded.last_success, rule.last_success), present_interval = excluded.present_interval,
    last_failure = excluded.last_failure, code = excluded.code, message = excluded.message,
    failures = excluded.failures, next_due = excluded.next_due
"""
_SUM_UP_FEW = _SUM_UP.format(
    which=f"rule = %s AND (SELECT count(*) FROM (SELECT FROM follow WHERE rule = %s LIMIT {_FEW + 1}) AS u) <= {_FEW}"
)
_SUM_UP_CHANGED = _SUM_UP.format(
    which="rule IN (SELECT rule FROM follow"
    " WHERE greatest(last_success, last_failure) > now() - make_interval(secs => %s))"
)
_COURSE = """
SELECT rule, count(*) FILTER (WHERE started_at IS NOT NULL), bool_or(is_wanted),
    count(*) FILTER (WHERE started_at IS NULL AND due_at <= now())
FROM follow WHERE job IS NOT NULL OR is_wanted OR due_at <= now() GROUP BY rule
"""


@dataclass(frozen=True, slots=True)
class Due:
    """A row that is to be handed out."""

    id: int
    rule: str
    item: str
    lock: str
    label: str
    attempt: int


@dataclass(frozen=True, slots=True)
class UnitOutcome:
    """What a unit came to."""

    failures: int  # in a row
    code: str
    message: str
    wait: float  # seconds until it is due again
    interval: float | None = None  # seconds; the present one, where it follows how often something changes

    @property
    def ok(self) -> bool:
        """Whether all is as the rule wants it."""
        return not self.code


@dataclass(frozen=True, slots=True)
class RuleCourse:
    """What the units of a rule are at."""

    running: int = 0
    is_wanted: bool = False
    waiting: int = 0  # due, and not begun


async def replace_units(
    connection: Connection,
    units: Sequence[Unit],
    generation: str,
    *,
    waits: Mapping[str, float] | None = None,
    edited: Collection[str] = (),
) -> None:
    """Have these units in the table and none of others, but for those that rules found themselves and may keep.

    `waits`: rule -> seconds until its new units are due. `edited`: the rules that are due at once where this is the
    first time that the table hears of the generation.
    """
    waits = waits or {}
    async with connection.transaction():
        await connection.execute(
            "UPDATE follow SET is_wanted = TRUE, due_at = CASE WHEN job IS NULL THEN now() ELSE due_at END"
            " WHERE rule = ANY(%s) AND generation <> %s",
            (list(edited), generation),
        )
        await _put(connection, units, generation, waits, is_found=False)
        rules = sorted({unit.rule for unit in units})
        whole = sorted({unit.rule for unit in units if not unit.item})
        await connection.execute(
            "DELETE FROM follow WHERE generation <> %s AND NOT (is_found AND rule = ANY(%s))", (generation, whole)
        )
        await connection.execute("UPDATE follow SET generation = %s WHERE is_found", (generation,))
        await connection.execute("DELETE FROM rule WHERE NOT (name = ANY(%s))", (rules,))


async def replace_found(connection: Connection, rule: str, units: Sequence[Unit], generation: str) -> None:
    """Have these repositories of a rule that finds them itself, and no others."""
    async with connection.transaction():
        await _put(connection, units, generation, {}, is_found=True)
        await connection.execute(
            "DELETE FROM follow WHERE rule = %s AND is_found"
            " AND NOT EXISTS (SELECT FROM unnest(%s::text[]) AS kept WHERE kept = follow.item)",
            (rule, [unit.item for unit in units]),
        )


async def _put(
    connection: Connection, units: Iterable[Unit], generation: str, waits: Mapping[str, float], *, is_found: bool
) -> None:
    rows = [
        (unit.rule, unit.item, unit.lock, unit.host, unit.label, generation, is_found, waits.get(unit.rule, 0.0))
        for unit in units
    ]
    async with connection.cursor() as cursor:
        await cursor.executemany(_PUT.encode(), rows)


async def find_due(connection: Connection, generation: str, abilities: Abilities, most: int) -> list[Due]:
    """Rows that are due and that daemons can do now, locked until the transaction ends."""
    values = (generation, list(abilities.labels), list(abilities.resting), most)
    rows = await (await connection.execute(_DUE.encode(), values)).fetchall()
    return [Due(*row) for row in rows]


async def hand_out(connection: Connection, due: Due, job: int) -> None:
    """Note the job that a row was handed to."""
    await connection.execute(_HAND_OUT.encode(), (job, due.attempt, due.id))


async def start(connection: Connection, unit: int, attempt: int, worker: str) -> bool:
    """Note who has begun; False when the row has been handed to another since."""
    return await (await connection.execute(_START.encode(), (worker, unit, attempt))).fetchone() is not None


async def finish(connection: Connection, rule: str, unit: int, attempt: int, outcome: UnitOutcome) -> bool:
    """Record what became of a unit and of its rule; False when the row has been handed to another since."""
    values = {
        "id": unit,
        "attempt": attempt,
        "failures": outcome.failures,
        "code": outcome.code,
        "message": storable(outcome.message),
        "ok": outcome.ok,
        "wait": outcome.wait,
        "interval": outcome.interval,
    }
    async with connection.transaction():
        if await (await connection.execute(_FINISH.encode(), values)).fetchone() is None:
            return False
        await connection.execute(_SUM_UP_FEW.encode(), (rule, rule))
        return True


async def sum_up_changed(connection: Connection, within: float) -> None:
    """Have the records of rules tell of all units that ended within so many seconds."""
    await connection.execute(_SUM_UP_CHANGED.encode(), (within,))


async def list_statuses(connection: Connection) -> dict[str, RuleStatus]:
    """What was recorded of each rule: also before it had units."""
    columns = "name, last_started, last_success, last_failure, code, message, failures, next_due, present_interval"
    rows = await (await connection.execute(f"SELECT {columns} FROM rule".encode())).fetchall()
    return {row[0]: RuleStatus(*row[1:]) for row in rows}


async def get_time(connection: Connection) -> float:
    """The database's clock: seconds since the epoch."""
    row = await (await connection.execute(b"SELECT extract(epoch FROM clock_timestamp())::float8")).fetchone()
    return float(row[0]) if row else 0.0


async def list_rules(connection: Connection) -> set[str]:
    """The rules that have units."""
    return {str(rule) for (rule,) in await (await connection.execute(b"SELECT DISTINCT rule FROM follow")).fetchall()}


async def count_left(connection: Connection, rules: Sequence[str], since: float) -> tuple[int, int]:
    """How many units of rules have not ended since a moment, or are to begin again; and how many there are."""
    query = """
SELECT count(*) FILTER (WHERE is_wanted OR job IS NOT NULL
    OR greatest(last_success, last_failure, to_timestamp(0)) < to_timestamp(%s)), count(*)
FROM follow WHERE rule = ANY(%s)
"""
    row = await (await connection.execute(query.encode(), (since, list(rules)))).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


async def list_failing(connection: Connection, most: int) -> list[tuple[float, str, str, str, str]]:
    """The units that fail, the newest first: seconds since the epoch, rule, item, code and message."""
    query = (
        "SELECT extract(epoch FROM last_failure)::float8, rule, item, code, message FROM follow"
        " WHERE code <> '' ORDER BY last_failure DESC LIMIT %s"
    )
    return await (await connection.execute(query, (most,))).fetchall()


async def list_courses(connection: Connection) -> dict[str, RuleCourse]:
    """The rules of which units run, wait or are wanted."""
    rows = await (await connection.execute(_COURSE.encode())).fetchall()
    return {str(rule): RuleCourse(int(running), bool(wanted), int(waiting)) for rule, running, wanted, waiting in rows}


async def give_back(connection: Connection, unit: int, attempt: int, wait: float) -> None:
    """Have a unit handed out again in so many seconds."""
    await connection.execute(_RETURN.encode(), (wait, unit, attempt))


async def want(connection: Connection, rule: str, items: Sequence[str] | None, within: float) -> bool:
    """Make units of a rule due within so many seconds, all or the named ones; whether there are any."""
    cursor = await connection.execute(_WANT.encode(), (within, rule, items is None, list(items or ())))
    return cursor.rowcount > 0


async def recover_lost(connection: Connection) -> list[tuple[str, str]]:
    """Make due what was handed to jobs that are gone; their rules and items."""
    rows = await (await connection.execute(_LOST.encode())).fetchall()
    return [(str(rule), str(item)) for rule, item in rows]


async def list_unbegun(connection: Connection) -> list[int]:
    """The jobs that a worker has fetched, of which no unit has begun or is known."""
    return [int(job) for (job,) in await (await connection.execute(_UNBEGUN.encode())).fetchall()]


async def count_out(connection: Connection, resting: Collection[str]) -> int:
    """How many rows are handed out; those that were begun and wait for a host that rests keep no place."""
    query = "SELECT count(*) FROM follow WHERE job IS NOT NULL AND NOT (host = ANY(%s) AND started_at IS NOT NULL)"
    row = await (await connection.execute(query, (list(resting),))).fetchone()
    return int(row[0]) if row else 0


async def get_course(connection: Connection, unit: int) -> tuple[int, float | None]:
    """How often in a row a unit failed, and its present interval in seconds."""
    query = b"SELECT failures, present_interval FROM follow WHERE id = %s"
    row = await (await connection.execute(query, (unit,))).fetchone()
    return (int(row[0]), row[1]) if row else (0, None)
