"""Layers as old, broken and careful tools wrote them, from a seed; and what three readers make of one.

The headers are made here byte by byte: prefixes under every version, pax headers in a row, zero-padded numbers, sizes
with leading zero bytes, all of GNU's sparse formats, long names, links and whiteouts.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ocisync.errors import OcisyncError
from tests.integration.rootfs import image, in_thread, umoci_unpack, unpack_bytes, write_layout
from tests.trees import differences

_MTIME = 1_600_000_000  # seconds
_HARMLESS = ("mtime",)  # umoci and GNU tar give folders that they touched again other times


def header(
    name: bytes,
    kind: bytes,
    body: bytes = b"",
    *,
    link: bytes = b"",
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    size: bytes | None = None,
    mode: bytes = b"",
    rest: bytes = bytes(157),
) -> bytes:
    """A header block with its content; `size` and `mode` as in their fields, `rest` what follows the devices."""
    if prefix:
        rest = prefix.ljust(155, b"\0") + bytes(2)
    head = b"".join((
        name.ljust(100, b"\0"),
        mode or (b"0000755\0" if kind == b"5" else b"0000644\0"),
        b"0000000\0" * 2,
        (b"%011o\0" % len(body)) if size is None else size,
        b"%011o\0" % _MTIME,
        b" " * 8,
        kind,
        link.ljust(100, b"\0"),
        magic,
        bytes(64),
        b"0000000\0" * 2,
        rest.ljust(167, b"\0"),
    ))  # fmt: skip
    assert len(head) == 512
    return head[:148] + b"%06o\0 " % sum(head) + head[156:] + body + bytes(-len(body) % 512)


def pax(*records: tuple[bytes, bytes]) -> bytes:
    """A pax header."""
    return header(b"PaxHeader", b"x", b"".join(_record(key, value) for key, value in records))


class LayerMaker:
    """Makes layers of one seed; names are of a small set, so that members meet each other."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._folders = [b"."]
        self._files: list[bytes] = []

    def layers(self) -> list[bytes]:
        """One or two layers; the second takes away some of the first."""
        first = self._layer(self._random.randint(5, 15))
        if self._random.random() < 0.5:
            return [first]
        return [first, b"".join(self._whiteouts()) + self._layer(self._random.randint(1, 6))]

    def _layer(self, members: int) -> bytes:
        return header(b"./", b"5") + b"".join(self._member() for _ in range(members)) + bytes(1024)

    def _member(self) -> bytes:
        act = self._random.choice(
            (
                *(self._folder, self._folder, self._plain, self._long, self._pax, self._twice, self._padded),
                *(self._zeros, self._sparse, self._sparse, self._hard_link, self._symlink, self._regular_v7),
            )
        )
        return act()

    def _name(self) -> bytes:
        stem = self._random.choice((b"a", b"b", b"file", "käse".encode(), b"n" * 60))
        name = self._random.choice(self._folders) + b"/" + stem + b"%d" % self._random.randint(0, 30)
        self._files.append(name)
        return name

    def _body(self) -> bytes:
        return self._random.randbytes(self._random.choice((0, 1, 511, 512, 513, 3000)))

    def _folder(self) -> bytes:
        name = self._random.choice(self._folders) + b"/d%d" % self._random.randint(0, 9)
        if len(name) > 90 or name in self._folders:
            return b""
        self._folders.append(name)
        return header(name + b"/", b"5")

    def _plain(self) -> bytes:
        return self._named(self._name(), b"0", self._body())

    def _long(self) -> bytes:
        """A name in two fields, or in a member of its own."""
        name, body = self._name(), self._body()
        if self._random.random() < 0.3:
            return header(b"././@LongLink", b"L", name + b"\0", magic=b"ustar  \0") + header(
                name[:100], b"0", body, magic=b"ustar  \0"
            )
        before, _, last = name.rpartition(b"/")
        version = self._random.choice((b"00", b"\0\0", b"  ", b" \0", b"0\0"))
        return header(last, b"0", body, prefix=before, magic=b"ustar\0" + version)

    def _pax(self) -> bytes:
        name, body = self._name(), self._body()
        return pax((b"path", name), (b"mtime", b"%d.5" % _MTIME)) + header(b"short", b"0", body)

    def _twice(self) -> bytes:
        """Several pax headers in a row: only the last counts."""
        name, other, body = self._name(), b"other", self._body()
        last = self._random.choice(((b"path", name), (b"mtime", b"7"), (b"comment", b"x")))
        return pax((b"path", other), (b"uid", b"7")) + pax(last) + self._named(name, b"0", body)

    def _padded(self) -> bytes:
        name, body = self._name(), self._body()
        zeros = b"0" * self._random.choice((1, 12, 40))
        return pax((b"size", zeros + b"%d" % len(body)), (b"uid", zeros + b"5")) + self._named(
            name, b"0", body, size=b"0" * 11 + b"\0"
        )

    def _zeros(self) -> bytes:
        """A size whose field begins with zero bytes: one is passed over by all, of several readers differ."""
        body, count = self._body(), self._random.choice((1,) * 9 + (2,))
        size = bytes(count) + b"%0*o\0" % (11 - count, len(body))
        return self._named(self._name(), b"0", body, size=size)

    def _regular_v7(self) -> bytes:
        return header(self._name()[:100], b"\0", self._body(), magic=bytes(8))

    def _sparse(self) -> bytes:
        name = self._name()
        lengths = self._random.choice(((512, 1024), (512, 1024), (512, 600)))
        pieces = [(number * 70_144, self._random.choice(lengths)) for number in range(self._random.randint(1, 5))]
        data = b"".join(self._random.randbytes(length) for _, length in pieces)
        end = pieces[-1][0] + 90_000
        pieces.append((end, 0))  # as GNU tar writes it; without it readers differ about the last hole
        size = b"%d" % end
        numbers = b",".join(b"%d,%d" % piece for piece in pieces)
        form = self._random.choice((b"0.0", b"0.1", b"1.0"))
        if form == b"1.0":
            text = b"%d\n" % len(pieces) + b"".join(b"%d\n%d\n" % piece for piece in pieces)
            records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
            records += [(b"GNU.sparse.name", name), (b"GNU.sparse.realsize", size)]
            return pax(*records) + header(b"GNUSparseFile.0/x", b"0", text + bytes(-len(text) % 512) + data)
        head = [(b"GNU.sparse.size", size), (b"GNU.sparse.numblocks", b"%d" % len(pieces))]
        if form == b"0.1":
            records = [*head, (b"GNU.sparse.name", name), (b"GNU.sparse.map", numbers)]
            return pax(*records) + header(b"GNUSparseFile.0/x", b"0", data)
        for offset, length in pieces:
            head += [(b"GNU.sparse.offset", b"%d" % offset), (b"GNU.sparse.numbytes", b"%d" % length)]
        return pax(*head, (b"path", name)) + header(b"short", b"0", data)

    def _hard_link(self) -> bytes:
        if not self._files:
            return b""
        target, name = self._random.choice(self._files), self._name()
        return self._named(name, b"1", b"", link=target)

    def _symlink(self) -> bytes:
        target = self._random.choice((b"nowhere", b"../up", b"/abs/olute", b"t" * 99))
        # A name of its own: GNU tar puts such links in place at the end, also over a file that came meanwhile.
        name = self._random.choice(self._folders) + b"/link%d" % len(self._files)
        self._files.append(name)
        return self._named(name, b"2", b"", link=target)

    def _whiteouts(self) -> list[bytes]:
        found = []
        for name in self._random.sample(self._files, min(3, len(self._files))):
            folder, _, last = name.rpartition(b"/")
            found.append(self._named(folder + b"/.wh." + last, b"0", b""))
        if self._random.random() < 0.3:
            found.append(self._named(self._random.choice(self._folders) + b"/.wh..wh..opq", b"0", b""))
        return found

    @staticmethod
    def _named(name: bytes, kind: bytes, body: bytes, *, link: bytes = b"", size: bytes | None = None) -> bytes:
        records = ([(b"path", name)] if len(name) > 100 else []) + ([(b"linkpath", link)] if len(link) > 100 else [])
        if records and size is None:
            return pax(*records) + header(name[:100], kind, body, link=link[:100])
        before, _, last = name.rpartition(b"/")
        prefix = before if len(name) > 100 else b""
        return header(last if prefix else name, kind, body, link=link[:100], prefix=prefix, size=size)


