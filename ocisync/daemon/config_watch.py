"""Reload the configuration when its file changes.

Notifications from the system only make it fast: the file's content is looked at every `LOOK` seconds in any case, and
only another content is a change. So it does not matter how a file is replaced. An editor renames a new file over it;
Kubernetes swaps the link `..data` beside it, and the file itself, a link through `..data`, has no event of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import anyio
import structlog

from ocisync.content.concurrency import Wakeup
from ocisync.content.threads import run_file
from ocisync.drop.watch import ring_for_changes

LOOK = 10.0  # seconds between two looks without a notification
REST = 0.5  # seconds for which a content must stay the same: it may be half written
RETRY = 60.0  # seconds between two attempts to be notified
MAX_FILE = 1 << 20  # bytes; more is no configuration

log = structlog.get_logger()


class ConfigWatcher:
    """Watches one file. What stands in it when the watcher is made counts as known: make it before the file is read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = _read(file)

    async def serve(self, reload: Callable[[], Awaitable[object]]) -> None:
        """Reload after every change, until cancelled. A file that is gone is waited for."""
        changed = Wakeup()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, changed)
            while True:
                await changed.wait(LOOK)
                if await self._has_changed():
                    await reload()

    async def _has_changed(self) -> bool:
        """Whether there is another content, which has come to rest."""
        content = await run_file(partial(_read, self._file))
        while content not in (None, self._known):
            await anyio.sleep(REST)
            later = await run_file(partial(_read, self._file))
            if later == content:
                self._known = content
                return True
            content = later
        return False

    async def _listen(self, changed: Wakeup) -> None:
        """Ring for notifications. The folder alone is watched: what lies below may be a registry of a million files."""
        folder, complained = self._file.parent, ""
        while True:
            try:
                await run_file(partial(import_module, "watchfiles"))  # only who watches pays for it
                await ring_for_changes(folder, changed, recursive=False)
            except (OSError, RuntimeError) as exc:
                if str(exc) != complained:
                    complained = str(exc)
                    log.warning("config.watch_failed", path=str(folder), error=complained, look_seconds=LOOK)
            await anyio.sleep(RETRY)


def _read(file: Path) -> bytes | None:
    """The file's content, or None when it cannot be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_FILE + 1)
    except OSError:
        return None
