"""Work for one thread, done together."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import anyio
import pytest
from anyio import CapacityLimiter, to_thread

from ocisync.state.batching import BatchExecutor, PendingCall


class Thread:
    """Settles what it is given, once the gate is open; `rounds` are the results of each call."""

    def __init__(self) -> None:
        self.rounds: list[list[str]] = []
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.together = BatchExecutor(self._settle_all, CapacityLimiter(1))

    def _settle_all(self, together: Sequence[PendingCall]) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        self.rounds.append([one.act(None) for one in together])
        for one in together:
            one.finish(one.act(None))

    async def ask(self, name: str) -> str:
        return str(await self.together.ask(PendingCall(lambda _: name, is_write=True)))

    async def is_entered(self) -> None:
        assert await to_thread.run_sync(self.entered.wait, 10)


async def test_what_comes_while_the_thread_is_at_work_is_done_in_one_round() -> None:
    thread = Thread()
    async with anyio.create_task_group() as group:
        group.start_soon(thread.ask, "first")
        await thread.is_entered()
        for name in ("second", "third", "fourth"):
            group.start_soon(thread.ask, name)
        await anyio.wait_all_tasks_blocked()
        thread.gate.set()
    assert thread.rounds == [["first"], ["second", "third", "fourth"]]


async def test_everybody_gets_an_answer_of_their_own() -> None:
    thread, answers = Thread(), {}
    thread.gate.set()

    async def ask(name: str) -> None:
        answers[name] = await thread.ask(name)

    async with anyio.create_task_group() as group:
        for at in range(20):
            group.start_soon(ask, str(at))
    assert answers == {str(at): str(at) for at in range(20)}


async def test_who_is_cancelled_before_the_turn_came_takes_nothing_away_from_others() -> None:
    thread = Thread()
    async with anyio.create_task_group() as group:
        group.start_soon(thread.ask, "first")
        await thread.is_entered()
        with anyio.move_on_after(0.01) as waiting:
            await thread.ask("gone")
        assert waiting.cancelled_caught
        group.start_soon(thread.ask, "second")
        await anyio.wait_all_tasks_blocked()
        thread.gate.set()
    assert thread.rounds == [["first"], ["second"]]


async def test_who_leads_may_be_cancelled_before_the_thread_begins() -> None:
    thread = Thread()
    thread.gate.set()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await thread.ask("gone")
    with anyio.fail_after(5):
        assert await thread.ask("next") == "next"
    assert thread.rounds == [["next"]]


async def test_an_error_is_its_askers_own() -> None:
    def settle_all(together: Sequence[PendingCall]) -> None:
        for one in together:
            one.finish(None, ValueError(one.act(None)))

    together = BatchExecutor(settle_all, CapacityLimiter(1))
    with pytest.raises(ValueError, match="mine"):
        await together.ask(PendingCall(lambda _: "mine", is_write=False))
