"""Verification of every byte while it streams, and reading small content whole.

Spec: image-spec v1.1, descriptor.md, "Verification": size first, then digest.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Protocol

from anyio import CapacityLimiter, to_thread

from ocisync.content.repository import ByteStream, Fetcher
from ocisync.errors import DigestMismatch, LimitExceeded, NotFound, SizeMismatch
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, algorithm, digest_of, hasher_for
from ocisync.model.manifest import MAX_MANIFEST_SIZE, retype_entry

CHUNK = 1024 * 1024  # bytes; large enough that a thread hop costs little
_THREAD_WORTHY = 128 * 1024  # bytes; to hash less takes no longer than a hop to a thread
_TOGETHER = 2 * CHUNK  # bytes that one hop hashes; half as much costs a tenth of the CPU time of a large copy
_hashers = CapacityLimiter(4)


class Verifier:
    """Counts and hashes content; plain code, to be used inline or in a thread."""

    def __init__(self, digest: Digest, size: int | None = None) -> None:
        self.digest = digest
        self.size = size
        self.seen = 0  # bytes
        self._hasher = hasher_for(digest)

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes.

        Raises:
            SizeMismatch: more bytes than announced; what came is not to be used.
        """
        self.count(len(chunk))
        self.hash(chunk)

    def count(self, size: int) -> None:
        """So many bytes more came, which are hashed later; raises as `update` does."""
        self.seen += size
        if self.size is not None and self.seen > self.size:
            raise SizeMismatch(f"{self.digest}: more than its {self.size} bytes arrived")

    def hash(self, chunk: bytes | bytearray | memoryview) -> None:
        """Hash bytes that were counted."""
        self._hasher.update(chunk)

    def copy(self) -> Verifier:
        """Another that has seen the same."""
        other = copy.copy(self)
        other._hasher = self._hasher.copy()
        return other

    def finish(self) -> None:
        """Check the whole.

        Raises:
            SizeMismatch, DigestMismatch: the content is not what its descriptor says.
        """
        if self.size is not None and self.seen != self.size:
            raise SizeMismatch(f"{self.digest}: {self.seen} bytes arrived instead of {self.size}")
        actual = f"{algorithm(self.digest)}:{self._hasher.hexdigest()}"
        if actual != self.digest:
            raise DigestMismatch(
                f"{self.digest}: the content hashes to {actual}: it is damaged at its source or on the way",
                actual=actual,
            )


class Hashing(Protocol):
    """What counts chunks at once, and hashes them when it suits."""

    def count(self, size: int, /) -> None: ...
    def hash(self, chunk: bytes, /) -> None: ...


