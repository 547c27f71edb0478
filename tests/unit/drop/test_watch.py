"""The watched folder: a bell for speed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from structlog.testing import capture_logs

from ocisync.content.concurrency import Wakeup
from ocisync.drop.watch import watch_folder

DEADLINE = 20.0  # seconds


@asynccontextmanager
async def _watching(folder: Path, retry: float = 60.0) -> AsyncIterator[Wakeup]:
    wakeup = Wakeup()
    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: watch_folder(folder, wakeup, retry=retry))
            await wakeup.wait(DEADLINE)  # it rings when it begins
            yield wakeup
            group.cancel_scope.cancel()


async def _rings_for(wakeup: Wakeup, folder: Path) -> None:
    """Write files until it rings: a notification may come from before the watch."""
    for number in range(100):
        (folder / f"file{number}").write_text("x")
        started = anyio.current_time()
        await wakeup.wait(1.0)
        if anyio.current_time() - started < 0.95:
            return
    raise AssertionError("it never rang")


async def test_it_rings_for_new_files_also_in_new_folders(tmp_path: Path) -> None:
    async with _watching(tmp_path) as wakeup:
        await _rings_for(wakeup, tmp_path)
        (tmp_path / "below").mkdir()
        await _rings_for(wakeup, tmp_path / "below")


async def test_a_missing_folder_is_made_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "drop" / "here"
    with capture_logs() as logs:
        async with _watching(folder) as wakeup:
            await _rings_for(wakeup, folder)
    assert [entry["event"] for entry in logs if entry["log_level"] != "debug"] == ["drop.folder_made"]


async def test_a_folder_that_vanishes_and_comes_back_is_watched_again(tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    async with _watching(folder) as wakeup:
        folder.rename(tmp_path / "away")
        folder.mkdir(exist_ok=True)
        await _rings_for(wakeup, folder)


async def test_what_cannot_be_watched_is_said_once_and_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    folder.write_text("")
    with capture_logs() as logs, anyio.fail_after(DEADLINE):
        wakeup = Wakeup()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: watch_folder(folder, wakeup, retry=0.01))
            await wakeup.wait(0.2)
            folder.unlink()
            await wakeup.wait(DEADLINE)
            await _rings_for(wakeup, folder)
            group.cancel_scope.cancel()
    assert [entry["event"] for entry in logs] == ["drop.watch_failed", "drop.folder_made"]


async def test_a_cancelled_watch_ends_soon(tmp_path: Path) -> None:
    async with _watching(tmp_path):
        before = anyio.current_time()
    assert anyio.current_time() - before < 0.9


async def test_rings_between_two_waits_are_one_and_none_is_lost() -> None:
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    with anyio.fail_after(DEADLINE):
        await wakeup.wait(DEADLINE * 2)
    before = anyio.current_time()
    await wakeup.wait(0.05)
    assert anyio.current_time() - before >= 0.05
