"""The scheduler, with a clock that the test sets."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest
from structlog.testing import capture_logs

from ocisync.daemon.queue import JobQueue
from ocisync.daemon.schedule import AnyJob, Expansion, Schedule
from ocisync.daemon.scheduler import Scheduler
from ocisync.errors import DiskError, NetworkError, NotFound, OcisyncError
from ocisync.model.cron import Cron
from ocisync.state.rule_records import MemoryRecords, RuleStatus
from ocisync.sync.job import Job
from ocisync.sync.judging.acceptance import Judgement, Outcome
from ocisync.sync.reports import Failure, JobReport, TagReport, Verdict
from tests.unit.daemon.clocks import TestClock, until
from tests.unit.daemon.jobs import FunctionRunner, Gate, job

HOUR = 3600.0


class CountedRecords(MemoryRecords):
    """Records that know how often they were written: at the start and at the end of each run."""

    saves = 0

    async def save_rule_status(self, rule: str, status: RuleStatus) -> None:
        await super().save_rule_status(rule, status)
        self.saves += 1


class Daemon:
    """A scheduler with its queue, runner, clock and records."""

    def __init__(
        self,
        *schedules: Schedule,
        runner: Gate | None = None,
        expand: Callable[[Schedule], Awaitable[Expansion]] | None = None,
    ) -> None:
        self.gate = runner or Gate(is_open=True)
        self.error: OcisyncError | None = None
        self.queue = JobQueue()
        self.clock = TestClock()
        self.records = CountedRecords()
        self.runner = FunctionRunner(self._run_job, expand=expand)
        self.scheduler = Scheduler(self.records, self.clock, random.Random(1))
        self.scheduler.attach(self.queue, self.runner)
        self.scheduler.replace(schedules)

    async def _run_job(self, wanted: AnyJob) -> JobReport:
        return await self.run_job(wanted)  # which a test may have replaced

    async def run_job(self, wanted: AnyJob) -> JobReport:
        report = await self.gate(wanted)
        if self.error is not None:
            raise self.error
        return report

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with anyio.fail_after(100):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.queue.run, self.runner, 4)
                tasks.start_soon(self.scheduler.run)
                yield
                tasks.cancel_scope.cancel()

    async def settled(self, runs: int) -> None:
        """Until so many runs have ended and the scheduler sleeps."""
        await until(lambda: self.records.saves >= 2 * runs)
        await until(lambda: bool(self.clock.sleeping))

    def due_in(self, rule: str = "rule") -> float:
        """Seconds until the rule is due, as it was recorded."""
        due = self.records.statuses[rule].next_due
        assert due is not None
        return due - self.clock.wall()


def every_hour(rule: str = "rule", *jobs: Job) -> Schedule:
    return Schedule(rule, jobs or (job(rule, rule),), HOUR)


async def test_a_rule_runs_at_the_start_and_then_by_its_interval() -> None:
    daemon = Daemon(every_hour())
    async with daemon.running():
        await daemon.settled(1)
        assert 0.9 * HOUR <= daemon.due_in() <= 1.1 * HOUR
        daemon.clock.advance(0.89 * HOUR)
        await daemon.settled(1)
        assert len(daemon.gate.started) == 1
        daemon.clock.advance(0.22 * HOUR)
        await daemon.settled(2)
    status = daemon.records.statuses["rule"]
    assert (status.failures, status.code, status.last_failure) == (0, "", None)
    assert status.last_started == status.last_success == daemon.clock.wall()


async def test_an_interval_with_a_range_grows_while_nothing_changes_and_begins_anew() -> None:
    adaptive = replace(every_hour(), longest=2 * HOUR, jitter=0.0)
    daemon = Daemon(adaptive)
    verdicts = [Verdict.COPIED, Verdict.UNCHANGED, Verdict.UNCHANGED, Verdict.UNCHANGED, Verdict.UNCHANGED]
    waits: list[float] = []

    async def run_job(wanted: AnyJob) -> JobReport:
        report = await daemon.gate(wanted)
        report.tags.append(TagReport("1", verdicts[len(waits)], ""))
        return report

    daemon.run_job = run_job  # type: ignore[method-assign]
    async with daemon.running():
        for run in range(1, 6):
            await daemon.settled(run)
            waits.append(daemon.due_in())
            if run < 5:
                daemon.clock.advance(waits[-1] + 1)
        assert waits == [HOUR, 1.5 * HOUR, 2 * HOUR, 2 * HOUR, 2 * HOUR]
        assert daemon.scheduler.views()["rule"].gap == 2 * HOUR
        daemon.scheduler.quicken("rule")  # as a webhook does
        assert daemon.scheduler.views()["rule"].gap == HOUR
        daemon.clock.advance(HOUR + 1)
        verdicts.append(Verdict.UNCHANGED)
        await daemon.settled(6)
    assert daemon.records.statuses["rule"].interval == 1.5 * HOUR


async def test_a_rule_runs_when_what_is_pending_can_be_taken() -> None:
    daemon = Daemon(every_hour())
    until_then = daemon.clock.wall() + 600

    async def run_job(wanted: AnyJob) -> JobReport:
        report = await daemon.gate(wanted)
        if daemon.clock.wall() < until_then:
            young = Judgement(Outcome.PENDING, "verify.young", "", until_then)
            report.tags.append(TagReport("1", Verdict.PENDING, "", judgement=young))
        return report

    daemon.run_job = run_job  # type: ignore[method-assign]
    async with daemon.running():
        await daemon.settled(1)
        assert daemon.due_in() == pytest.approx(600)
        daemon.clock.advance(601)
        await daemon.settled(2)
        assert len(daemon.gate.started) == 2
        assert daemon.due_in() > 0.9 * HOUR
    status = daemon.records.statuses["rule"]
    assert (status.failures, status.code) == (0, "")


async def test_all_jobs_of_a_rule_run_and_a_disabled_rule_does_not() -> None:
    jobs = [job("rule", f"repo-{number}") for number in range(100)]
    daemon = Daemon(every_hour("rule", *jobs), Schedule("off", (job("off"),), HOUR, enabled=False))
    async with daemon.running():
        await until(lambda: len(daemon.gate.finished) == 100)
        await until(lambda: "rule" in daemon.records.statuses)
    assert {started.rule for started in daemon.gate.started} == {"rule"}
    assert "off" not in daemon.records.statuses


async def test_a_rule_never_overlaps_itself() -> None:
    daemon = Daemon(every_hour(), runner=Gate())
    async with daemon.running():
        await daemon.gate.until_started(1)
        daemon.clock.advance(10 * HOUR)
        assert daemon.scheduler.trigger("rule")
        assert daemon.scheduler.trigger("rule")
        await until(lambda: not daemon.queue.depth)
        assert len(daemon.gate.started) == 1
        daemon.gate.open()
        await daemon.settled(2)
        daemon.clock.advance(60)
        await daemon.settled(2)
    assert len(daemon.gate.started) == 2


async def test_what_was_recorded_decides_on_the_first_run() -> None:
    daemon = Daemon(every_hour())
    daemon.records.statuses["rule"] = RuleStatus(next_due=daemon.clock.wall() + 600, failures=3)
    async with daemon.running():
        await until(lambda: bool(daemon.clock.sleeping))
        assert daemon.gate.started == []
        daemon.clock.advance(599)
        await until(lambda: bool(daemon.clock.sleeping))
        assert daemon.gate.started == []
        daemon.clock.advance(1)
        await daemon.settled(1)


async def test_fault_61_a_jump_of_the_wall_clock_neither_hurries_nor_stops_a_rule() -> None:
    daemon = Daemon(every_hour())
    async with daemon.running():
        await daemon.settled(1)
        for jump in (365 * 24 * HOUR, -2 * 365 * 24 * HOUR):
            daemon.clock.wall_offset += jump
            daemon.clock.advance(1)
            await until(lambda: bool(daemon.clock.sleeping))
        assert len(daemon.gate.started) == 1
        daemon.clock.advance(1.1 * HOUR)
        await daemon.settled(2)


async def test_fault_61_a_record_from_a_clock_that_was_ahead_delays_by_one_interval_at_most() -> None:
    daemon = Daemon(every_hour())
    daemon.records.statuses["rule"] = RuleStatus(next_due=daemon.clock.wall() + 365 * 24 * HOUR)
    async with daemon.running():
        await until(lambda: bool(daemon.clock.sleeping))
        daemon.clock.advance(1.1 * HOUR)
        await daemon.gate.until_started(1)


async def test_a_failing_rule_backs_off_and_recovers() -> None:
    daemon = Daemon(every_hour())
    daemon.error = NetworkError("registry.example: connection refused")
    async with daemon.running():
        for failures in range(1, 6):
            await daemon.settled(failures)
            status = daemon.records.statuses["rule"]
            assert (status.failures, status.code) == (failures, "net.unreachable")
            assert status.last_failure == daemon.clock.wall()
            assert daemon.due_in() <= 15 * 2 ** (failures - 1)
            daemon.clock.advance(daemon.due_in() + 0.001)
        daemon.error = None
        await daemon.settled(6)
        daemon.clock.advance(daemon.due_in() + 0.001)
        await daemon.settled(7)
    status = daemon.records.statuses["rule"]
    assert (status.failures, status.code, status.message) == (0, "", "")
    assert status.last_failure is not None


async def test_a_failure_that_trying_again_cannot_mend_waits_for_the_next_cycle() -> None:
    daemon = Daemon(every_hour())
    daemon.error = NotFound("no such tag")
    async with daemon.running():
        await daemon.settled(1)
        assert daemon.due_in() >= 0.9 * HOUR
        assert daemon.records.statuses["rule"].failures == 1


async def test_a_failing_rule_does_not_stop_the_others() -> None:
    daemon = Daemon(every_hour("bad"), every_hour("good"))

    async def runner(wanted: AnyJob) -> JobReport:
        await daemon.gate(wanted)
        if wanted.rule == "bad":
            raise NetworkError("down")
        return JobReport(wanted.rule, "", "")

    daemon.run_job = runner  # type: ignore[method-assign]
    async with daemon.running():
        await daemon.settled(2)
    assert daemon.records.statuses["good"].last_success
    assert daemon.records.statuses["bad"].last_failure


async def test_a_trigger_runs_a_rule_now_even_a_disabled_one() -> None:
    daemon = Daemon(Schedule("off", (job("off"),), HOUR, enabled=False))
    async with daemon.running():
        assert daemon.scheduler.trigger("off")
        await daemon.gate.until_started(1)
        assert not daemon.scheduler.trigger("unknown")


async def test_a_trigger_before_the_record_was_read_is_not_lost() -> None:
    daemon = Daemon(every_hour())
    daemon.records.statuses["rule"] = RuleStatus(next_due=daemon.clock.wall() + 600, failures=3)
    daemon.scheduler.trigger("rule")
    async with daemon.running():
        await daemon.gate.until_started(1)


async def test_replacing_keeps_runs_changed_rules_and_drops_removed_ones() -> None:
    same, changed, removed = (every_hour(name) for name in ("same", "changed", "removed"))
    daemon = Daemon(same, changed, removed)
    async with daemon.running():
        await daemon.settled(3)
        daemon.scheduler.replace([same, replace(changed, interval=2 * HOUR), every_hour("new")])
        await daemon.settled(5)
        assert sorted(started.rule for started in daemon.gate.started[3:]) == ["changed", "new"]
        daemon.clock.advance(1.1 * HOUR)
        await daemon.settled(7)
        assert sorted(started.rule for started in daemon.gate.started[5:]) == ["new", "same"]
    assert set(daemon.scheduler.views()) == {"same", "changed", "new"}


async def test_a_rule_that_is_switched_off_by_a_reload_does_not_run_again() -> None:
    daemon = Daemon(every_hour(), every_hour("other"))
    async with daemon.running():
        await daemon.settled(2)
        daemon.scheduler.replace([replace(every_hour(), enabled=False), every_hour("other")])
        daemon.clock.advance(1.1 * HOUR)
        await daemon.settled(3)
    assert [started.rule for started in daemon.gate.started[2:]] == ["other"]


async def test_a_run_that_the_stop_cut_short_is_not_recorded_as_failed() -> None:
    daemon = Daemon(every_hour(), runner=Gate())
    async with daemon.running():
        await daemon.gate.until_started(1)
        daemon.queue.close(drain=0.0)
        await until(lambda: not daemon.queue.running)
        await until(lambda: not daemon.clock.sleeping)
    status = daemon.records.statuses["rule"]
    assert (status.failures, status.last_failure, status.next_due) == (0, None, None)


MIDNIGHT = 1_700_006_400.0 - 1_700_006_400.0 % (24 * HOUR)  # UTC


def at_three(rule: str = "rule") -> Schedule:
    return Schedule(rule, (job(rule, rule),), HOUR, cron=Cron("0 3 * * *"))


def by_calendar(wall: float) -> Daemon:
    """A daemon with a rule that runs at three, at some time of day."""
    daemon = Daemon(at_three())
    daemon.clock.wall_offset = wall - daemon.clock.now
    return daemon


async def test_a_rule_of_the_calendar_waits_for_its_time_and_comes_every_day() -> None:
    daemon = by_calendar(MIDNIGHT)
    async with daemon.running():
        for day in range(3):
            while daemon.clock.wall() < MIDNIGHT + (24 * day + 3) * HOUR - 1:
                await daemon.settled(day)
                assert len(daemon.gate.started) == day
                daemon.clock.advance(min(HOUR, MIDNIGHT + (24 * day + 3) * HOUR - 1 - daemon.clock.wall()))
            daemon.clock.advance(2)
            await daemon.settled(day + 1)
    assert daemon.records.statuses["rule"].next_due == MIDNIGHT + (72 + 3) * HOUR


async def test_a_rule_of_the_calendar_follows_a_clock_that_was_set() -> None:
    daemon = by_calendar(MIDNIGHT)
    async with daemon.running():
        await daemon.settled(0)
        daemon.clock.wall_offset += 3 * HOUR
        daemon.clock.advance(61)
        await daemon.settled(1)


async def test_a_rule_of_the_calendar_that_fails_is_tried_again_before_its_next_time() -> None:
    daemon = by_calendar(MIDNIGHT)
    daemon.error = NetworkError("down")
    async with daemon.running():
        await daemon.settled(0)
        assert daemon.scheduler.trigger("rule")
        await daemon.settled(1)
        assert daemon.due_in() <= 15
        daemon.error = None
        daemon.clock.advance(15)
        await daemon.settled(2)
        assert daemon.records.statuses["rule"].next_due == MIDNIGHT + 3 * HOUR


async def test_lag_counts_from_the_last_success_or_from_when_the_rule_was_taken() -> None:
    daemon = Daemon(every_hour(), every_hour("failing"))
    daemon.records.statuses["rule"] = RuleStatus(
        last_success=daemon.clock.wall() - 300, next_due=daemon.clock.wall() + HOUR
    )
    daemon.error = NetworkError("down")
    async with daemon.running():
        await daemon.settled(1)
        daemon.clock.advance(60)
        await until(lambda: bool(daemon.clock.sleeping))
        views = daemon.scheduler.views()
    assert {name: (view.lag, view.gap) for name, view in views.items()} == {"rule": (360, HOUR), "failing": (60, HOUR)}


async def test_a_rule_that_is_to_run_soon_does_not_wait_for_its_interval() -> None:
    daemon = Daemon(every_hour())
    async with daemon.running():
        await daemon.settled(1)
        assert daemon.scheduler.trigger("rule", 15.0)
        await until(lambda: any(due <= daemon.clock.now + 15 for due in daemon.clock.sleeping))
        assert len(daemon.gate.started) == 1
        daemon.clock.advance(15)
        await daemon.settled(2)


class BrokenRecords:
    """Records on a disk that is full."""

    async def rule_status(self, rule: str) -> RuleStatus | None:
        raise DiskError("disk full")

    async def save_rule_status(self, rule: str, status: RuleStatus) -> None:
        raise DiskError("disk full")


async def test_records_that_cannot_be_kept_stop_nothing() -> None:
    daemon = Daemon()
    scheduler = Scheduler(BrokenRecords(), daemon.clock)
    scheduler.attach(daemon.queue, daemon.runner)
    scheduler.replace([every_hour()])
    daemon.scheduler = scheduler
    with capture_logs() as lines:
        async with daemon.running():
            await until(lambda: bool(daemon.gate.finished and daemon.clock.sleeping))
    assert {line["event"] for line in lines} == {"rule.record_unreadable", "rule.record_unwritable", "rule.finished"}


async def test_ten_thousand_jobs_of_a_rule_wait_in_small_numbers() -> None:
    jobs = tuple(job("big", f"repo-{number}") for number in range(10_000))
    daemon = Daemon(every_hour("big", *jobs), runner=Gate())
    async with daemon.running():
        await daemon.gate.until_started(3)
        await until(lambda: daemon.queue.depth > 0)
        assert daemon.queue.depth <= 32
        daemon.gate.open()
        await until(lambda: len(daemon.gate.finished) == 10_000)


def test_the_default_clock_is_the_systems() -> None:
    from ocisync.daemon.clock import SystemClock

    clock = SystemClock()
    assert clock.wall() > 1_700_000_000
    assert clock.monotonic() == pytest.approx(clock.monotonic(), abs=5)


async def test_jobs_are_found_when_the_rule_runs() -> None:
    found: list[tuple[str, ...]] = [("a", "b"), ("b", "c")]

    async def expand(schedule: Schedule) -> Expansion:
        return Expansion(tuple(job(schedule.rule, name) for name in found.pop(0)))

    daemon = Daemon(Schedule("rule", (), HOUR, jitter=0.0), expand=expand)
    async with daemon.running():
        await daemon.settled(1)
        assert sorted(one.target.repository for one in daemon.gate.finished) == ["a", "b"]
        daemon.scheduler.trigger("rule")
        await daemon.settled(2)
    assert sorted(one.target.repository for one in daemon.gate.finished) == ["a", "b", "b", "c"]


async def test_a_defect_in_finding_jobs_is_a_failure_of_the_rule_that_is_tried_again_and_stops_no_other() -> None:
    async def expand(schedule: Schedule) -> Expansion:
        if schedule.rule == "bad":
            raise KeyError("x")
        return Expansion(schedule.jobs)

    daemon = Daemon(Schedule("bad", (), HOUR, jitter=0.0), every_hour("good"), expand=expand)
    with capture_logs() as lines:
        async with daemon.running():
            await daemon.settled(2)
    assert (daemon.records.statuses["bad"].code, daemon.records.statuses["bad"].failures) == ("internal", 1)
    assert daemon.due_in("bad") < HOUR
    assert daemon.records.statuses["good"].last_success
    assert [line["event"] for line in lines if line["rule"] == "bad"] == ["rule.crashed", "rule.failed"]
    assert [line["event"] for line in lines if line["rule"] == "good"] == ["rule.finished"]
    assert next(line["exc_info"] for line in lines if line["event"] == "rule.crashed")


async def test_jobs_that_cannot_be_found_are_a_failure_of_the_rule() -> None:
    async def expand(schedule: Schedule) -> Expansion:
        failure = Failure("net.unreachable", "no catalog", "retry")
        return Expansion((), (JobReport(schedule.rule, "docker://r.io", "local", failure=failure),))

    daemon = Daemon(Schedule("rule", (), HOUR, jitter=0.0), expand=expand)
    async with daemon.running():
        await daemon.settled(1)
    status = daemon.records.statuses["rule"]
    assert (status.code, status.failures, status.last_success) == ("net.unreachable", 1, None)
    assert daemon.due_in() < HOUR
