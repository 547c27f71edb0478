"""Openers that are counted for the progress display."""

from __future__ import annotations

from pathlib import Path

from anyio import to_thread

from ocisync.content.files import Spool
from ocisync.content.openers import AdoptableFile, BytesOpener
from ocisync.content.threads import SpoolOpener
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256
from ocisync.sync.context import Progress
from ocisync.sync.source_reader import count_progress
from tests.contract.graphs import described

DATA = b"the content" * 1000
DESC = described(DATA)


class Counter(Progress):
    """A progress display that adds up."""

    def __init__(self) -> None:
        self.moved = 0  # bytes

    def blob_moved(self, desc: Descriptor, count: int) -> None:
        """Add."""
        assert desc == DESC
        self.moved += count


async def test_a_file_that_is_taken_over_has_moved_at_once(tmp_path: Path) -> None:
    counter = Counter()
    with Spool(tmp_path) as spool:
        await to_thread.run_sync(spool.write, DATA)
        opener = count_progress(SpoolOpener(spool, DESC.digest), DESC, counter)
        assert isinstance(opener, AdoptableFile)
        assert not await opener.link(tmp_path / "other", sha256(b"else"), fsync=True)
        assert counter.moved == 0
        assert await opener.link(tmp_path / "file", DESC.digest, fsync=True)
        assert counter.moved == DESC.size
        assert (tmp_path / "file").read_bytes() == DATA


async def test_what_is_no_file_moves_as_it_is_read() -> None:
    counter = Counter()
    opener = count_progress(BytesOpener(DATA), DESC, counter)
    assert not isinstance(opener, AdoptableFile)
    async with opener(0) as stream:
        assert b"".join([chunk async for chunk in stream]) == DATA
    assert counter.moved == DESC.size