class BatchHasher:
    """Hashes the chunks of a stream, as many at a time as make a hop to a thread worth while: they wait for others."""

    def __init__(self, check: Hashing) -> None:
        self._check = check
        self._waiting: list[bytes] = []
        self._size = 0  # bytes that wait

    async def add(self, chunk: bytes) -> None:
        """Take the next chunk; raises SizeMismatch at the first surplus byte."""
        self._check.count(len(chunk))
        self._waiting.append(chunk)
        self._size += len(chunk)
        if self._size >= _TOGETHER:
            await self.finish()

    async def finish(self) -> None:
        """Hash what waits."""
        waiting, size = self._waiting, self._size
        self._waiting, self._size = [], 0
        if size < _THREAD_WORTHY:
            self._hash(waiting)
        else:
            await to_thread.run_sync(self._hash, waiting, limiter=_hashers)

    def _hash(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._check.hash(chunk)
        chunks.clear()  # a thread that waits for work holds what it was given last


async def verify_stream(stream: ByteStream, desc: Descriptor) -> AsyncGenerator[bytes, None]:
    """The same chunks; the end of the stream is reached only when all of them are what desc says.

    Raises:
        SizeMismatch, DigestMismatch: at the first surplus byte or at the end.
    """
    check = Verifier(desc.digest, desc.size)
    hashed = BatchHasher(check)
    async for chunk in stream:
        await hashed.add(chunk)
        yield chunk
    await hashed.finish()
    check.finish()


async def update(check: Verifier, chunk: bytes) -> None:
    """Hash a chunk, in a thread when it is large."""
    if len(chunk) < _THREAD_WORTHY:
        check.update(chunk)
    else:
        await to_thread.run_sync(check.update, chunk, limiter=_hashers)


async def batch_chunks(stream: ByteStream, size: int = CHUNK) -> AsyncIterator[list[bytes]]:
    """The same chunks in lists of `size` bytes or more, but for the last: what is worth a hop to a thread."""
    pending: list[bytes] = []
    held = 0
    async for chunk in stream:
        pending.append(chunk)
        held += len(chunk)
        if held >= size:
            yield pending
            pending, held = [], 0
    if pending:
        yield pending


async def rechunk(stream: ByteStream, size: int = CHUNK) -> AsyncIterator[bytes]:
    """The same bytes in chunks of exactly `size`, but for the last."""
    pending: list[bytes] = []
    held = 0
    async for chunk in stream:
        pending.append(chunk)
        held += len(chunk)
        if held < size:
            continue
        joined = memoryview(b"".join(pending))
        whole = held - held % size
        for start in range(0, whole, size):
            yield bytes(joined[start : start + size])
        pending = [bytes(joined[whole:])]
        held -= whole
    if held:
        yield b"".join(pending)


async def read_manifest(source: Fetcher, desc: Descriptor) -> bytes:
    """The verified bytes of a manifest or other small content, kept as they were received.

    Raises:
        LimitExceeded: it claims more than 4 MiB; nothing is read.
        SizeMismatch, DigestMismatch: the bytes are not desc.
    """
    if desc.size > MAX_MANIFEST_SIZE:
        raise LimitExceeded(
            f"{desc.digest}: a manifest of {desc.size} bytes; at most {MAX_MANIFEST_SIZE} are accepted",
            code="limit.manifest",
        )
    if desc.data is not None:
        return check_bytes(desc.data, desc)
    async with source.open(desc) as stream:
        return b"".join([chunk async for chunk in verify_stream(stream, desc)])


async def read_entry(source: Fetcher, entry: Descriptor) -> tuple[Descriptor, bytes]:
    """An index's entry of an unknown type with the type that its content has, and the content.

    Whoever stored it may have done so as a blob or, like ocisync when it can be read as a manifest, as a manifest. One
    that is none keeps its type. Raises as `read_manifest` does, and NotFound when it is neither here nor there.
    """
    try:
        raw = await read_manifest(source, entry)
    except NotFound as exc:
        try:
            raw = await read_manifest(source, replace(entry, media_type=media_types.OCI_MANIFEST))
        except NotFound:
            raise exc from None
    return retype_entry(entry, raw).with_data(raw), raw


def check_bytes(data: bytes, desc: Descriptor) -> bytes:
    """The same small data, once it is shown to be desc; raises as `verify_stream` does."""
    if len(data) != desc.size:
        raise SizeMismatch(f"{desc.digest}: {len(data)} bytes instead of {desc.size}")
    if digest_of(data, desc.digest) != desc.digest:
        raise DigestMismatch(f"{desc.digest}: the content does not match its digest")
    return data


class UploadCheck:
    """Counts content, and hashes it when its digest is known; plain code, to be used inline or in a thread."""

    def __init__(self, size: int, digest: Digest | None, *, md5: bool = False) -> None:
        self._size = size  # bytes
        self._seen = 0
        self._verifier = Verifier(digest, size) if digest else None
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    @property
    def md5(self) -> str:
        """The MD5 in hex when it was asked for: S3's ETag of a small object."""
        return self._md5.hexdigest() if self._md5 else ""

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes.

        Raises:
            SizeMismatch: more than announced.
        """
        self.count(len(chunk))
        self.hash(chunk)

    def count(self, size: int) -> None:
        """So many bytes more came, which are hashed later; raises as `update` does."""
        self._seen += size
        if self._verifier:
            self._verifier.count(size)
        elif self._seen > self._size:
            raise SizeMismatch(f"more than the announced {self._size} bytes arrived")

    def hash(self, chunk: bytes | bytearray | memoryview) -> None:
        """Hash bytes that were counted."""
        if self._verifier:
            self._verifier.hash(chunk)
        if self._md5:
            self._md5.update(chunk)

    def finish(self) -> None:
        """Check the whole.

        Raises:
            SizeMismatch, DigestMismatch: the content is not what was announced.
        """
        if self._verifier:
            self._verifier.finish()
        elif self._seen != self._size:
            raise SizeMismatch(f"{self._seen} bytes arrived instead of {self._size}")


async def hold_last_chunk(stream: ByteStream, check: UploadCheck) -> AsyncGenerator[bytes, None]:
    """The same bytes, the last chunk of them only when all were checked: a wrong body never arrives whole."""
    last = b""
    hashed = BatchHasher(check)
    async for chunk in stream:
        await hashed.add(chunk)
        held, last = last, chunk
        if held:
            yield held
        del held, chunk  # or they would stay in memory while the next is awaited
    await hashed.finish()
    check.finish()
    if last:
        yield last
