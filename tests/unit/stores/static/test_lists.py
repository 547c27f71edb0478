"""The tags among a repository's manifests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ocisync.content.object_store import ObjectInfo
from ocisync.model.digest import sha256
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.static.lists import list_tags

pytestmark = pytest.mark.anyio
TAGS = ["0", "Z", "a", "sh", "sha256", "sha257", "z"]


class Counted(DirectoryStore):
    """Counts what is asked of it."""

    listings = seen = 0

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        self.listings += 1
        async for info in super().list(prefix, start_after=start_after):
            self.seen += 1
            yield info


@pytest.mark.parametrize(("digests", "listings"), [(0, 1), (10, 1), (999, 1), (1000, 2), (3000, 2)])
async def test_digests_are_read_over_where_they_are_few_and_jumped_over_where_they_are_many(
    tmp_path: Path, digests: int, listings: int
) -> None:
    folder = tmp_path / "v2/app/manifests"
    folder.mkdir(parents=True)
    for name in (*TAGS, *(sha256(b"%d" % number) for number in range(digests))):
        (folder / name).touch()
    store = Counted(tmp_path, fsync=False)
    assert await list_tags(store, "app") == TAGS
    assert store.listings == listings
    assert store.seen <= len(TAGS) + 1000
