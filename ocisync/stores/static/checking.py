"""Checking content whose digest may not be known beforehand, and holding its end back until it is shown to be right."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from ocisync.content.protocols import ByteStream
from ocisync.content.verify import Hashed, Verifier
from ocisync.errors import SizeMismatch
from ocisync.spec.digest import Digest


class Check:
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

    def update(self, chunk: bytes) -> None:
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

    def hash(self, chunk: bytes) -> None:
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


async def held_back(stream: ByteStream, check: Check) -> AsyncIterator[bytes]:
    """The same bytes, the last chunk of them only when all were checked: a wrong body never arrives whole."""
    last = b""
    hashed = Hashed(check)
    async for chunk in stream:
        await hashed.add(chunk)
        held, last = last, chunk
        if held:
            yield held
        del held, chunk  # or they would stay in memory while the next is awaited
    await hashed.settle()
    check.finish()
    if last:
        yield last
