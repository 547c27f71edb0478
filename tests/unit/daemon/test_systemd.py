"""sd_notify, against a real socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from structlog.testing import capture_logs

from ocisync.daemon.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A datagram socket, and its name as systemd writes it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@ocisync-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.settimeout(10)
        yield listening, name


def heard(listener: tuple[socket.socket, str]) -> list[str]:
    """The lines of the next message."""
    return listener[0].recv(4096).decode().split("\n")


def notifier_for(listener: tuple[socket.socket, str], **more: str) -> Notifier:
    return Notifier.from_environment({"NOTIFY_SOCKET": listener[1], **more})


def test_what_systemd_hears(listener: tuple[socket.socket, str]) -> None:
    notifier = notifier_for(listener)
    notifier.ready("3 rules")
    assert heard(listener) == ["READY=1", "STATUS=3 rules"]
    notifier.ready()
    assert heard(listener) == ["READY=1"]
    notifier.status("copying\nMAINPID=1")
    assert heard(listener) == ["STATUS=copying MAINPID=1"]
    notifier.stopping("draining")
    assert heard(listener) == ["STOPPING=1", "STATUS=draining"]


def test_reloading_carries_the_monotonic_time(listener: tuple[socket.socket, str]) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier_for(listener).reloading()
    first, second = heard(listener)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= after


async def test_the_watchdog_is_pinged_at_half_its_period(listener: tuple[socket.socket, str]) -> None:
    notifier = notifier_for(listener, WATCHDOG_USEC="200000", WATCHDOG_PID=str(os.getpid()))
    assert notifier.watchdog_period == 0.2
    started = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(notifier.keep_alive)
        for _ in range(3):
            assert await to_thread.run_sync(heard, listener) == ["WATCHDOG=1"]
        assert time.monotonic() - started >= 0.19
        tasks.cancel_scope.cancel()


async def test_the_watchdog_is_not_pinged_when_nothing_moves(listener: tuple[socket.socket, str]) -> None:
    notifier = notifier_for(listener, WATCHDOG_USEC="100000")
    asked: list[None] = []
    is_enough = anyio.Event()

    def is_alive() -> bool:
        asked.append(None)
        if len(asked) == 3:
            is_enough.set()
        return False

    with anyio.fail_after(10), capture_logs() as lines:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(notifier.keep_alive, is_alive)
            await is_enough.wait()
            tasks.cancel_scope.cancel()
    assert lines[0]["event"] == "watchdog.withheld"
    notifier.status("nothing came before")
    assert heard(listener) == ["STATUS=nothing came before"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid() + 1)},
    ],
)
async def test_no_watchdog_was_asked_for(environ: dict[str, str]) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": "/nowhere", **environ})
    assert notifier.watchdog_period is None
    with anyio.fail_after(1):
        await notifier.keep_alive()


@pytest.mark.parametrize("address", ["", "/nowhere/at/all"])
def test_nobody_listens(address: str) -> None:
    notifier = Notifier(address)
    notifier.ready()
    notifier.reloading()
    notifier.stopping()


def test_a_full_socket_does_not_block(listener: tuple[socket.socket, str]) -> None:
    notifier = notifier_for(listener)
    started = time.monotonic()
    for _ in range(1000):
        notifier.status("x" * 1000)
    assert time.monotonic() - started < 5
