"""When a changed configuration is read again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import pytest

from ocisync.content.threads import run_file
from ocisync.daemon import config_watch
from ocisync.daemon.config_watch import ConfigWatcher


@pytest.fixture(autouse=True)
def frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change before the system began to notify is only seen by a look."""
    monkeypatch.setattr(config_watch, "LOOK", 0.05)


@dataclass
class Reader:
    """Reads the file when it is told to."""

    file: Path
    texts: list[str] = field(default_factory=list)
    read: anyio.Event = field(default_factory=anyio.Event)

    async def reload(self) -> None:
        self.texts.append(await anyio.Path(self.file).read_text())
        self.read.set()
        self.read = anyio.Event()


@asynccontextmanager
async def watching(file: Path) -> AsyncIterator[Reader]:
    reader = Reader(file)
    watcher = await run_file(partial(ConfigWatcher, file))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.serve, reader.reload)
        yield reader
        tasks.cancel_scope.cancel()


async def test_a_file_renamed_over_it_and_one_that_comes_back_are_changes(tmp_path: Path) -> None:
    file, new = tmp_path / "ocisync.yaml", tmp_path / "new"
    file.write_text("first")
    async with watching(file) as reader:
        with anyio.fail_after(15):
            new.write_text("second")
            read = reader.read
            new.rename(file)
            await read.wait()
            file.unlink()
            file.write_text("third")
            await reader.read.wait()
    assert reader.texts == ["second", "third"]


async def test_a_change_is_seen_without_any_notification(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "real.yaml").write_text("first")
    file = tmp_path / "etc" / "ocisync.yaml"
    file.parent.mkdir()
    file.symlink_to(folder / "real.yaml")  # its own folder never changes
    async with watching(file) as reader:
        with anyio.fail_after(15):
            read = reader.read
            (folder / "real.yaml").write_text("second")
            await read.wait()
    assert reader.texts == ["second"]


async def test_a_change_between_making_the_watcher_and_serving_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "ocisync.yaml"
    file.write_text("first")
    reader, watcher = Reader(file), await run_file(partial(ConfigWatcher, file))
    file.write_text("second")
    async with anyio.create_task_group() as tasks:
        read = reader.read
        tasks.start_soon(watcher.serve, reader.reload)
        with anyio.fail_after(15):
            await read.wait()
        tasks.cancel_scope.cancel()
    assert reader.texts == ["second"]


async def test_the_same_content_again_is_no_change(tmp_path: Path) -> None:
    file = tmp_path / "ocisync.yaml"
    file.write_text("first")
    async with watching(file) as reader:
        with anyio.fail_after(15):
            file.write_text("first")
            file.touch()
            read = reader.read
            file.write_text("second")
            await read.wait()
    assert reader.texts == ["second"]
