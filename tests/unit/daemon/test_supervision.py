"""A part that a defect ends is started again."""

from __future__ import annotations

import anyio
import pytest
from structlog.testing import capture_logs

from ocisync.daemon.supervision import LASTING, PAUSES, Supervisor
from tests.unit.daemon.clocks import TestClock, until


async def test_a_part_that_a_defect_ends_is_started_again_after_a_growing_pause() -> None:
    clock, starts = TestClock(), list[float]()
    supervisor = Supervisor(clock)

    async def part() -> None:
        starts.append(clock.now)
        if len(starts) == 4:
            clock.now += LASTING
        if len(starts) < 6:
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    with capture_logs() as logs, anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.keep_running, "the drop folder of rule builds", part)
            for number, pause in enumerate((1.0, 2.0, 4.0, 1.0, 2.0), start=1):
                await until(lambda number=number: len(starts) == number and bool(clock.sleeping))  # type: ignore[misc]
                (reason,) = supervisor.failed_parts()
                assert "the drop folder of rule builds" in reason
                assert "UnicodeEncodeError" in reason
                assert clock.sleeping == [clock.now + pause]
                clock.advance(pause)
    assert supervisor.failed_parts() == ()
    assert len(starts) == 6
    assert [(line["event"], line["exc_info"]) for line in logs] == [("part.failed", True)] * 5


async def test_a_part_that_ends_by_itself_or_is_cancelled_is_not_started_again() -> None:
    supervisor, starts = Supervisor(TestClock()), list[str]()

    async def part() -> None:
        starts.append("started")

    await supervisor.keep_running("a part", part)
    with anyio.move_on_after(0.01):
        await supervisor.keep_running("another", anyio.sleep_forever)
    assert starts == ["started"]
    assert supervisor.failed_parts() == ()


@pytest.mark.parametrize("failures", [1, 5, 50])
def test_no_pause_is_longer_than_five_minutes(failures: int) -> None:
    assert PAUSES.ceiling(failures) <= 300
