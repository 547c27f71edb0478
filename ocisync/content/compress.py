"""Deterministic compression of layers, in threads: equal bytes from equal content on every machine.

Content is cut into blocks of exactly 1 MiB and each block is compressed by itself: a gzip member (RFC 1952, 2.2:
members in a row are one file) or a zstd frame (RFC 8878, 3). So neither the size of the reads nor the number of threads
shows in the result. The libraries are those whose output was measured to be equal on every CPU;
docs/adr/0002-compression.md has the figures. This module is the only place that names them.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import deflate
import zstandard
from anyio import to_thread

from ocisync.content.concurrency import for_each
from ocisync.content.threads import CPUS, cpu_limiter
from ocisync.errors import ConfigError
from ocisync.model.digest import Digest

Kind = Literal["gzip", "zstd", "none"]
Buffer = bytes | bytearray
Block = bytes | memoryview
BLOCK = 1024 * 1024  # bytes; changing it changes every digest
DEFAULT_LEVELS = {"gzip": 1, "zstd": 3, "none": 0}
_MAX_LEVELS = {"gzip": 12, "zstd": 19, "none": 0}
_LIBRARIES = {"gzip": f"deflate-{deflate.__version__}", "zstd": f"zstandard-{zstandard.__version__}"}
_MAX_WORKERS = 8  # per layer; taking and hashing in order would hold back more
_MAX_AHEAD = 2 * _MAX_WORKERS  # blocks
_BLOCKS_PER_STEP = 8  # between two looks for cancellation


@dataclass(frozen=True, slots=True)
class Compression:
    """How layers are compressed.

    Raises:
        ConfigError: the kind has no such level.
    """

    kind: Kind = "gzip"
    level: int | None = None  # None: DEFAULT_LEVELS

    def __post_init__(self) -> None:
        if self.kind not in DEFAULT_LEVELS:
            raise ConfigError(f"compression {self.kind!r} is not known; use gzip, zstd or none")
        if self.level is not None and not min(1, _MAX_LEVELS[self.kind]) <= self.level <= _MAX_LEVELS[self.kind]:
            raise ConfigError(f"{self.kind} has no level {self.level}; use 1 to {_MAX_LEVELS[self.kind]}")


@dataclass(frozen=True, slots=True)
class Compressed:
    """What one pass over a layer's content learned."""

    diff_id: Digest  # of the content as it came
    digest: Digest  # of the bytes written
    size: int  # bytes written


def compressor_name(compression: Compression) -> str:
    """What made the bytes, for records: two runs with equal names give equal bytes."""
    library = _LIBRARIES.get(compression.kind)
    level = _choose_level(compression)
    return "none" if library is None else f"{library}/{compression.kind}/level={level}/block={BLOCK}"


def make_block_compressor(compression: Compression) -> Callable[[Block], Buffer]:
    """A pure function from one block's content to its compressed bytes, safe to call in several threads."""
    if compression.kind == "none":
        return bytes
    return partial(_gzip if compression.kind == "gzip" else _zstd, level=_choose_level(compression))


def split_blocks(chunks: Iterable[bytes], size: int = BLOCK) -> Iterator[bytes]:
    """The same content in blocks of exactly `size`, but for the last; one empty block when there is nothing."""
    held = bytearray()
    empty = True
    for chunk in chunks:
        if not held and len(chunk) == size:
            yield chunk
            empty = False
            continue
        held += chunk
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
            empty = False
    if held or empty:
        yield bytes(held)


def _ignore(_: Block) -> None:
    pass


async def compress(
    blocks: Iterator[Block],
    write: Callable[[Buffer], None],
    compression: Compression,
    done: Callable[[Block], None] = _ignore,
) -> Compressed:
    """Compress the blocks that `split_blocks` gives, on all CPUs, overlapping with reading and writing.

    Memory: a block per CPU, and at most 16 compressed ones. `blocks` and `write` are called in threads, each by one at
    a time, and `done` in any of them, with a block that is not needed any more.
    """
    pipeline = _Pipeline(blocks, write, make_block_compressor(compression), done)

    async def work(_: int) -> None:
        while await to_thread.run_sync(pipeline.work, limiter=cpu_limiter):
            pass

    await for_each(range(min(CPUS, _MAX_WORKERS)), work, _MAX_WORKERS)
    return pipeline.finish()


class _Pipeline:
    """Blocks on their way: read in order, compressed side by side, written in order.

    Each worker takes the next block under `_reading` and compresses it without a lock. Whoever finishes a block while
    nobody writes becomes the writer, and writes every block whose turn has come: no thread is kept for writing alone.
    """

    def __init__(
        self,
        blocks: Iterator[Block],
        write: Callable[[Buffer], None],
        squeeze: Callable[[Block], Buffer],
        done: Callable[[Block], None],
    ) -> None:
        self._blocks = enumerate(blocks)
        self._write = write
        self._squeeze = squeeze
        self._done = done
        self._reading = threading.Lock()
        self._changed = threading.Condition()
        self._ready: dict[int, Buffer] = {}  # compressed, waiting for those before them
        self._written = 0  # blocks
        self._writing = False
        self._failed = False
        self._size = 0  # bytes
        self._content_hash = hashlib.sha256()
        self._written_hash = hashlib.sha256()

    def work(self) -> bool:
        """Bring a few blocks through; whether there may be more. Blocks; waits only for threads that are at work."""
        try:
            return all(self._bring_block() for _ in range(_BLOCKS_PER_STEP))
        except BaseException:
            with self._changed:
                self._failed = True
                self._changed.notify_all()
            raise

    def finish(self) -> Compressed:
        """What was learned, once all workers are done."""
        content, written = (Digest(f"sha256:{seen.hexdigest()}") for seen in (self._content_hash, self._written_hash))
        return Compressed(content, written, self._size)

    def _bring_block(self) -> bool:
        with self._reading:
            number, block = next(self._blocks, (0, None))
            if block is None or not self._wait_for_turn(number):
                return False
            self._content_hash.update(block)
        data = self._squeeze(block)
        self._done(block)
        with self._changed:
            self._ready[number] = data
            if self._writing:
                return True
            self._writing = True
        self._write_ready()
        return True

    def _wait_for_turn(self, number: int) -> bool:
        """Wait until not too many blocks are ahead of the one that is to be written next."""
        with self._changed:
            self._changed.wait_for(lambda: number - self._written < _MAX_AHEAD or self._failed)
            return not self._failed

    def _write_ready(self) -> None:
        while True:
            with self._changed:
                self._changed.notify_all()
                data = self._ready.pop(self._written, None)
                if data is None:
                    self._writing = False
                    return
            self._written_hash.update(data)
            self._write(data)
            self._size += len(data)
            self._written += 1


def _choose_level(compression: Compression) -> int:
    return DEFAULT_LEVELS[compression.kind] if compression.level is None else compression.level


def _gzip(block: Block, level: int) -> Buffer:
    return deflate.gzip_compress(block, level)  # its header has neither a name nor a time


def _zstd(block: Block, level: int) -> Buffer:
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compress(block)
