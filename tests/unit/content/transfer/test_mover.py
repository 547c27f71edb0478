"""Transfers between ends that stand still, fail, or lie."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence

import anyio
import pytest

from ocisync.content.transfer.mover import BUFFER, ChunkReader, Transfer
from ocisync.content.verify import Verifier
from ocisync.errors import DigestMismatch, SizeMismatch, Truncated
from ocisync.model.digest import sha256

pytestmark = pytest.mark.anyio
DATA = bytes(range(256)) * 8192  # 2 MiB


class Reader:
    """Gives pieces; an empty one means that nothing came yet, an error is raised while it is waited for."""

    is_bulk = True

    def __init__(self, pieces: Sequence[bytes | Exception]) -> None:
        self.waits = self.turns = 0
        self.threads: set[int] = set()
        self._pieces = list(pieces)

    async def wait_readable(self) -> None:
        self.waits += 1
        if self._pieces and isinstance(self._pieces[0], Exception):
            raise self._pieces[0]

    def end_turn(self) -> None:
        self.turns += 1

    def read_into(self, buffer: memoryview) -> int | None:
        self.threads.add(threading.get_ident())
        if not self._pieces:
            return 0
        piece = self._pieces[0]
        if isinstance(piece, Exception) or not piece:
            if not piece:
                self._pieces.pop(0)
            return None
        assert isinstance(piece, bytes)
        count = min(len(buffer), len(piece))
        buffer[:count] = piece[:count]
        self._pieces[0] = piece[count:]
        if not self._pieces[0]:
            self._pieces.pop(0)
        return count


class Writer:
    """Takes so much at a time, and nothing every other time."""

    def __init__(self, piece: int = BUFFER) -> None:
        self.taken = bytearray()
        self.waits = 0
        self._piece = piece
        self._turn = 0

    async def wait_writable(self) -> None:
        self.waits += 1

    def write(self, data: memoryview) -> int:
        self._turn += 1
        if self._turn % 2:
            return 0
        self.taken += data[: self._piece]
        return min(len(data), self._piece)


async def _move(reader: Reader | ChunkReader, writer: Writer, data: bytes = DATA) -> Transfer:
    transfer = Transfer(reader, Verifier(sha256(data), len(data)), writer, len(data))
    await transfer.run()
    return transfer


async def test_all_bytes_arrive_whatever_the_pieces_and_never_in_the_loops_thread() -> None:
    reader, writer = Reader([DATA[:1], b"", DATA[1:700_000], b"", DATA[700_000:]]), Writer(100_000)
    await _move(reader, writer)
    assert writer.taken == DATA
    assert threading.get_ident() not in reader.threads
    assert writer.waits >= 20
    assert reader.waits >= 3


@pytest.mark.parametrize(
    ("given", "error"),
    [(DATA[:-1], SizeMismatch), (DATA + b"x", SizeMismatch), (DATA[:-1] + b"x", DigestMismatch)],
    ids=["short", "long", "flipped"],
)
async def test_the_last_piece_is_written_only_when_all_is_right(given: bytes, error: type[Exception]) -> None:
    writer = Writer()
    transfer = Transfer(Reader([given]), Verifier(sha256(DATA), len(DATA)), writer, len(DATA))
    with pytest.raises(error) as caught:
        await transfer.run()
    assert transfer.failure is caught.value
    assert len(writer.taken) < len(DATA)


async def test_what_a_source_raises_is_told_from_what_the_target_raises() -> None:
    broken = Truncated("broken")
    transfer = Transfer(Reader([DATA[:5], broken]), Verifier(sha256(DATA), len(DATA)), Writer(), len(DATA))
    with pytest.raises(Truncated):
        await transfer.run()
    assert transfer.failure is broken

    class Full(Writer):
        def write(self, data: memoryview) -> int:
            raise BrokenPipeError

    transfer = Transfer(Reader([DATA]), Verifier(sha256(DATA), len(DATA)), Full(), len(DATA))
    with pytest.raises(BrokenPipeError):
        await transfer.run()
    assert transfer.failure is None


async def test_a_source_that_never_pauses_is_cancelled_within_a_second() -> None:
    class Endless(Reader):
        def read_into(self, buffer: memoryview) -> int | None:
            buffer[:] = bytes(len(buffer))
            return len(buffer)

    class Sink(Writer):
        def write(self, data: memoryview) -> int:
            return len(data)

    with anyio.move_on_after(0.1) as scope:
        await Transfer(Endless([]), Verifier(sha256(b""), 1 << 50), Sink(), 1 << 50).run()
    assert scope.cancelled_caught


async def _chunks(*given: bytes) -> AsyncIterator[bytes]:
    for chunk in given:
        yield chunk


async def test_any_stream_can_be_read_by_a_thread() -> None:
    writer = Writer()
    await _move(ChunkReader(_chunks(DATA[:10], DATA[10:1_500_000], DATA[1_500_000:])), writer)
    assert writer.taken == DATA


async def test_a_byte_too_many_of_a_stream_is_noticed_though_it_comes_by_itself() -> None:
    writer = Writer()
    with pytest.raises(SizeMismatch):
        await _move(ChunkReader(_chunks(DATA, b"x")), writer)
    assert len(writer.taken) < len(DATA)
