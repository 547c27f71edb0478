"""How due work is handed out: on a real PostgreSQL, with procrastinate's own functions, and against its two traps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import psycopg
import pytest
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status

from ocisync.daemon.schedule import Schedule
from ocisync.engine import follow_table, worker_table
from ocisync.engine.dispatcher import SWEEP, TASK, Dispatcher
from ocisync.engine.follow_table import UnitOutcome
from ocisync.engine.locks import LockLost, SessionLocks, connected
from ocisync.engine.migrate import migrate_all
from ocisync.engine.units import Unit
from ocisync.engine.worker_table import Beat
from ocisync.model.cron import Cron
from ocisync.model.locator import TargetLocator, parse_locator
from ocisync.sync.job import Job as SyncJob
from tests.servers.postgres import Postgres

FAILED = UnitOutcome(1, "net.unreachable", "no route", 3600.0)
FINE = UnitOutcome(0, "", "", 3600.0)


@pytest.fixture
def dsn(postgresql: Postgres) -> str:
    """A database with all tables."""
    made = postgresql.database()
    migrate_all(made)
    return made


@dataclass(slots=True)
class Desk:
    """A dispatcher at work, and a worker's eyes on its queue."""

    app: App
    dispatcher: Dispatcher
    connection: psycopg.AsyncConnection[Any]
    worker: int

    async def fetch(self) -> Job | None:
        """The job that a worker gets next."""
        return await self.app.job_manager.fetch_job(queues=None, worker_id=self.worker)

    async def wait_fetched(self) -> Job:
        """The next job, when it is there."""
        with anyio.fail_after(30):
            while (job := await self.fetch()) is None:  # noqa: ASYNC110 (it is the database that changes)
                await anyio.sleep(0.05)
        return job

    async def rows(self, query: str, *values: object) -> list[Any]:
        """What the database says."""
        return await (await self.connection.execute(query.encode(), values or None)).fetchall()

    async def end(self, job: Job) -> None:
        """As a worker does, when a task has ended."""
        await self.app.job_manager.finish_job(job=job, status=Status.SUCCEEDED, delete_job=True)


@asynccontextmanager
async def desk(dsn: str, *units: Unit) -> AsyncIterator[Desk]:
    kwargs = {"options": "-c search_path=ocisync"}
    app = App(connector=PsycopgConnector(conninfo=dsn, min_size=1, max_size=2, kwargs=kwargs))
    app.task(name=TASK)(_do_nothing)
    locks = SessionLocks(dsn)
    dispatcher = Dispatcher(dsn, app, locks, lambda: 4)
    dispatcher.replace(units, "g1")
    async with app.open_async(), connected(dsn) as connection, anyio.create_task_group() as tasks:
        tasks.start_soon(locks.serve)
        tasks.start_soon(dispatcher.serve)
        yield Desk(app, dispatcher, connection, await app.job_manager.register_worker())
        tasks.cancel_scope.cancel()


def _unit_of(job: Job) -> int:
    unit = job.task_kwargs["unit"]
    assert isinstance(unit, int)
    return unit


async def _do_nothing(**_: object) -> None:
    """A task that the tests do themselves."""


async def test_what_was_wanted_while_it_ran_is_handed_out_once_more_and_fails_as_often_as_it_likes(dsn: str) -> None:
    """The first trap: there, a failed job and its waiting follow-up end in a broken index and a job that never ends."""
    async with desk(dsn, Unit("r", "a", "lock")) as made:
        for turn in range(1, 4):
            job = await made.wait_fetched()
            assert job.task_kwargs["attempt"] == turn
            unit = _unit_of(job)
            assert await follow_table.start(made.connection, unit, turn, "w")
            assert await follow_table.want(made.connection, "r", ["a"], 0.0)
            assert await follow_table.finish(made.connection, "r", unit, turn, FAILED)
            await made.end(job)
            made.dispatcher.wakeup.set()
        [(count,)] = await made.rows("SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'")
        assert count == 0


