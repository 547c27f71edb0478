"""Hands out what is due. Whoever holds its lock does it; two at a time, for a moment, do no harm."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import structlog

from ocisync.content.concurrency import Wakeup
from ocisync.daemon.schedule import Schedule, first_wait
from ocisync.engine import follow_table, worker_table
from ocisync.engine.follow_table import Due
from ocisync.engine.locks import SessionLocks, connected
from ocisync.engine.units import Unit
from ocisync.state.rule_records import RuleStatus

if TYPE_CHECKING:
    import psycopg
    from procrastinate import App

log = structlog.get_logger(__name__)

LOCK = "ocisync dispatcher"
TASK = "ocisync.unit"
TURN = 1.0  # seconds between two looks for what is due
_QUICK_TURN = 0.2  # the same while more is due than fits into the queue; never less than a few times what a look takes
_REST = 5  # times what a look takes
SWEEP = 5.0  # seconds between two looks for work that was lost
STALLED = 25.0  # seconds without a heartbeat (one comes every 10) after which a worker counts as dead
_UNBEGUN = 3  # sweeps in which a job is `doing` though no unit of it has begun, after which its worker has forgotten it
_BACKLOG = 2  # times all slots: procrastinate finds the next job of a short queue faster


class Dispatcher:
    """Moves due rows into procrastinate's queue, round robin by rule, and takes back what dead workers had.

    procrastinate's own retries and schedules are not used: a job that is re-queued while its follow-up waits breaks the
    unique index of the queueing lock and stays `doing` for good (procrastinate #1543, #1446), and a job that is
    scheduled for later keeps a ready one of the same lock waiting (#1599). Here a row is due or it is not, and a job
    that has ended, in whatever way, is gone.
    """

    def __init__(self, dsn: str, app: App, locks: SessionLocks, slots: Callable[[], int]) -> None:
        """`slots`: the jobs at a time of all daemons together."""
        self._dsn = dsn
        self._app = app
        self._locks = locks
        self._slots = slots
        self._units: tuple[Unit, ...] = ()
        self._generation = ""
        self._schedules: Mapping[str, Schedule] = {}
        self._edited: Collection[str] = ()
        self._is_loaded = False
        self._unbegun: dict[int, int] = {}  # job -> sweeps
        self.wakeup = Wakeup()

    def replace(
        self,
        units: Iterable[Unit],
        generation: str,
        schedules: Mapping[str, Schedule] | None = None,
        edited: Collection[str] = (),
    ) -> None:
        """Hand out these units from now on; new ones when their schedules say so, those of edited rules at once."""
        self._units, self._generation = tuple(units), generation
        self._schedules, self._edited = schedules or {}, edited
        self._is_loaded = False
        self.wakeup.set()

    async def serve(self) -> None:
        """Work until cancelled; an error of the database ends it, and the caller starts it anew."""
        swept = 0.0
        self._is_loaded = False
        async with connected(self._dsn) as connection:
            while True:
                wait = TURN
                if await self._locks.try_once(LOCK):
                    if not self._is_loaded:
                        await self._load(connection)
                    began = anyio.current_time()
                    if began - swept >= SWEEP:
                        await self._sweep(connection)
                        swept = began
                    if await self._hand_out(connection):
                        wait = min(TURN, max(_QUICK_TURN, _REST * (anyio.current_time() - began)))
                else:
                    self._is_loaded = False
                await self.wakeup.wait(wait)

    async def _load(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Have the present units in the table; a new one begins when its rule would, had one daemon all the work."""
        self._is_loaded = True  # a reload meanwhile sets it back
        known = await follow_table.list_statuses(connection)
        waits = {
            rule: first_wait(schedule, known.get(rule, RuleStatus()), time.time())
            for rule, schedule in self._schedules.items()
        }
        await follow_table.replace_units(connection, self._units, self._generation, waits=waits, edited=self._edited)

    async def _hand_out(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """Hand out what is due and fits; whether more may be due."""
        abilities = await worker_table.list_abilities(connection)
        room = _BACKLOG * self._slots() - await follow_table.count_out(connection, abilities.resting)
        if room <= 0:
            return True
        async with connection.transaction():
            found = await follow_table.find_due(connection, self._generation, abilities, room)
            for due in found:
                job = await self._defer(connection, due)
                if job is not None:
                    await follow_table.hand_out(connection, due, job)
        return len(found) >= room

    async def _defer(self, connection: psycopg.AsyncConnection[Any], due: Due) -> int | None:
        """The new job's number; None while an older one of the same row still waits, which ends by itself."""
        from procrastinate.exceptions import AlreadyEnqueued

        deferrer = self._app.configure_task(
            TASK, lock=due.lock, queueing_lock=f"unit {due.id}", queue=queue_of(due.label), connection=connection
        )
        try:
            async with connection.transaction():
                return await deferrer.defer_async(
                    unit=due.id, rule=due.rule, item=due.item, attempt=due.attempt, generation=self._generation
                )
        except AlreadyEnqueued:
            return None

    async def _sweep(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Take back what dead workers had: their jobs are ended, and the rows are due."""
        from procrastinate.jobs import Status

        manager = self._app.job_manager
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED):
            if job.id is not None:
                await manager.finish_job_by_id_async(job.id, status=Status.FAILED, delete_job=True)
        await self._end_unbegun(connection)
        for rule, item in await follow_table.recover_lost(connection):
            log.warning("engine.recovered", rule=rule, source=item)
        await follow_table.sum_up_changed(connection, 3 * SWEEP)
        await connection.execute(b"DELETE FROM worker WHERE seen_at < now() - interval '1 hour'")

    async def _end_unbegun(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """End jobs that a living worker fetched and lost: the database was away when they began, or when they ended."""
        from procrastinate.jobs import Status

        found = await follow_table.list_unbegun(connection)
        self._unbegun = {job: self._unbegun.get(job, 0) + 1 for job in found}
        for job in [job for job, sweeps in self._unbegun.items() if sweeps >= _UNBEGUN]:
            await self._app.job_manager.finish_job_by_id_async(job, status=Status.FAILED, delete_job=True)


def queue_of(label: str) -> str:
    """The queue of procrastinate's from which daemons with a label take; empty: all of them."""
    return f"label {label}" if label else "all"
