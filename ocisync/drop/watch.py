"""Ring when something changes in a folder. It is for speed only: whoever listens looks from time to time anyway."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import structlog

from ocisync.content.concurrency import Wakeup
from ocisync.content.files import FOLDER_MODE
from ocisync.content.threads import run_file

if TYPE_CHECKING:
    import watchfiles

log = structlog.get_logger()

DEBOUNCE = 200  # milliseconds that changes are gathered for
CHECK = 1000  # milliseconds between two looks whether the folder is still the same one


async def watch_folder(folder: Path, changed: Wakeup, *, retry: float = 60.0) -> None:
    """Watch until cancelled. The folder is made when it is missing, and may vanish and come back.

    Where the system cannot watch, that is said and tried again after `retry` seconds.
    """
    complained = ""
    while True:
        try:
            if await run_file(partial(_make, folder)):
                log.info("drop.folder_made", path=str(folder))
            changed.set()
            complained = ""
            await run_file(partial(import_module, "watchfiles"))  # only who watches pays for it
            await ring_for_changes(folder, changed)
        except (OSError, RuntimeError) as exc:
            if str(exc) != complained:
                complained = str(exc)
                log.warning("drop.watch_failed", path=str(folder), error=complained, retry_seconds=retry)
            await anyio.sleep(retry)


async def ring_for_changes(folder: Path, changed: Wakeup, *, recursive: bool = True) -> None:
    """Ring for every change, until the folder is gone or another one. `watchfiles` must have been imported.

    Raises:
        OSError, RuntimeError: the system cannot watch it.
    """
    stop = anyio.Event()
    identity = await run_file(partial(_identity, folder))
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_when_cancelled, stop)
        async with aclosing(_events(folder, stop, recursive)) as events:
            async for changes in events:
                if changes:
                    changed.set()
                if await run_file(partial(_identity, folder)) != identity:
                    break
        group.cancel_scope.cancel()


def _events(
    folder: Path, stop: anyio.Event, recursive: bool
) -> AsyncGenerator[set[tuple[watchfiles.Change, str]], None]:
    import watchfiles

    return watchfiles.awatch(
        folder,
        watch_filter=None,
        debounce=DEBOUNCE,
        rust_timeout=CHECK,
        yield_on_timeout=True,
        stop_event=stop,
        ignore_permission_denied=True,
        recursive=recursive,
    )


async def _stop_when_cancelled(stop: anyio.Event) -> None:
    """The watching thread hears of a cancellation by this event only."""
    try:
        await anyio.sleep_forever()
    finally:
        stop.set()


def _make(folder: Path) -> bool:
    if folder.is_dir():
        return False
    folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    return True


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
