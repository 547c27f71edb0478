"""The scheduler of a daemon that shares its work: PostgreSQL says what is due, procrastinate hands it to a process."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import structlog

from ocisync.content.backoff import Backoff
from ocisync.content.concurrency import Wakeup
from ocisync.daemon.queue import JobQueue
from ocisync.daemon.rule_set import JobRunner
from ocisync.daemon.schedule import Schedule, wait_after_run
from ocisync.daemon.status.activity import RunningJob
from ocisync.engine import follow_table, worker_table
from ocisync.engine.dispatcher import TASK, Dispatcher, queue_of
from ocisync.engine.fleet_view import FleetView, write_jobs
from ocisync.engine.follow_table import UnitOutcome
from ocisync.engine.locks import SessionLocks
from ocisync.engine.units import WHOLE, fingerprint, found_units, item_of, list_units
from ocisync.engine.worker_table import Beat
from ocisync.errors import StoreError
from ocisync.logs import clean
from ocisync.model.locator import parse_locator, registry_image
from ocisync.state.postgres_database import KEEP_ALIVE, SCHEMA
from ocisync.state.rule_records import RuleView
from ocisync.stores.registry.options import Share
from ocisync.sync.job import Job
from ocisync.sync.reports import Failure, RunReport

if TYPE_CHECKING:
    from procrastinate import App
    from procrastinate.worker import Worker

log = structlog.get_logger(__name__)

BEAT = 2.0  # seconds between two signs of life
ELSEWHERE = 5.0  # seconds after which another daemon may take what this one cannot
_HOLD = 2  # signs of life without a task after which a unit counts as forgotten
_MOST_STALLED = 32  # units that wait for a host that must be left alone, beside those that have slots
_LOOK = 1.0  # seconds between two looks whether one of those stands still
_RECORD_TIME = 60.0  # seconds in which an outcome is recorded, else the unit is looked at once more
_LOOK_TIME = 3.0  # seconds that a page, a request or a webhook waits for a connection
_FRESH = 10.0  # seconds for which metrics and alerts may tell of the same look; thousands of rules take a while to read
_RESTART = Backoff(0.5, 15.0)  # seconds before the database is tried again
_CONNECTIONS = (
    2  # for procrastinate and for what is recorded; three more are the state's, the locks' and the listener's
)

Unit = tuple[int, int]  # a row of `follow` and its attempt


class EngineScheduler:
    """A `RuleScheduler` of which several share the rules.

    Each daemon runs procrastinate's worker with as many slots as it has; the one that holds the dispatcher's lock hands
    out what is due. A task never raises: what becomes of it is recorded in its row, with when it is due again by the
    same back-off as a daemon has alone. The jobs of a task pass through this daemon's own queue, so that limits, drain
    and metrics are those of any daemon.
    """

    def __init__(
        self,
        dsn: str,
        locks: SessionLocks,
        slots: int,
        labels: Sequence[str],
        share: Share,
    ) -> None:
        """`share` is brought up to date with every sign of life."""
        self.name = f"{socket.gethostname()}:{os.getpid()}:{random.getrandbits(24):06x}"
        self._dsn = dsn
        self._locks = locks
        self._slots = slots
        self._labels = tuple(labels)
        self._share = share
        self._all_slots = slots
        self._queue = JobQueue()
        self._runner: JobRunner | None = None
        self._schedules: dict[str, Schedule] = {}
        self._generation = ""
        self._running: dict[Unit, tuple[str, str]] = {}  # -> rule and item
        self._room = Wakeup()  # a unit has ended
        self._is_ending = False
        self.fleet = FleetView()
        self.list_running: Callable[[], Sequence[RunningJob]] = tuple  # what the others are told
        self._taken: dict[str, float] = {}
        self._asked: list[tuple[str, float]] = []
        self._app = self._make_app()
        self._dispatcher = Dispatcher(dsn, self._app, locks, lambda: self._all_slots)
        self._rng = random.Random()

    def attach(self, queue: JobQueue, runner: JobRunner, observe: Callable[[RunReport], None]) -> None:  # noqa: ARG002
        """Use this queue and this runner from the next `run` on. Nobody is told of runs: a task is a part of one."""
        self._queue, self._runner = queue, runner

    def replace(self, schedules: Iterable[Schedule]) -> None:
        """Take these schedules in place of those before; what an edit changed is due at once."""
        before, self._schedules = self._schedules, {one.rule: one for one in schedules if one.enabled}
        edited = [rule for rule, schedule in self._schedules.items() if before.get(rule, schedule) != schedule]
        self._taken = {rule: self._taken.get(rule, time.monotonic()) for rule in self._schedules}
        self._generation = fingerprint(self._schedules.values())
        units = list_units(self._schedules.values())
        self._dispatcher.replace(units, self._generation, self._schedules, edited)

    def trigger(self, rule: str, within: float = 0.0) -> bool:
        """Make a rule due within so many seconds, at the next sign of life; False when there is none of that name."""
        if rule in self._schedules:
            self._asked.append((rule, within))
        return rule in self._schedules

    async def want(self, rule: str, items: Sequence[str] | None, within: float = 0.0) -> bool:
        """Make units of a rule due, all or those of these sources; it is committed when this returns.

        Raises:
            StoreError: the database cannot be reached.
        """
        try:
            async with self._connect(within=_LOOK_TIME) as connection:
                is_known = await follow_table.want(connection, rule, items, within)
        except Exception as exc:
            raise StoreError(f"PostgreSQL: {describe(exc)}", code="state.unreachable") from exc
        self._dispatcher.wakeup.set()
        return is_known

    def quicken(self, rule: str) -> None:
        """Nothing: what is wanted is asked as often as it may be, by `want`."""

    def views(self) -> Mapping[str, RuleView]:
        """How every rule fares, over all daemons, as of the last sign of life."""
        now = time.time()
        return {
            rule: self.fleet.view(schedule, time.monotonic() - self._taken[rule], now)
            for rule, schedule in self._schedules.items()
        }

    async def refresh(self) -> bool:
        """Look at the tables now; False while the database is away: what was seen last stands."""
        try:
            async with self._connect(within=_LOOK_TIME) as connection:
                await self.fleet.look(connection, self.name)
        except Exception as exc:  # noqa: BLE001 (whatever the driver raises)
            log.debug("engine.unseen", error=describe(exc))
            return False
        return True

    async def run(self) -> None:
        """Work until cancelled. That the database is away ends nothing: it is tried again."""
        for name in ("procrastinate", "psycopg"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what they say of jobs and connections, we say
        failures = 0
        while True:
            started = anyio.current_time()
            try:
                await self._serve()
            except Exception as exc:  # noqa: BLE001 (whatever the drivers raise: the database is away)
                log.warning("engine.unreachable", error=describe(exc))
            failures = 1 if anyio.current_time() - started > ELSEWHERE else failures + 1
            await anyio.sleep(_RESTART.ceiling(failures))

    async def _serve(self) -> None:
        """Take what is handed out, hand out what is due, and show signs of life, until one of them fails."""
        from procrastinate.worker import Worker

        self._is_ending = False
        async with self._app.open_async(), anyio.create_task_group() as tasks:
            await self._show_life({})  # first, so that the limits of hosts are shared before anything is asked
            if self._all_slots > self._slots:
                await anyio.sleep(BEAT)  # until the others leave us our part of them
            worker = Worker(
                self._app,
                queues=[queue_of(label) for label in ("", *self._labels)],
                name=self.name,
                concurrency=self._slots + _MOST_STALLED,  # `_fetch` keeps to the slots
                fetch_job_polling_interval=BEAT,
                shutdown_graceful_timeout=1.0,  # what runs goes on in the queue
                delete_jobs="always",
                install_signal_handlers=False,
                stalled_worker_timeout=3600.0,  # the dispatcher sweeps; pruned earlier, their jobs would be nobody's
            )
            tasks.start_soon(_run_worker, worker)
            tasks.start_soon(self._dispatcher.serve)
            tasks.start_soon(self._beat)
            try:
                await anyio.sleep_forever()
            finally:
                self._is_ending = True
                self._room.set()
                worker.stop()  # type: ignore[no-untyped-call]

    def _connect(self, within: float | None = None) -> AbstractAsyncContextManager[Any]:
        connector: Any = self._app.connector  # its pool is there while `_serve` runs
        return connector.pool.connection(within)  # type: ignore[no-any-return]

    def _make_app(self) -> App:
        from procrastinate import App, PsycopgConnector

        kwargs = {"options": f"-c search_path={SCHEMA}", **KEEP_ALIVE}
        app = App(connector=PsycopgConnector(conninfo=self._dsn, min_size=1, max_size=_CONNECTIONS, kwargs=kwargs))
        app.task(name=TASK)(self._run_unit)
        fetch = app.job_manager.fetch_job

        async def fetch_with_room(*args: Any, **kwargs: Any) -> Any:
            """None while this drains. What stands still for its host keeps no slot; procrastinate counts all alike."""
            while (self._queue.is_closed or self._count_active() >= self._slots) and not self._is_ending:
                await self._room.wait(_LOOK)
            return None if self._is_ending else await fetch(*args, **kwargs)

        app.job_manager.fetch_job = fetch_with_room  # type: ignore[method-assign]
        return app

    def _count_active(self) -> int:
        stalled = {(job.rule, item_of(job)) for job in self._queue.stalled}
        return sum(unit not in stalled for unit in self._running.values())

    def _list_resting(self) -> set[str]:
        """The hosts of sources that this daemon must leave alone, of those that it works with."""
        resting = set()
        for job in self._queue.stalled:
            image = registry_image(job.source) if isinstance(job, Job) else None
            # It may be the target's host that rests: the reason names it.
            if image and any(word.endswith(image.host) for word in self._queue.explain_stall(job).split()):
                resting.add(image.host)
        return resting

    async def _run_unit(self, unit: int, rule: str, item: str, attempt: int, generation: str) -> None:
        schedule = self._schedules.get(rule)
        if generation != self._generation or schedule is None or self._queue.is_closed:
            await self._give_back(unit, attempt)
            return
        self._running[unit, attempt] = rule, item
        try:
            if not await self._start(unit, attempt):
                return
            if item != WHOLE and not schedule.jobs:
                schedule = replace(schedule, jobs=tuple(self._follow(schedule, item)))
            outcome = await self._run_jobs(schedule, item)
            if outcome.is_stopped:
                await self._give_back(unit, attempt)
            else:
                await self._finish(schedule, unit, attempt, outcome)
        finally:
            del self._running[unit, attempt]
            self._room.set()

    async def _run_jobs(self, schedule: Schedule, item: str) -> RunReport:
        assert self._runner is not None, "attach comes first"
        outcome, queue = RunReport(schedule.rule), self._queue
        try:
            if item == WHOLE:
                await self._find_repositories(schedule, outcome)
                return outcome

            async def run(job: Any) -> None:
                outcome.add(await queue.run_now(job))

            async with anyio.create_task_group() as tasks:
                for job in schedule.jobs:
                    if item_of(job) == item:
                        tasks.start_soon(run, job)
        except Exception as exc:
            log.exception("rule.crashed", rule=schedule.rule)
            outcome.failure = Failure("internal", f"{type(exc).__name__}: {exc}", "retry")
        return outcome

    def _follow(self, schedule: Schedule, item: str) -> Sequence[Any]:
        """The jobs for a repository that a rule found."""
        assert self._runner is not None, "attach comes first"
        image = registry_image(parse_locator(item))
        if image is None:
            return ()
        return [job for job in self._runner.follow(image.host, image.repository) if job.rule == schedule.rule]

    async def _find_repositories(self, schedule: Schedule, outcome: RunReport) -> None:
        assert self._runner is not None, "attach comes first"
        # All of them: how often each is asked stands in its row.
        found = await self._runner.expand(replace(schedule, longest=0.0))
        for report in found.reports:
            outcome.add(report)
            self._queue.observe(report)
        if outcome.failure is None:
            units = found_units(schedule.rule, found.jobs)
            async with self._connect() as connection:
                await follow_table.replace_found(connection, schedule.rule, units, self._generation)
            self._dispatcher.wakeup.set()

    async def _start(self, unit: int, attempt: int) -> bool:
        async with self._connect() as connection:
            return await follow_table.start(connection, unit, attempt, self.name)

    async def _finish(self, schedule: Schedule, unit: int, attempt: int, outcome: RunReport) -> None:
        async def record(connection: Any) -> None:
            failures, present = await follow_table.get_course(connection, unit)
            failures = failures + 1 if outcome.failure else 0
            if outcome.failure is None:
                present = schedule.adapt(present, has_changed=outcome.has_changed)
            wait, _ = wait_after_run(schedule, outcome, present, failures, time.time(), self._rng)
            code, message = (outcome.failure.code, outcome.failure.message) if outcome.failure else ("", "")
            recorded = UnitOutcome(failures, code, message, wait, present)
            if not await follow_table.finish(connection, schedule.rule, unit, attempt, recorded):
                log.info("engine.superseded", rule=schedule.rule, unit=unit)

        await self._record(record)

    async def _give_back(self, unit: int, attempt: int) -> None:
        """Have another do it: at once when this daemon ends, else after a moment."""
        wait = 0.0 if self._queue.is_closed else ELSEWHERE

        async def record(connection: Any) -> None:
            await follow_table.give_back(connection, unit, attempt, wait)

        await self._record(record)

    async def _record(self, act: Callable[[Any], Awaitable[None]]) -> None:
        """Record something, also while this ends; when the database stays away, the dispatcher finds the row lost."""
        with anyio.move_on_after(_RECORD_TIME, shield=True):
            failures = 0
            while True:
                try:
                    async with self._connect() as connection:
                        await act(connection)
                except Exception as exc:  # noqa: BLE001 (whatever the driver raises)
                    failures += 1
                    log.debug("engine.unrecorded", error=describe(exc))
                    await anyio.sleep(_RESTART.ceiling(failures))
                else:
                    return

    async def _beat(self) -> None:
        """Show from time to time that this daemon lives."""
        missing: dict[Unit, int] = {}
        try:
            while True:
                missing = await self._show_life(missing)
                await anyio.sleep(BEAT)
        finally:
            with anyio.move_on_after(1.0, shield=True), contextlib.suppress(Exception):
                async with self._connect() as connection:
                    await worker_table.leave(connection, self.name)

    async def _show_life(self, missing: Mapping[Unit, int]) -> dict[Unit, int]:
        """Show that this daemon lives, see the others, and give back units that no task of it has.

        `missing` counts for each of those how often it was met; they come back, those of now counted once more.
        """
        async with self._connect() as connection:
            activity, resting = write_jobs(self.list_running()), self._list_resting()
            pauses = {host: left for host, at in self._share.asked_here.items() if (left := at - time.monotonic()) > 0}
            sign = Beat(self.name, self._slots, self._labels, self._generation, activity, resting, pauses)
            await worker_table.beat(connection, sign)
            alive, self._all_slots = await worker_table.count_alive(connection)
            self._share.part = 1 / max(1, alive)
            elsewhere = await worker_table.list_pauses(connection, self.name)
            self._share.asked_elsewhere = {host: time.monotonic() + left for host, left in elsewhere.items()}
            await self.fleet.look(connection, self.name, _FRESH)
            while self._asked:
                rule, within = self._asked.pop()
                await follow_table.want(connection, rule, None, within)
            mine = await worker_table.list_mine(connection, self.name)
            missing = {unit: missing.get(unit, 0) + 1 for unit in mine if unit not in self._running}
            for unit, attempt in (unit for unit, count in missing.items() if count > _HOLD):
                await follow_table.give_back(connection, unit, attempt, 0.0)
        return missing


async def _run_worker(worker: Worker) -> None:
    """procrastinate ends by `stop` only: a cancellation that comes again and again would tear its end apart."""
    with anyio.CancelScope(shield=True):
        await worker.run()  # type: ignore[no-untyped-call]
    await anyio.lowlevel.checkpoint()  # told to stop
    raise RuntimeError("procrastinate's worker has stopped")


def describe(error: BaseException) -> str:
    """An error of a driver in one line, without what it may say of a password."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if type(error).__name__ == "ConnectorException" and error.__cause__:  # procrastinate's, which says nothing more
        error = error.__cause__
    return clean(" ".join(str(error).split())) or type(error).__name__
