"""Pace, pauses, places and trickles."""

import time

import anyio
import pytest

from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256
from ocisync.stores.registry.host_facts import KnownSizes
from ocisync.stores.registry.http.host_limiter import HostLimiter, RequestRate, Throttle
from ocisync.stores.registry.http.response import RateWatch
from ocisync.stores.registry.options import RegistryOptions
from ocisync.stores.registry.pull_budget import Count, parse_count


def test_a_pace_lets_one_seconds_worth_through_at_once_and_then_its_rate() -> None:
    pace = RequestRate(5)
    assert [pace.reserve(100.0) for _ in range(8)] == pytest.approx([0, 0, 0, 0, 0, 0.2, 0.4, 0.6])


def test_an_idle_pace_saves_no_more_than_a_second() -> None:
    pace = RequestRate(2)
    assert [pace.reserve(0.0) for _ in range(3)] == pytest.approx([0, 0, 0.5])
    assert [pace.reserve(1000.0) for _ in range(3)] == pytest.approx([0, 0, 0.5])


def test_less_than_one_a_second_has_no_burst() -> None:
    pace = RequestRate(0.5)
    assert [pace.reserve(10.0), pace.reserve(10.0), pace.reserve(16.0)] == pytest.approx([0, 2.0, 0])


def test_no_pace_never_waits() -> None:
    pace = RequestRate(0)
    assert {pace.reserve(1.0) for _ in range(100)} == {0.0}


async def test_a_gate_has_so_many_places_and_uploads_have_their_own() -> None:
    gate = HostLimiter(RegistryOptions(concurrency=2))
    first, _ = await gate.enter("a"), await gate.enter("a")
    with anyio.move_on_after(0.05) as waiting:
        await gate.enter("a")
    assert waiting.cancelled_caught
    async with gate.hold_upload_place("a"), gate.hold_upload_place("a"):
        first()
        first()  # giving back twice is harmless
        await gate.enter("a")
        with anyio.move_on_after(0.05) as waiting:
            await gate.enter("a")
        assert waiting.cancelled_caught


async def test_the_limits_of_a_host_hold_over_all_its_paths() -> None:
    host = HostLimiter(RegistryOptions(concurrency=3))
    one, two = (HostLimiter(RegistryOptions(concurrency=2), whole=host) for _ in range(2))
    first, _ = await one.enter("a"), await one.enter("a")
    with anyio.move_on_after(0.05) as waiting:
        await one.enter("a")  # the path's own
    assert waiting.cancelled_caught
    await two.enter("a")
    for gate in (two, host):
        with anyio.move_on_after(0.05) as waiting:
            await gate.enter("a")  # the host's
        assert waiting.cancelled_caught
    first()
    await two.enter("a")
    async with one.hold_upload_place("a"), one.hold_upload_place("a"), two.hold_upload_place("b"):
        with anyio.move_on_after(0.05) as waiting:
            async with two.hold_upload_place("b"):
                pass
        assert waiting.cancelled_caught


@pytest.mark.parametrize("is_upload", [False, True])
async def test_the_many_blobs_of_one_repository_do_not_hold_up_another(is_upload: bool) -> None:
    host = HostLimiter(RegistryOptions(concurrency=1))
    for gate in (host, HostLimiter(RegistryOptions(concurrency=1), whole=host)):
        begun = await _begin(gate, ["large", "large", "large", "small"], is_upload=is_upload)
        assert begun == ["large", "large", "small", "large"]


async def _begin(gate: HostLimiter, repositories: list[str], *, is_upload: bool) -> list[str]:
    begun: list[str] = []

    async def upload(repository: str) -> None:
        async with gate.hold_upload_place(repository):
            begun.append(repository)
            await anyio.sleep(0.001)

    async def ask(repository: str) -> None:
        leave = await gate.enter(repository)
        begun.append(repository)
        await anyio.sleep(0.001)
        leave()

    async with anyio.create_task_group() as group:
        for repository in repositories:
            group.start_soon(upload if is_upload else ask, repository)
    return begun


