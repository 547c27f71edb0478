"""Costs are counted where they happen and charged to the tags they were for."""

from __future__ import annotations

import anyio
import pytest

from ocisync.content.cost import Cost, attribute_cost, count_bytes, count_request, measure_cost


def counted(cost: Cost) -> tuple[int, int]:
    return cost.requests, cost.bytes


async def ask(requests: int, sent: int = 0) -> None:
    for _ in range(requests):
        await anyio.lowlevel.checkpoint()
        count_request()
    count_bytes(sent)


async def test_tasks_charge_what_they_work_for() -> None:
    async def bring(tag: str, requests: int, sent: int) -> None:
        with attribute_cost([tag]):
            async with anyio.create_task_group() as inner:
                for _ in range(3):
                    inner.start_soon(ask, requests, sent)

    with measure_cost() as meter:
        await ask(5)
        async with anyio.create_task_group() as group:
            group.start_soon(bring, "a", 1, 10)
            group.start_soon(bring, "b", 2, 100)
    assert {tag: counted(cost) for tag, cost in meter.tags.items()} == {"a": (3, 30), "b": (6, 300)}
    assert counted(meter.total) == (14, 330)
    assert counted(meter.of("c")) == (0, 0)


async def test_what_serves_several_tags_is_divided_and_nothing_is_lost() -> None:
    with measure_cost() as meter:
        for _ in range(2):
            with attribute_cost(["a", "b", "c"]):
                await ask(4, 8)
    assert [counted(meter.of(tag)) for tag in "abc"] == [(4, 6), (2, 6), (2, 4)]
    assert counted(meter.total) == (8, 16)


async def test_what_failed_cost_as_well() -> None:
    async def fail() -> None:
        with attribute_cost(["a"]):
            await ask(1)
            raise ValueError("refused")

    with measure_cost() as meter, pytest.raises(ValueError, match="refused"):
        await fail()
    assert counted(meter.of("a")) == (1, 0)


async def test_two_jobs_at_a_time_have_costs_of_their_own() -> None:
    found: list[int] = []

    async def job(requests: int) -> None:
        with measure_cost() as meter:
            await ask(requests)
        found.append(meter.total.requests)

    async with anyio.create_task_group() as group:
        group.start_soon(job, 3)
        group.start_soon(job, 4)
    assert sorted(found) == [3, 4]


async def test_without_a_meter_nothing_is_kept() -> None:
    with attribute_cost(["a"]):
        await ask(2)
    with measure_cost() as meter:
        await ask(1)
    assert (counted(meter.total), meter.tags) == ((1, 0), {})
