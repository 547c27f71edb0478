"""Tars made by hand, also such as no tool writes, and bytes that can be read by position."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Generator
from typing import TypeVar

from ocisync.content.tar.index import TarIndex, TarLimits, index_tar

T = TypeVar("T")
END = bytes(1024)


class Memory:
    """A file in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes, as a real file within its bounds."""
        assert offset >= 0
        assert offset + length <= self.size
        return self.data[offset : offset + length]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """The same into a buffer."""
        buffer[:] = self.read_at(offset, len(buffer))


def drain(steps: Generator[None, None, T]) -> T:
    """Run a generator to its end; its result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def index(data: bytes, limits: TarLimits | None = None) -> TarIndex:
    """The index of a tar in memory."""
    return drain(index_tar(Memory(data), limits))


def content(found: TarIndex, name: str) -> bytes | None:
    """A member's bytes."""
    region = found.find(name)
    return None if region is None else region.read_at(0, region.size)


def member(name: str, body: bytes = b"", *, kind: bytes = b"0", link: str = "", size: bytes | None = None) -> bytes:
    """A ustar header with its content, padded; `size` is the raw field when it is to be wrong."""
    field = b"%011o\0" % len(body) if size is None else size.ljust(12, b"\0")
    head = b"".join(
        (
            name.encode("utf-8", "surrogateescape").ljust(100, b"\0"),
            b"0000644\0",
            b"0000000\0" * 2,
            field,
            b"00000000000\0",
            b" " * 8,
            kind,
            link.encode().ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(247),
        )
    )
    assert len(head) == 512
    return head[:148] + b"%06o\0 " % sum(head) + head[156:] + body + bytes(-len(body) % 512)


def pax(**records: str) -> bytes:
    """A pax header for the member after it; `__` in a key stands for a dot."""
    body = b"".join(_record(key.replace("__", "."), value) for key, value in records.items())
    return member("PaxHeader", body, kind=b"x")


def tar(*members: bytes) -> bytes:
    """An archive of these members."""
    return b"".join(members) + END


def by_tarfile(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive as the standard library writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


def _record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n".encode()
    length = len(text) + 1
    while len(str(length)) + len(text) != length:
        length += 1
    return str(length).encode() + text