async def test_the_documented_recipe_falls_into_the_first_trap(dsn: str) -> None:
    """Lock, queueing lock and a retry: what a daemon of procrastinate alone would do; here the index breaks."""
    async with desk(dsn) as made:
        task = made.app.configure_task(TASK, lock="lock", queueing_lock="unit")
        await task.defer_async()
        job = await made.wait_fetched()
        await task.defer_async()  # the follow-up, while the first runs
        with pytest.raises(ConnectorException):
            await made.app.job_manager.retry_job(job=job)
        assert await made.fetch() is None  # the lock is blocked
        [(status,)] = await made.rows("SELECT status::text FROM procrastinate_jobs WHERE id = %s", job.id)
        assert status == "doing"


async def test_a_unit_that_backs_off_keeps_no_other_of_its_lock_waiting(dsn: str) -> None:
    """The second trap: there, a job that is scheduled for later blocks a ready one of the same lock."""
    async with desk(dsn, Unit("r", "a", "lock")) as made:
        job = await made.wait_fetched()
        unit = _unit_of(job)
        assert await follow_table.finish(made.connection, "r", unit, 1, FAILED)  # due again in an hour
        await made.end(job)
        made.dispatcher.replace([Unit("r", "a", "lock"), Unit("s", "b", "lock")], "g1")
        assert (await made.wait_fetched()).task_kwargs["rule"] == "s"


async def test_the_documented_recipe_falls_into_the_second_trap(dsn: str) -> None:
    async with desk(dsn) as made:
        await made.app.configure_task(TASK, lock="lock", schedule_in={"hours": 1}).defer_async()
        await made.app.configure_task(TASK, lock="lock").defer_async()
        assert await made.fetch() is None


async def test_units_of_one_lock_are_never_fetched_together(dsn: str) -> None:
    async with desk(dsn, Unit("r", "a", "lock"), Unit("s", "b", "lock"), Unit("t", "c", "other")) as made:
        first, second = await made.wait_fetched(), await made.wait_fetched()
        assert {first.lock, second.lock} == {"lock", "other"}
        assert await made.fetch() is None


async def test_rules_take_turns_and_what_is_wanted_goes_first(dsn: str) -> None:
    many = [Unit("many", f"m{number}", f"many {number}") for number in range(20)]
    async with desk(dsn, *many, Unit("few", "f", "few")) as made:
        first = [str((await made.wait_fetched()).task_kwargs["rule"]) for _ in range(2)]
        assert sorted(first) == ["few", "many"]
        [(out,)] = await made.rows("SELECT count(*) FROM follow WHERE job IS NOT NULL")
        assert out == 8  # twice the slots


async def test_a_unit_with_a_label_waits_for_a_daemon_that_has_it(dsn: str) -> None:
    async with desk(dsn, Unit("r", "a", "a", label="site-b"), Unit("s", "b", "b")) as made:
        assert (await made.wait_fetched()).task_kwargs["rule"] == "s"
        assert await made.rows("SELECT rule FROM follow WHERE job IS NULL") == [("r",)]
        await worker_table.beat(made.connection, Beat("there", 1, ["site-b"], "g1"))
        job = await made.wait_fetched()
        assert (job.task_kwargs["rule"], job.queue) == ("r", "label site-b")


async def test_a_new_unit_waits_for_the_time_that_its_rule_has_on_record(dsn: str) -> None:
    job = SyncJob("r", parse_locator("docker://a.example/app"), TargetLocator("t", "app"))
    calendar = Schedule("c", (job,), 0.0, cron=Cron("0 3 1 1 *"))
    async with desk(dsn, Unit("before", "a", "before")) as made:
        await made.wait_fetched()  # its units are loaded by now, and what is on record of rules that it lacks is gone
        await made.connection.execute(
            b"INSERT INTO rule (name, code, message, failures, next_due)"
            b" VALUES ('r', '', '', 0, extract(epoch FROM now()) + 3000)"
        )
        schedules = {"r": Schedule("r", (job,), 3600.0), "c": calendar, "new": Schedule("new", (job,), 3600.0)}
        units = [Unit(rule, "a", rule) for rule in schedules]
        made.dispatcher.replace(units, "g2", schedules)
        assert (await made.wait_fetched()).task_kwargs["rule"] == "new"
        assert await made.rows("SELECT rule FROM follow WHERE job IS NULL AND due_at > now() ORDER BY rule") == [
            ("c",),
            ("r",),
        ]
        made.dispatcher.replace(units, "g3", schedules, ["r"])
        assert (await made.wait_fetched()).task_kwargs["rule"] == "r"


