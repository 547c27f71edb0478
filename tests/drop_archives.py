"""Archives that only have names, for tests of drop folders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from ocisync.model.locator import Locator


async def no_names(locator: Locator) -> Sequence[str]:
    """No archive names its images."""
    return []


@dataclass
class NamedArchives:
    """An ArchiveReader whose archives are called what the test says, and are known by their bytes only."""

    find_names: Callable[[Locator], Awaitable[Sequence[str]]] = no_names

    async def names(self, locator: Locator) -> Sequence[str]:
        """What the test says."""
        return await self.find_names(locator)

    def hold(self, locator: Locator) -> AbstractAsyncContextManager[None]:
        """Nothing is kept open."""
        return nullcontext()

    async def identify(self, locator: Locator) -> str:
        """No archive tells what it holds."""
        return ""

    async def check(self, locator: Locator) -> None:
        """Every archive can be read."""
