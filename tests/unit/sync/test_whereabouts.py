"""Where blobs lie: what is asked of the ledger, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio
import pytest

from ocisync.errors import StoreError
from ocisync.spec.digest import Digest, sha256
from ocisync.sync.ledger import MemoryLedger
from ocisync.sync.whereabouts import Whereabouts

pytestmark = pytest.mark.anyio
BLOBS = [sha256(bytes([number])) for number in range(6)]


@dataclass
class SlowLedger(MemoryLedger):
    """Answers when it is let, and tells what it was asked."""

    asked: list[set[Digest]] = field(default_factory=list)
    let: anyio.Event = field(default_factory=anyio.Event)
    failures: int = 0

    async def locate(self, target: str, digests: list[Digest]) -> Mapping[Digest, str]:
        self.asked.append(set(digests))
        await self.let.wait()
        if self.failures:
            self.failures -= 1
            raise StoreError("the ledger is closed")
        return await super().locate(target, digests)


@pytest.fixture
async def ledger() -> SlowLedger:
    found = SlowLedger()
    await found.record("t", "home", {}, dict.fromkeys(BLOBS[:5], 1))
    return found


async def look(found: Whereabouts, ledger: SlowLedger, *numbers: int) -> list[str | None]:
    await found.look_up(ledger, "t", [BLOBS[number] for number in numbers])
    return [found.home("t", BLOBS[number]) for number in numbers]


async def test_what_is_wanted_while_the_ledger_answers_is_one_question(ledger: SlowLedger) -> None:
    found, answers = Whereabouts(), dict[int, list[str | None]]()

    async def one(number: int) -> None:
        answers[number] = await look(found, ledger, number, 5)

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(one, number)
            await anyio.wait_all_tasks_blocked()
        ledger.let.set()
    assert ledger.asked == [{BLOBS[0], BLOBS[5]}, {*BLOBS[1:5], BLOBS[5]}]
    assert answers == {number: ["home", None] for number in range(5)}


async def test_what_is_known_is_not_asked_again(ledger: SlowLedger) -> None:
    found = Whereabouts()
    found.seen("t", BLOBS[0], "there")
    ledger.let.set()
    assert await look(found, ledger, 0) == ["there"]
    assert ledger.asked == []
    assert await look(found, ledger, 0, 1) == ["there", "home"]
    assert ledger.asked == [{BLOBS[1]}]


async def test_who_waited_for_one_that_was_cancelled_asks_itself(ledger: SlowLedger) -> None:
    found, answers = Whereabouts(), list[str | None]()

    async def last() -> None:
        answers.extend(await look(found, ledger, 2))

    async with anyio.create_task_group() as group:
        group.start_soon(look, found, ledger, 0)
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as doomed:
            doomed.start_soon(look, found, ledger, 1)  # waits for the first to be answered
            await anyio.wait_all_tasks_blocked()
            group.start_soon(last)  # and joins it
            await anyio.wait_all_tasks_blocked()
            doomed.cancel_scope.cancel()
        ledger.let.set()
    assert answers == ["home"]
    assert ledger.asked == [{BLOBS[0]}, {BLOBS[2]}]


async def test_an_error_is_of_those_that_asked_and_no_others(ledger: SlowLedger) -> None:
    found, failed = Whereabouts(), list[int]()
    ledger.failures = 1

    async def one(number: int) -> None:
        try:
            assert await look(found, ledger, number) == ["home"]
        except StoreError:
            failed.append(number)

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(one, number)
            await anyio.wait_all_tasks_blocked()
        ledger.let.set()
    assert failed == [0]
