"""The spool: one read however many readers, nobody waits for another, bounded room, and what a restart finds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.spool.blobs import BlobSpool
from ocisync.content.verify import verify_stream
from ocisync.errors import DigestMismatch, DiskError, NetworkError, SizeMismatch
from ocisync.model.descriptor import Descriptor, describe
from tests.servers.images import noise

pytestmark = pytest.mark.anyio
DATA = noise(5_000_000, "blob")  # more than is gathered before it is written
BLOB = Descriptor("application/octet-stream", describe(DATA, "").digest, len(DATA))
CHUNK = 250_000  # bytes
ALL = ("a", "b", "c")


@dataclass
class Source:
    """A source that counts what it gives, and can break."""

    data: bytes = DATA
    given: int = 0  # bytes
    opened: list[int] = field(default_factory=list)  # where
    still_open: int = 0
    break_at: int | None = None  # byte; once

    @asynccontextmanager
    async def __call__(self, start: int = 0) -> AsyncIterator[ByteStream]:
        self.opened.append(start)
        self.still_open += 1
        try:
            yield self._chunks(start)
        finally:
            self.still_open -= 1

    async def _chunks(self, start: int) -> AsyncIterator[bytes]:
        for at in range(start, len(self.data), CHUNK):
            await anyio.lowlevel.checkpoint()
            if self.break_at is not None and at >= self.break_at:
                self.break_at = None
                raise NetworkError("the source broke")
            chunk = self.data[at : at + CHUNK]
            self.given += len(chunk)
            yield chunk


async def read(opener: Opener) -> bytes:
    async with opener(0) as stream:
        return b"".join([chunk async for chunk in verify_stream(stream, BLOB)])


def files(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.iterdir()] if folder.exists() else []


async def test_three_readers_at_a_time_take_one_read_and_nothing_is_left(tmp_path: Path) -> None:
    spools, source = BlobSpool(tmp_path / "spool", 10_000_000), Source()

    async def one(target: str) -> None:
        assert await read(spools.opener(BLOB, source, ALL)) == DATA
        await spools.mark_delivered(BLOB.digest, target)

    async with anyio.create_task_group() as group:
        for target in ALL:
            group.start_soon(one, target)
    assert (source.given, source.opened, source.still_open) == (len(DATA), [0], 0)
    assert files(tmp_path / "spool") == []


async def test_a_reader_that_stands_still_holds_nobody_back(tmp_path: Path) -> None:
    spools, source = BlobSpool(tmp_path / "spool", 10_000_000), Source()
    async with spools.opener(BLOB, source, ALL)() as slow:
        first = await anext(slow)
        with anyio.fail_after(60):
            assert await read(spools.opener(BLOB, source, ALL)) == DATA
        assert first + b"".join([chunk async for chunk in slow]) == DATA
    assert source.given == len(DATA)


async def test_one_that_comes_later_reads_what_is_kept_for_it(tmp_path: Path) -> None:
    spools, source = BlobSpool(tmp_path / "spool", 10_000_000), Source()
    assert await read(spools.opener(BLOB, source, ALL)) == DATA
    for target in "ab":
        await spools.mark_delivered(BLOB.digest, target)
    assert files(tmp_path / "spool") == [len(DATA)]
    assert await read(spools.opener(BLOB, source, ALL)) == DATA
    await spools.finish_target("c", ok=False)
    assert files(tmp_path / "spool") == [len(DATA)]
    await spools.finish_target("c", ok=True)
    assert source.given == len(DATA)
    assert files(tmp_path / "spool") == []


async def test_when_the_one_that_reads_ahead_breaks_off_another_goes_on(tmp_path: Path) -> None:
    spools, source = BlobSpool(tmp_path / "spool", 10_000_000), Source(break_at=1_500_000)
    async with spools.opener(BLOB, source, ALL)() as behind:
        first = await anext(behind)
        with pytest.raises(NetworkError):
            await read(spools.opener(BLOB, source, ALL))
        assert first + b"".join([chunk async for chunk in behind]) == DATA
    assert (source.given, source.opened, source.still_open) == (len(DATA), [0, 1_500_000], 0)


async def test_a_cancelled_reader_lets_the_source_go(tmp_path: Path) -> None:
    spools, source = BlobSpool(tmp_path / "spool", 10_000_000), Source()
    async with anyio.create_task_group() as group, spools.opener(BLOB, source, ALL)() as stream:
        await anext(stream)
        group.cancel_scope.cancel()
    assert source.still_open == 0
    assert await read(spools.opener(BLOB, source, ALL)) == DATA
    assert source.given == len(DATA)


async def test_who_is_cancelled_while_the_file_is_opened_leaves_it_to_others(tmp_path: Path) -> None:
    spools = BlobSpool(tmp_path / "spool", 10_000_000)

    async def hold(desc: Descriptor) -> None:
        async with spools.hold(desc, ["a"]):
            await anyio.sleep_forever()

    for number in range(30):
        data = f"blob {number}".encode()
        desc = describe(data, "")
        async with anyio.create_task_group() as group:
            group.start_soon(hold, desc)
            while not files(tmp_path / "spool"):
                await checkpoint()
            group.cancel_scope.cancel()
        async with spools.hold(desc, ["a"]) as held:
            assert held is not None, "it is locked, and so read past"
        await spools.mark_delivered(desc.digest, "a")
        assert files(tmp_path / "spool") == []


async def test_the_next_process_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    source = Source()
    async with BlobSpool(tmp_path / "spool", 10_000_000).opener(BLOB, source, ALL)() as stream:
        for _ in range(10):
            await anext(stream)
    assert files(tmp_path / "spool") == [10 * CHUNK]
    later = BlobSpool(tmp_path / "spool", 10_000_000)
    assert await read(later.opener(BLOB, source, ("a",))) == DATA
    assert (source.given, source.opened) == (len(DATA), [0, 10 * CHUNK])
    await later.mark_delivered(BLOB.digest, "a")
    assert files(tmp_path / "spool") == []


async def test_a_kill_costs_two_mib_at_most(tmp_path: Path) -> None:
    async with BlobSpool(tmp_path / "spool", 10_000_000).opener(BLOB, Source(), ALL)() as stream:
        arrived = 0
        async for chunk in stream:
            arrived += len(chunk)
            assert arrived - 2 * 1024 * 1024 < sum(files(tmp_path / "spool")) <= arrived


async def test_a_damaged_file_is_found_by_its_reader_and_read_anew(tmp_path: Path) -> None:
    spools, source = BlobSpool(tmp_path / "spool", 10_000_000), Source()
    assert await read(spools.opener(BLOB, source, ALL)) == DATA
    (path,) = (tmp_path / "spool").iterdir()
    path.write_bytes(b"x" + DATA[1:])
    opener = spools.opener(BLOB, source, ALL)
    with pytest.raises(DigestMismatch):
        await read(opener)
    await opener.discard()
    assert await read(opener) == DATA
    assert source.given == 2 * len(DATA)


async def test_a_damaged_file_is_not_read_again_though_another_reader_has_opened_it(tmp_path: Path) -> None:
    spools, source = BlobSpool(tmp_path / "spool", 10_000_000), Source(b"x" + DATA[1:])
    first, second = (spools.opener(BLOB, source, ALL) for _ in range(2))
    with pytest.raises(DigestMismatch):
        await read(first)
    source.data = DATA
    async with second() as stream:
        await first.discard()
        assert await read(first) == DATA
        assert b"".join([chunk async for chunk in stream]) != DATA
    await second.discard()
    assert await read(second) == DATA
    assert source.given == 2 * len(DATA)


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x"], ids=["short", "long"])
async def test_a_source_of_another_length_is_told(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SizeMismatch):
        await read(BlobSpool(tmp_path / "spool", 10_000_000).opener(BLOB, Source(data), ALL))


async def test_what_has_no_room_is_read_past_the_spool(tmp_path: Path) -> None:
    spools, source = BlobSpool(tmp_path / "spool", len(DATA) - 1), Source()
    for _ in range(2):
        assert await read(spools.opener(BLOB, source, ALL)) == DATA
    assert source.given == 2 * len(DATA)
    assert files(tmp_path / "spool") == []


async def test_room_is_made_by_what_was_used_longest_ago_but_never_by_what_is_read(tmp_path: Path) -> None:
    spools = BlobSpool(tmp_path / "spool", 25)
    first, second, third = (describe(bytes([number]) * 10, "") for number in range(3))
    openers = [spools.opener(one, BytesOpener(one.data or b""), ALL) for one in (first, second, third)]
    async with openers[0]() as stream:
        assert b"".join([chunk async for chunk in stream]) == first.data
        for opener in openers[1:]:
            async with opener() as other:
                assert [chunk async for chunk in other]
    names = {path.name.replace("-", ":") for path in (tmp_path / "spool").iterdir()}
    assert names == {first.digest, third.digest}


async def test_another_processs_file_is_left_alone(tmp_path: Path) -> None:
    ours, theirs, source = (*(BlobSpool(tmp_path / "spool", 10_000_000) for _ in range(2)), Source())
    async with theirs.opener(BLOB, source, ALL)() as stream:
        await anext(stream)
        assert await read(ours.opener(BLOB, source, ("a",))) == DATA
        await ours.mark_delivered(BLOB.digest, "a")
        assert b"".join([chunk async for chunk in stream]) == DATA[CHUNK:]
    assert source.given == 2 * len(DATA)


async def test_what_nobody_came_for_again_is_removed(tmp_path: Path) -> None:
    source, other = Source(), describe(b"other", "")
    assert await read(BlobSpool(tmp_path / "spool", 10_000_000).opener(BLOB, source, ALL)) == DATA
    (path,) = (tmp_path / "spool").iterdir()
    os.utime(path, (1, 1))
    async with BlobSpool(tmp_path / "spool", 10_000_000).opener(other, BytesOpener(b"other"), ALL)() as stream:
        assert [chunk async for chunk in stream] == [b"other"]
    assert files(tmp_path / "spool") == [5]


async def test_fault_49_a_disk_that_fails_is_done_without(tmp_path: Path) -> None:
    spools, source = BlobSpool(tmp_path / "spool", 10_000_000), Source()
    opener = spools.opener(BLOB, source, ALL)
    async with opener(0) as stream:
        for _ in range(10):
            await anext(stream)
        (path,) = (tmp_path / "spool").iterdir()
        with path.open("r+b") as file:
            file.truncate(0)
        late = spools.opener(BLOB, source, ALL)
        with pytest.raises(DiskError) as caught:
            await read(late)
        assert caught.value.code == "spool.failed"
        await late.discard()
        assert await read(late) == DATA
