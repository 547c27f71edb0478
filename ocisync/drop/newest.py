"""The newest wins: of several inputs that carry one name, the one that was written last decides what is published.

Inputs are processed side by side, and kept files are all processed again after a lost state or for a pass in full. So
the order in which that happens must not matter: an older input never publishes a name over a newer one, and two inputs
of one name are never published at the same time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from ocisync.content.files import FileGuard
from ocisync.content.threads import run_file
from ocisync.drop.inputs import Input
from ocisync.state.input_records import InputRecord, InputState

Age = tuple[int, int, str]
"""When the newest file of an input was written, when it came to be there as it is, and its path for want of both."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who published a name last."""

    age: Age
    at: float  # when it was published, in seconds since the epoch
    files: tuple[tuple[str, int], ...]  # path below the drop folder, and inode

    @property
    def key(self) -> str:
        """The input's key."""
        return self.age[2]


def age_of(dropped: Input) -> Age:
    """An input's place in the order of inputs, the newest being the largest."""
    stamps = [member.entry.stamp for member in dropped.members]
    return max(stamp.mtime_ns for stamp in stamps), max(stamp.ctime_ns for stamp in stamps), dropped.key


class PublishedNames:
    """Which input published each name of a rule last.

    The time of writing counts, then the time of change: builds that set all times to one date are told apart by when
    they came. An older input that comes when its newer namesake is published and gone may publish: that is how one goes
    back to an older image.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._claims: dict[str, Claim] = {}
        self._locks: dict[str, anyio.Lock] = {}

    def load(self, records: Iterable[InputRecord]) -> None:
        """Take what is on record."""
        for record in records:
            if record.state is InputState.DONE and record.members:
                written = max(member.mtime_ns for member in record.members)
                changed = max(member.ctime_ns for member in record.members)
                files = tuple((member.path, member.inode) for member in record.members)
                self._add(record.published, Claim((written, changed, record.key), record.at, files))

    def record(self, dropped: Input, names: Iterable[str], at: float) -> None:
        """An input has published these names, at a time in seconds since the epoch."""
        files = tuple((member.entry.relative, member.entry.stamp.inode) for member in dropped.members)
        for name in names:
            self._claims[name] = Claim(age_of(dropped), at, files)

    @asynccontextmanager
    async def hold(self, names: Collection[str]) -> AsyncIterator[None]:
        """Have these names to oneself; in a fixed order, so that two who want the same cannot wait for each other."""
        async with AsyncExitStack() as stack:
            for name in sorted(names):
                await stack.enter_async_context(self._locks.setdefault(name, anyio.Lock()))
            yield
        for name in names:
            if name in self._locks and not self._locks[name].locked():  # or else another has it already
                del self._locks[name]

    async def list_newer(self, dropped: Input, names: Collection[str]) -> dict[str, str]:
        """Those of the names that a newer input has published, with its key."""
        age = age_of(dropped)
        came = max(member.entry.stamp.ctime_ns for member in dropped.members) / 1e9
        claims = {name: claim for name in names if (claim := self._claims.get(name)) and claim.key != dropped.key}
        newer = {name: claim for name, claim in claims.items() if claim.age > age}
        return {
            name: claim.key
            for name, claim in newer.items()
            if came <= claim.at or await run_file(partial(self._lies_there, claim))
        }

    def was_replaced(self, dropped: Input, names: Iterable[str]) -> bool:
        """Whether an older input has published one of the names since."""
        age = age_of(dropped)
        claims = (claim for name in names if (claim := self._claims.get(name)))
        return any(claim.key != dropped.key and claim.age < age for claim in claims)

    def _add(self, names: Iterable[str], claim: Claim) -> None:
        for name in names:
            if name not in self._claims or self._claims[name].age < claim.age:
                self._claims[name] = claim

    def _lies_there(self, claim: Claim) -> bool:
        guard = FileGuard(self._root)
        try:
            return any(guard.stat(self._root / path).st_ino == inode for path, inode in claim.files)
        except OSError:
            return False
