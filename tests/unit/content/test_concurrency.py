"""Bounded work, once per key, with failures and cancellations that behave."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from ocisync.content.concurrency import ByteBudget, FairSemaphore, SingleFlight, for_each, for_each_wave

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


async def test_places_go_to_their_sharers_in_turn_and_are_never_more() -> None:
    places = FairSemaphore(2)
    now = most = 0
    served: list[str] = []

    async def work(sharer: str, number: int) -> None:
        nonlocal now, most
        async with places.hold(sharer):
            served.append(f"{sharer}{number}")
            now += 1
            most = max(most, now)
            await anyio.sleep(0.001)
            now -= 1

    async with anyio.create_task_group() as group:
        for sharer, count in (("a", 6), ("b", 2), ("c", 1)):
            for number in range(count):
                group.start_soon(work, sharer, number)
    assert served == ["a0", "a1", "a2", "b0", "c0", "a3", "b1", "a4", "a5"]
    assert most == 2


async def test_a_place_is_not_lost_with_whoever_is_cancelled() -> None:
    places = FairSemaphore(1)
    served: list[int] = []

    async def work(number: int) -> None:
        async with places.hold("a"):
            served.append(number)

    async with places.hold("a"):
        # anyio cancels no task whose turn has come, but asyncio does.
        tasks = [asyncio.create_task(work(number)) for number in range(3)]  # noqa: TID251
        await anyio.wait_all_tasks_blocked()
        tasks[1].cancel()  # while it waits
        await anyio.wait_all_tasks_blocked()
    tasks[0].cancel()  # its turn has come, and it has not run since
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [True, True, False]
    assert served == [2]
    with anyio.fail_after(1):
        async with places.hold("b"):
            pass
