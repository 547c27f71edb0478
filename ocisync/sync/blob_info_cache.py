"""Where blobs lie at each target, so that a mount hits; and who is uploading one now, so that nobody sends it twice.

Only a shortcut: forgetting all of it costs bytes, never correctness.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import anyio

from ocisync.model.digest import Digest
from ocisync.sync.ledger import Ledger

_REMEMBERED = 100_000  # blobs, over all targets


class BlobInfoCache:
    """Blob -> repository per target, for this process."""

    def __init__(self) -> None:
        self._homes: OrderedDict[tuple[str, Digest], str] = OrderedDict()
        self._uploading: dict[tuple[str, Digest], anyio.Event] = {}

    def seen(self, target: str, digest: Digest, repository: str) -> None:
        """Remember that a repository has a blob."""
        self._homes.setdefault((target, digest), repository)
        if len(self._homes) > _REMEMBERED:
            self._homes.popitem(last=False)

    async def look_up(self, ledger: Ledger, target: str, digests: Iterable[Digest]) -> None:
        """Learn what the ledger knows of blobs."""
        unknown = [digest for digest in digests if (target, digest) not in self._homes]
        if unknown:
            for digest, repository in (await ledger.locate(target, unknown)).items():
                self.seen(target, digest, repository)

    def forget(self, target: str, digest: Digest) -> None:
        """A repository turned out not to have it."""
        self._homes.pop((target, digest), None)

    def home(self, target: str, digest: Digest) -> str | None:
        """A repository that has the blob."""
        return self._homes.get((target, digest))

    @asynccontextmanager
    async def uploading(self, target: str, digest: Digest) -> AsyncIterator[None]:
        """Wait for another job's upload of the same blob to the same target, then hold the others back."""
        key = (target, digest)
        while (other := self._uploading.get(key)) is not None:
            await other.wait()
        mine = self._uploading[key] = anyio.Event()
        try:
            yield
        finally:
            del self._uploading[key]
            mine.set()
