"""A bell that can be rung any number of times."""

from __future__ import annotations

import anyio


class Wakeup:
    """Rings between two waits are one; a ring while nobody waits is not lost."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def set(self) -> None:
        """Ring."""
        self._rung.set()

    async def wait(self, seconds: float) -> None:
        """Return when it rings, or after so many seconds."""
        with anyio.move_on_after(seconds):
            await self._rung.wait()
        self._rung = anyio.Event()