async def test_a_pause_that_one_path_was_asked_for_holds_the_host() -> None:
    host = HostLimiter(RegistryOptions())
    one, two = (HostLimiter(RegistryOptions(), whole=host) for _ in range(2))
    one.slow_down(429, {"Retry-After": "60"})
    assert one.is_paused
    assert two.is_paused
    assert host.is_paused


async def test_the_pace_and_the_bandwidth_of_a_host_hold_over_all_its_paths() -> None:
    host = HostLimiter(RegistryOptions(requests_per_second=10, bandwidth=100_000))
    one, two = (HostLimiter(RegistryOptions(bandwidth=200_000), whole=host) for _ in range(2))
    began = time.monotonic()
    for gate in (one, two) * 6:
        (await gate.enter("a"))()
    assert time.monotonic() - began >= 0.09  # one second's worth is there at once, and each further has its tenth
    assert one.throttle is not None
    assert two.throttle is not None
    assert one.throttle.reserve(100_000, 0.0) == pytest.approx(1.0)  # the host's
    assert two.throttle.reserve(100_000, 0.0) == pytest.approx(2.0)


async def test_a_pause_holds_everybody_and_a_longer_one_wins() -> None:
    gate = HostLimiter(RegistryOptions())
    began = time.monotonic()  # before the pause, on its clock: what passes between the two is part of neither
    gate.pause(0.2)
    gate.pause(0.05)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(gate.wait_turn)
    assert time.monotonic() - began >= 0.2


async def test_a_cancelled_wait_gives_its_place_back() -> None:
    gate = HostLimiter(RegistryOptions(concurrency=1))
    gate.pause(60)
    with anyio.move_on_after(0.01):
        await gate.enter("a")
    gate._paused_until = 0.0
    with anyio.fail_after(5):
        await gate.enter("a")


async def places(gate: HostLimiter) -> int:
    """How many requests may be under way now."""
    releases = []
    with anyio.move_on_after(0.05):
        while True:
            releases.append(await gate.enter("a"))
    for release in releases:
        release()
    return len(releases)


async def test_fault_15_a_host_that_refuses_gets_half_the_requests_and_then_more_again() -> None:
    gate = HostLimiter(RegistryOptions(concurrency=8))
    taken = [await gate.enter("a") for _ in range(8)]
    gate.pause(60)
    gate.pause(60)  # a refusal of the same burst
    for release in taken:
        release()
    gate._paused_until = 0.0
    assert await places(gate) == 4
    gate.pause(0)
    gate.pause(0)
    gate.pause(0)
    assert (await places(gate), gate.refusals) == (1, 4)
    gate.record_success()
    assert (await places(gate), gate.refusals) == (2, 0)
    for _ in range(2 + 3 + 4 + 5 + 6 + 7 + 50):
        gate.record_success()
    assert await places(gate) == 8


def test_a_throttle_makes_transfers_wait_for_each_other() -> None:
    throttle = Throttle(100_000)
    assert throttle.piece == 25_000
    assert [throttle.reserve(25_000, 10.0) for _ in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert throttle.reserve(50_000, 100.0) == pytest.approx(0.5), "time that nobody used is gone"
    assert (Throttle(1).piece, Throttle(10**12).piece) == (4096, 1 << 20)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("76;w=21600", Count(76, 21600.0)),
        ("0;w=21600", Count(0, 21600.0)),
        ("100; w=60", Count(100, 60.0)),
        ("12", Count(12, None)),
        ("100, 100;w=60", Count(100, None)),
        ("-1;w=5", None),
        ("many", None),
        ("9" * 12, None),
        ("", None),
        (None, None),
    ],
)
def test_limits_in_headers(text: str | None, count: Count | None) -> None:
    assert parse_count(text) == count


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
