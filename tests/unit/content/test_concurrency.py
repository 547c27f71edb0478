"""Bounded work, once per key, with failures and cancellations that behave."""

from __future__ import annotations

import anyio
import pytest

from ocisync.content.concurrency import ByteBudget, SingleFlight, for_each, for_each_wave

pytestmark = pytest.mark.anyio


async def test_for_each_holds_its_bound_and_reaches_every_item() -> None:
    now = most = 0
    seen: list[int] = []

    async def act(item: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.lowlevel.checkpoint()
        now -= 1
        seen.append(item)

    await for_each(range(50), act, workers=4)
    assert sorted(seen) == list(range(50))
    assert most == 4


async def test_the_first_error_is_raised_as_it_is_and_stops_the_rest() -> None:
    seen: list[int] = []

    async def act(item: int) -> None:
        seen.append(item)
        await anyio.lowlevel.checkpoint()
        if item == 3:
            raise ValueError(item)

    with pytest.raises(ValueError, match="3"):
        await for_each(range(1000), act, workers=2)
    assert len(seen) < 1000


async def test_once_shares_a_result_and_a_failure() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    runs = 0
    go = anyio.Event()

    async def work() -> int:
        nonlocal runs
        runs += 1
        await go.wait()
        return 7

    tries: list[bool] = []

    async def ask_for_what_fails() -> None:
        async with flights.turn("bad") as turn:
            tries.append(turn.is_done)
            raise ValueError("broken")

    results: list[int] = []

    async def ask() -> None:
        async with flights.turn("key") as turn:
            if not turn.is_done:
                turn.result = await work()
            results.append(turn.result)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        go.set()
    assert (runs, results) == (1, [7] * 5)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            await ask_for_what_fails()
    assert tries == [False]


async def test_whoever_waits_takes_over_when_the_first_is_cancelled() -> None:
    flights: SingleFlight[str, str] = SingleFlight()
    started = anyio.Event()

    async def never() -> None:
        async with flights.turn("key"):
            started.set()
            await anyio.sleep_forever()

    async def quick() -> str:
        return "second"

    results: list[str] = []

    async def waiter() -> None:
        async with flights.turn("key") as turn:
            assert not turn.is_done
            turn.result = await quick()
        results.append(turn.result)

    async with anyio.create_task_group() as group, anyio.create_task_group() as doomed:
        doomed.start_soon(never)
        await started.wait()
        group.start_soon(waiter)
        await anyio.lowlevel.checkpoint()
        doomed.cancel_scope.cancel()
    assert results == ["second"]


async def test_a_budget_of_bytes_is_kept_and_what_is_larger_goes_alone() -> None:
    budget = ByteBudget(10)
    used = 0
    seen: list[int] = []

    async def use(size: int) -> None:
        nonlocal used
        async with budget.hold(size):
            used += size
            seen.append(used)
            await anyio.lowlevel.checkpoint()
            used -= size

    async with anyio.create_task_group() as group:
        for size in (4, 4, 4, 25, 0, 10, 3, 3):
            group.start_soon(use, size)
    assert len(seen) == 8
    assert all(one <= 10 or one == 25 for one in seen)


async def test_waves_visit_everything_once_and_end_at_their_depth() -> None:
    leads = {"a": ["b", "c"], "b": ["c", "d"], "c": ["a"], "d": ["e"], "e": []}
    seen: list[str] = []

    async def visit(item: str) -> list[str]:
        seen.append(item)
        return leads[item]

    assert await for_each_wave(["a"], visit, workers=2)
    assert sorted(seen) == list("abcde")
    assert seen.index("d") > max(seen.index("b"), seen.index("c"))
    for depth, ends in ((2, False), (3, True)):
        assert await for_each_wave(["a"], visit, workers=2, depth=depth) is ends