async def test_what_a_dead_worker_had_is_handed_out_again_and_what_it_records_then_is_ignored(dsn: str) -> None:
    async with desk(dsn, Unit("r", "a", "lock")) as made:
        job = await made.wait_fetched()
        unit = _unit_of(job)
        assert await follow_table.start(made.connection, unit, 1, "dead")
        await made.connection.execute(b"UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute'")
        made.worker = await made.app.job_manager.register_worker()
        again = await made.wait_fetched()
        assert (again.task_kwargs["unit"], again.task_kwargs["attempt"]) == (unit, 2)
        assert not await follow_table.start(made.connection, unit, 1, "dead")
        assert not await follow_table.finish(made.connection, "r", unit, 1, FINE)
        assert await follow_table.finish(made.connection, "r", unit, 2, FINE)


async def test_a_job_that_is_gone_without_a_record_is_found(dsn: str) -> None:
    async with desk(dsn, Unit("r", "a", "lock")) as made:
        await made.end(await made.wait_fetched())
        with anyio.fail_after(3 * SWEEP):
            assert (await made.wait_fetched()).task_kwargs["attempt"] == 2


async def test_a_job_of_a_living_worker_that_nobody_began_is_taken_back(dsn: str) -> None:
    async with desk(dsn, Unit("r", "a", "lock")) as made:
        await made.connection.execute(b"UPDATE procrastinate_workers SET last_heartbeat = now() + interval '1 hour'")
        await made.wait_fetched()  # and then the worker forgets it
        assert (await made.wait_fetched()).task_kwargs["attempt"] == 2


async def test_another_configuration_takes_away_what_it_lacks(dsn: str) -> None:
    async with desk(dsn, Unit("r", "a", "a"), Unit("s", "b", "b")) as made:
        await made.wait_fetched()
        made.dispatcher.replace([Unit("r", "a", "a")], "g2")
        with anyio.fail_after(10):
            while await made.rows("SELECT rule, generation FROM follow") != [("r", "g2")]:  # noqa: ASYNC110
                await anyio.sleep(0.05)


async def test_a_rule_did_all_when_its_slowest_unit_did(dsn: str) -> None:
    async with desk(dsn, Unit("r", "a", "a"), Unit("r", "b", "b")) as made:
        for outcome in (FINE, FAILED):
            unit = _unit_of(await made.wait_fetched())
            await follow_table.finish(made.connection, "r", unit, 1, outcome)
        [(success, failures, code)] = await made.rows("SELECT last_success, failures, code FROM rule")
        assert (success, failures, code) == (None, 1, "net.unreachable")


async def test_a_lock_has_one_holder_over_all_sessions_and_in_one(dsn: str) -> None:
    one, two = SessionLocks(dsn), SessionLocks(dsn)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.serve)
        tasks.start_soon(two.serve)
        async with one.hold("x") as is_ours:
            assert is_ours
            async with two.hold("x", 0.0) as theirs:
                assert not theirs
            async with one.hold("x", 0.0) as again:
                assert not again
        async with two.hold("x", 5.0) as theirs:
            assert theirs
        tasks.cancel_scope.cancel()


async def test_a_session_that_is_cut_is_made_anew_and_keeps_its_locks(dsn: str) -> None:
    locks = SessionLocks(dsn)
    async with anyio.create_task_group() as tasks, connected(dsn) as other:
        tasks.start_soon(locks.serve)
        async with locks.hold("x"):
            await other.execute(b"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
            with anyio.fail_after(20):
                held = b"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
                while await (await other.execute(held)).fetchone() != (1,):  # noqa: ASYNC110
                    await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()


async def test_work_under_a_lock_that_another_took_meanwhile_is_cancelled(dsn: str) -> None:
    locks = SessionLocks(dsn)
    async with anyio.create_task_group() as tasks, connected(dsn) as other:
        tasks.start_soon(locks.serve)
        with pytest.raises(LockLost):  # noqa: PT012 (it is raised by the end of the block)
            async with locks.hold("x"):
                await other.execute(
                    b"SELECT pg_terminate_backend(pid), pg_advisory_lock(hashtextextended('x', 0)) FROM pg_locks"
                    b" WHERE locktype = 'advisory'"
                )
                with anyio.fail_after(20):
                    await anyio.sleep_forever()
        tasks.cancel_scope.cancel()
