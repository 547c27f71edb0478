"""The queue of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint
from structlog.testing import capture_logs

from ocisync.daemon.queue import JobQueue
from ocisync.daemon.schedule import AnyJob
from ocisync.errors import NetworkError, NotFound
from ocisync.sync.job import Job
from ocisync.sync.reports import STOPPED, Failure, JobReport
from ocisync.sync.select import TagSelection, TagSet
from tests.unit.daemon.jobs import FunctionRunner, Gate, job


@asynccontextmanager
async def running(
    queue: JobQueue,
    runner: Callable[[AnyJob], Awaitable[JobReport]],
    places: int = 4,
    is_stalled: Callable[[AnyJob], bool] = lambda _: False,
) -> AsyncIterator[None]:
    """Run the queue while the block lasts, then end it."""
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(queue.run, FunctionRunner(runner, is_stalled=is_stalled), places)
            yield
            queue.close()


async def settle() -> None:
    """Let every task run that can."""
    for _ in range(20):
        await checkpoint()


async def test_a_submitted_job_runs_and_its_report_is_observed() -> None:
    seen: list[JobReport] = []
    queue = JobQueue(observe=seen.append)
    async with running(queue, Gate(is_open=True)):
        report = await queue.run_now(job())
    assert report.ok
    assert seen == [report]


async def test_an_equal_job_that_waits_is_coalesced_and_all_get_its_report() -> None:
    gate, queue, reports = Gate(), JobQueue(), []

    async def wait(wanted: Job) -> None:
        reports.append(await queue.run_now(wanted))

    async with running(queue, gate, 1), anyio.create_task_group() as tasks:
        queue.submit(job("other", "other"))
        await gate.until_started(1)
        for _ in range(3):
            tasks.start_soon(wait, job())
        await settle()
        assert queue.submit(job())
        assert queue.depth == 1
        gate.open()
    assert len(gate.started) == 2
    assert len({id(report) for report in reports}) == 1
    assert len(reports) == 3


async def test_a_running_job_gets_at_most_one_follow_up() -> None:
    gate, queue = Gate(), JobQueue()
    async with running(queue, gate):
        queue.submit(job())
        await gate.until_started(1)
        for _ in range(5):
            assert queue.submit(job())
        await settle()
        assert (len(gate.started), queue.depth) == (1, 1)
        gate.open()
        await gate.until_started(2)
        await queue.await_report(job())
        await settle()
    assert len(gate.started) == 2


async def test_jobs_that_do_different_things_are_not_coalesced() -> None:
    queue = JobQueue()
    selections = (
        TagSelection(),
        TagSelection(sets=(TagSet(("a",)),)),
        TagSelection({"a": "a"}),
        TagSelection({"a": "b"}),
    )
    for selection in selections:
        queue.submit(job(tags=selection))
    queue.submit(job("another rule"))
    assert queue.depth == len(selections) + 1


async def test_the_newest_of_coalesced_jobs_runs() -> None:
    gate, queue = Gate(is_open=True), JobQueue()
    first, second = job(), Job("rule", job().source, job().target, recheck=1.0)
    queue.submit(first)
    queue.submit(second)
    async with running(queue, gate):
        await gate.until_started(1)
    assert gate.started[0] is second


async def test_one_target_repository_is_never_written_twice_at_a_time() -> None:
    gate, queue = Gate(), JobQueue()
    async with running(queue, gate, 8):
        for number in range(5):
            queue.submit(job(f"rule {number}", "same"))
            queue.submit(job(f"rule {number}", f"own {number}"))
        await gate.until_started(6)
        await settle()
        assert len(gate.started) == 6
        gate.open()
        await gate.until_started(10)
    assert gate.most["local/same"] == 1
    assert gate.most["all"] == 6


async def test_fault_62_one_rule_with_ten_thousand_jobs_does_not_starve_another() -> None:
    gate, queue = Gate(), JobQueue(capacity=20_000)
    for number in range(10_000):
        assert queue.submit(job("slow", f"repo-{number}"))
    async with running(queue, gate, 4):
        await gate.until_started(3)
        await settle()
        assert gate.most["slow"] == 3
        queue.submit(job("quick", "quick-1"))
        queue.submit(job("quick", "quick-2"))
        await gate.until_started(4)
        gate.release(3)
        await gate.until_started(5)
    assert [started.rule for started in gate.started] == ["slow"] * 3 + ["quick"] * 2


async def test_jobs_that_stand_still_keep_no_place_from_others() -> None:
    gate, queue, still = Gate(), JobQueue(), set[str]()
    async with running(queue, gate, 2, lambda one: one.rule in still):
        queue.submit(job("limited", "a"))
        queue.submit(job("limited too", "b"))
        await gate.until_started(2)
        queue.submit(job("free", "c"))
        queue.submit(job("free too", "d"))
        await settle()
        assert gate.most["all"] == 2
        still.update(("limited", "limited too"))
        await gate.until_started(4)  # the queue looks by itself: nothing else has changed
        assert {one.rule for one in queue.stalled} == still
        queue.submit(job("free", "e"))
        await settle()
        assert len(gate.started) == 4, "those that move take all places"
        still.clear()
        assert queue.stalled == ()
        gate.release(2)
        await settle()
        assert len(gate.started) == 4, "those that go on have their places again"
        gate.open()
        await gate.until_started(5)
    assert [one.rule for one in gate.started[2:]] == ["free", "free too", "free"]


async def test_of_jobs_that_stand_still_only_so_many_are_begun() -> None:
    gate, queue = Gate(), JobQueue()
    for number in range(100):
        queue.submit(job("limited", f"repo-{number}"))
    async with running(queue, gate, 2, lambda one: one.rule == "limited"):
        await gate.until_started(32)
        await settle()
        assert len(gate.started) == 32
        queue.submit(job("free", "free"))
        await gate.until_started(33)
        assert gate.started[-1].rule == "free"
        gate.open()
        await gate.until_started(101)


async def test_rules_take_turns() -> None:
    gate, queue = Gate(is_open=True), JobQueue()
    for rule in ("a", "b", "c"):
        for number in range(3):
            queue.submit(job(rule, f"{rule}{number}"))
    async with running(queue, gate, 1):
        await gate.until_started(9)
    assert "".join(started.rule for started in gate.started) == "abcabcabc"


async def test_a_full_queue_refuses_and_run_now_waits_for_room() -> None:
    gate, queue = Gate(), JobQueue(capacity=1)
    async with running(queue, gate, 1), anyio.create_task_group() as tasks:
        queue.submit(job(repository="a"))
        await gate.until_started(1)
        assert queue.submit(job(repository="b"))
        assert not queue.submit(job(repository="c"))
        tasks.start_soon(queue.run_now, job(repository="c"))
        await settle()
        assert queue.waiting() == {"rule": 1}
        gate.open()
        await gate.until_started(3)


async def test_what_is_known_of_waiting_and_running_jobs() -> None:
    gate, queue = Gate(), JobQueue()
    async with running(queue, gate, 1):
        assert await queue.await_report(job()) is None
        queue.submit(job())
        await gate.until_started(1)
        queue.submit(job("b", "b"))
        assert (queue.running, queue.waiting(), queue.depth) == ((job(),), {"b": 1}, 1)
        gate.open()
        report = await queue.await_report(job("b", "b"))
    assert report is not None
    assert report.rule == "b"


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (NotFound("no such tag"), Failure("source.missing", "no such tag", "fail")),
        (ExceptionGroup("", [NetworkError("gone")]), Failure("net.unreachable", "gone", "retry")),
    ],
)
async def test_an_error_becomes_a_report_and_the_worker_lives_on(error: Exception, failure: Failure) -> None:
    async def runner(wanted: AnyJob) -> JobReport:
        if wanted.rule == "bad":
            raise error
        return JobReport(wanted.rule, "", "")

    queue = JobQueue()
    async with running(queue, runner, 1):
        report = await queue.run_now(job("bad"))
        assert (await queue.run_now(job("good"))).ok
    assert report.failure == failure


@pytest.mark.parametrize("error", [KeyError("x"), ExceptionGroup("", [KeyError("x"), NotFound("y")])])
async def test_a_bug_is_reported_as_one_with_its_traceback(error: Exception) -> None:
    async def runner(wanted: AnyJob) -> JobReport:
        raise error

    queue = JobQueue()
    with capture_logs() as lines:
        async with running(queue, runner, 1):
            report = await queue.run_now(job())
    assert report.failure is not None
    assert report.failure.code == "internal"
    assert "this is a bug" in report.failure.message
    assert [(line["event"], line["log_level"], line["exc_info"]) for line in lines] == [("job.crashed", "error", True)]


async def test_closing_lets_running_jobs_finish_and_starts_no_more() -> None:
    gate, queue, reports = Gate(), JobQueue(), []

    async def wait(wanted: Job) -> None:
        reports.append(await queue.run_now(wanted))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(queue.run, FunctionRunner(gate), 1)
            tasks.start_soon(wait, job("a", "a"))
            await gate.until_started(1)
            tasks.start_soon(wait, job("b", "b"))
            await settle()
            queue.close(drain=60)
            assert not queue.submit(job("c", "c"))
            gate.open()
    codes = {report.rule: report.failure and report.failure.code for report in reports}
    assert codes == {"a": None, "b": STOPPED}
    assert gate.started == gate.finished == [job("a", "a")]


async def test_closing_cancels_what_runs_longer_than_the_drain() -> None:
    gate, queue, reports = Gate(), JobQueue(), []

    async def wait() -> None:
        reports.append(await queue.run_now(job()))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(queue.run, FunctionRunner(gate), 1)
            tasks.start_soon(wait)
            await gate.until_started(1)
            queue.close(drain=0.01)
    assert reports[0].failure is not None
    assert (reports[0].failure.code, gate.finished, queue.running) == (STOPPED, [], ())


async def test_a_closed_queue_answers_at_once() -> None:
    queue = JobQueue()
    queue.close()
    report = await queue.run_now(job())
    assert report.failure is not None
    assert report.failure.code == STOPPED