async def compare_readers(layers: Sequence[bytes], root: Path) -> str:
    """Unpack by ocisync, umoci and GNU tar: "" when ocisync refused, else who made the same tree.

    GNU tar knows no whiteouts, so it judges the first layer alone.
    """
    judges = []
    for count in {1, len(layers)}:
        ours, umocis, tars = (root / f"{who}{count}" for who in ("ours", "umoci", "tar"))
        try:
            await unpack_bytes(layers[:count], ours)
        except OcisyncError:
            return ""
        if await _by_umoci(layers[:count], umocis):
            assert differences(umocis, ours, _HARMLESS) == []
            judges.append("umoci")
        if count == 1 and await _by_tar(layers[0], tars):
            assert differences(tars, ours, _HARMLESS) == []
            judges.append("tar")
    return " ".join(judges)


async def _by_umoci(layers: Sequence[bytes], into: Path) -> bool:
    layout = into.with_name(into.name + "-layout")
    try:
        await in_thread(partial(write_layout, layout, {"it": image(*layers)}))
        await umoci_unpack(layout, into, "it")
    except subprocess.CalledProcessError:
        return False
    finally:
        shutil.rmtree(layout)
    return True


async def _by_tar(layer: bytes, into: Path) -> bool:
    await in_thread(into.mkdir)
    command = ["tar", "-C", str(into), "--numeric-owner", "-xpf", "-"]
    made: list[subprocess.CompletedProcess[bytes]] = []
    await in_thread(lambda: made.append(subprocess.run(command, input=layer, capture_output=True, check=False)))
    return made[0].returncode == 0


def _record(key: bytes, value: bytes) -> bytes:
    text = b" " + key + b"=" + value + b"\n"
    length = len(text)
    while len(b"%d" % length) + len(text) != length:
        length = len(b"%d" % length) + len(text)
    return b"%d" % length + text
