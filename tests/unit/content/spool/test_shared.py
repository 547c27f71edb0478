"""A blob for several threads at a time: read once, nobody waits for a slow one, and what breaks is gone on with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from ocisync.content.openers import find_bulk_reader
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.spool.blobs import BlobSpool
from ocisync.content.transfer.mover import Transfer
from ocisync.content.verify import Verifier
from ocisync.errors import NetworkError, SizeMismatch
from ocisync.model.descriptor import Descriptor, describe
from tests.servers.images import noise

pytestmark = pytest.mark.anyio
DATA = noise(5_000_000, "blob")
BLOB = Descriptor("application/octet-stream", describe(DATA, "").digest, len(DATA))
ALL = ("a", "b", "c")


class BulkSource:
    """A stream that threads read; nothing comes every third time, and once it may break."""

    is_bulk = True

    def __init__(self, source: Source, at: int) -> None:
        self._source = source
        self._at = at
        self._turn = 0

    def __aiter__(self) -> BulkSource:
        return self

    async def __anext__(self) -> bytes:
        chunk = self._source.data[self._at : self._at + 100_000]
        self._at += len(chunk)
        self._source.given += len(chunk)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def wait_readable(self) -> None:
        if self._source.break_at is not None and self._at >= self._source.break_at:
            self._source.break_at = None
            raise NetworkError("the source broke")

    def read_into(self, buffer: memoryview) -> int | None:
        self._turn += 1
        if self._turn % 3 == 0:
            return None
        chunk = self._source.data[self._at : self._at + min(200_000, len(buffer))]
        buffer[: len(chunk)] = chunk
        self._at += len(chunk)
        self._source.given += len(chunk)
        return len(chunk)

    def end_turn(self) -> None:
        pass


@dataclass
class Source:
    """Counts what it gives."""

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
            yield BulkSource(self, start)
        finally:
            self.still_open -= 1


class Sink:
    """Takes all, or waits for `gate` before the first byte."""

    def __init__(self, gate: anyio.Event | None = None) -> None:
        self.taken = bytearray()
        self._gate = gate

    async def wait_writable(self) -> None:
        if self._gate is not None:
            await self._gate.wait()

    def write(self, data: memoryview) -> int:
        if self._gate is not None and not self._gate.is_set():
            return 0
        self.taken += data
        return len(data)


async def move(opener: Opener, sink: Sink) -> None:
    async with opener(0) as stream:
        reader = find_bulk_reader(stream)
        assert reader is not None
        await Transfer(reader, Verifier(BLOB.digest, BLOB.size), sink, BLOB.size).run()


async def test_threads_share_one_read_and_the_source_is_let_go_at_its_end(tmp_path: Path) -> None:
    source, spool, sinks = Source(), BlobSpool(tmp_path, 1 << 40), [Sink() for _ in ALL]
    async with anyio.create_task_group() as group:
        for sink in sinks:
            group.start_soon(move, spool.opener(BLOB, source, ALL), sink)
    assert [bytes(sink.taken) == DATA for sink in sinks] == [True] * 3
    assert source.given == len(DATA)
    assert source.still_open == 0


async def test_a_slow_target_keeps_neither_the_others_nor_the_source(tmp_path: Path) -> None:
    source, spool, gate = Source(), BlobSpool(tmp_path, 1 << 40), anyio.Event()
    slow, fast = Sink(gate), Sink()
    async with anyio.create_task_group() as group:
        group.start_soon(move, spool.opener(BLOB, source, ALL), slow)
        await anyio.lowlevel.checkpoint()
        await move(spool.opener(BLOB, source, ALL), fast)
        assert bytes(fast.taken) == DATA
        assert not slow.taken
        assert source.still_open == 0
        gate.set()
    assert bytes(slow.taken) == DATA
    assert source.given == len(DATA)


async def test_who_comes_after_a_break_goes_on_where_the_source_stopped(tmp_path: Path) -> None:
    source, spool, sink = Source(break_at=2_000_000), BlobSpool(tmp_path, 1 << 40), Sink()
    opener = spool.opener(BLOB, source, ALL)
    with pytest.raises(NetworkError):
        await move(opener, Sink())
    await move(opener, sink)
    assert bytes(sink.taken) == DATA
    assert source.opened[0] == 0 < source.opened[1]
    assert source.given == len(DATA)
    assert source.still_open == 0


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x"], ids=["short", "long"])
async def test_a_source_of_another_size_is_refused(tmp_path: Path, data: bytes) -> None:
    source, sink = Source(data=data), Sink()
    with pytest.raises(SizeMismatch):
        await move(BlobSpool(tmp_path, 1 << 40).opener(BLOB, source, ALL), sink)
    assert len(sink.taken) < len(DATA)


async def test_tasks_and_threads_read_the_same_blob(tmp_path: Path) -> None:
    source, spool, sink, chunks = Source(), BlobSpool(tmp_path, 1 << 40), Sink(), bytearray()

    async def read() -> None:
        async with spool.opener(BLOB, source, ALL)(0) as stream:
            async for chunk in stream:
                chunks.extend(chunk)
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        group.start_soon(move, spool.opener(BLOB, source, ALL), sink)
    assert bytes(sink.taken) == chunks == DATA
    assert source.given == len(DATA)
