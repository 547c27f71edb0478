"""Pace, pauses, places and trickles."""

import anyio
import pytest

from ocisync.spec import media_types
from ocisync.spec.descriptor import Descriptor
from ocisync.spec.digest import sha256
from ocisync.stores.registry.answer import RateWatch
from ocisync.stores.registry.limits import Gate, Pace
from ocisync.stores.registry.options import RegistryOptions
from ocisync.stores.registry.transport import KnownSizes


def test_a_pace_lets_one_seconds_worth_through_at_once_and_then_its_rate() -> None:
    pace = Pace(5)
    assert [pace.reserve(100.0) for _ in range(8)] == pytest.approx([0, 0, 0, 0, 0, 0.2, 0.4, 0.6])


def test_an_idle_pace_saves_no_more_than_a_second() -> None:
    pace = Pace(2)
    assert [pace.reserve(0.0) for _ in range(3)] == pytest.approx([0, 0, 0.5])
    assert [pace.reserve(1000.0) for _ in range(3)] == pytest.approx([0, 0, 0.5])


def test_less_than_one_a_second_has_no_burst() -> None:
    pace = Pace(0.5)
    assert [pace.reserve(10.0), pace.reserve(10.0), pace.reserve(16.0)] == pytest.approx([0, 2.0, 0])


def test_no_pace_never_waits() -> None:
    pace = Pace(0)
    assert {pace.reserve(1.0) for _ in range(100)} == {0.0}


async def test_a_gate_has_so_many_places_and_uploads_have_their_own() -> None:
    gate = Gate(RegistryOptions(concurrency=2))
    first, _ = await gate.enter(), await gate.enter()
    with anyio.move_on_after(0.05) as waiting:
        await gate.enter()
    assert waiting.cancelled_caught
    async with gate.upload_place(), gate.upload_place():
        first()
        first()  # giving back twice is harmless
        await gate.enter()
        with anyio.move_on_after(0.05) as waiting:
            await gate.enter()
        assert waiting.cancelled_caught


async def test_a_pause_holds_everybody_and_a_longer_one_wins() -> None:
    gate = Gate(RegistryOptions())
    gate.pause(0.2)
    gate.pause(0.05)
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(gate.turn)
    assert anyio.current_time() - began >= 0.2


async def test_a_cancelled_wait_gives_its_place_back() -> None:
    gate = Gate(RegistryOptions(concurrency=1))
    gate.pause(60)
    with anyio.move_on_after(0.01):
        await gate.enter()
    gate._paused_until = 0.0
    with anyio.fail_after(5):
        await gate.enter()


def test_fault_04_a_trickle_shows_within_a_window() -> None:
    watch = RateWatch(minimum=1000, window=10.0)
    assert not any(watch.too_slow(1.0, 1000) for _ in range(50))
    assert [watch.too_slow(1.0, 10) for _ in range(10)] == [False] * 9 + [True]


def test_fault_04_only_waiting_counts() -> None:
    watch = RateWatch(minimum=1000, window=10.0)
    assert not any(watch.too_slow(0.001, 1) for _ in range(5000))
    assert not RateWatch(minimum=0, window=1.0).too_slow(100.0, 1)


def test_known_sizes_are_bounded_and_only_claim_what_they_know() -> None:
    sizes = KnownSizes(most=2)
    first, second, third = (Descriptor(media_types.OCI_LAYER, sha256(bytes([n])), 1) for n in range(3))
    assert not sizes.agree(first)
    assert not sizes.disagree(first)
    sizes.learn(first)
    assert sizes.agree(first)
    assert sizes.disagree(Descriptor(first.media_type, first.digest, 2))
    sizes.learn(second)
    sizes.learn(third)
    assert not sizes.agree(first)
    assert sizes.agree(third)
