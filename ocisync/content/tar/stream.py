"""A tar archive read once from its start to its end: each member with its attributes and its content.

Layers are read this way while they are decompressed and verified; archives of images are read through `index` instead.
The checks are those of `headers`, and more: numbers, times and maps of holes must be well-formed and bounded.
Everything here blocks; call it in a thread.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from ocisync.content.tar.headers import (
    BLOCK,
    GNU_MAGIC,
    GNU_SPARSE,
    MAX_EXTENSION,
    REGULAR,
    SPARSE_MAP,
    Extensions,
    Header,
    apply_extensions,
    is_extension,
    parse_header,
    read_extension,
)
from ocisync.content.tar.index import TarLimits
from ocisync.content.tar.member import TarMember, build_member, parse_pax_number
from ocisync.content.tar.sparse import Piece, parse_gnu_map, parse_map_text, read_map
from ocisync.errors import ArchiveError, LimitExceeded

_ZEROS = bytes(BLOCK)
_OLD_SPARSE = frozenset(((None, None), (b"0", b"0"), (b"0", b"1")))  # formats 0.0 and 0.1 name no version, or theirs


class TarStream:
    """Members in the archive's order.

    Raises (while it is read):
        ArchiveError: corrupt or truncated.
        LimitExceeded: more members, longer names or headers than the limits allow.
    """

    def __init__(self, chunks: Iterator[bytes], limits: TarLimits | None = None) -> None:
        self._bytes = _Bytes(chunks)
        self._limits = limits or TarLimits()
        self._left = 0  # stored bytes of the current member that were not read
        self._padding = 0  # bytes

    def __iter__(self) -> Iterator[TarMember]:
        members = names = extensions = 0
        found = Extensions()
        while (block := self._next_block()) is not None:
            header = parse_header(block, self._bytes.position - BLOCK)
            if is_extension(header.kind):
                extensions += 1
                self._check(extensions <= 4 * self._limits.members, "extension headers")
                self._read_extension(header, found)
                continue
            members += 1
            names += len(header.name) + len(header.link)
            self._check(members <= self._limits.members and names <= self._limits.names, "members or names")
            yield self._read_member(block, header, found)
            found = Extensions()
            self._skip()

    def read_content(self) -> Generator[bytes, None, None]:
        """The current member's stored bytes, in chunks."""
        while self._left:
            chunk = self._bytes.take_some(self._left)
            self._left -= len(chunk)
            yield chunk

    def drain(self) -> Iterator[None]:
        """Read what follows the archive's end, so that whoever hashes the stream sees all of it."""
        while self._bytes.fetch():
            yield

    def _read_member(self, block: bytes, header: Header, found: Extensions) -> TarMember:
        position = self._bytes.position - BLOCK
        is_gnu_sparse = header.sparse
        if is_gnu_sparse and block[257:265] != GNU_MAGIC:  # star has other maps under the same type
            raise ArchiveError(f"{header.name[:60]!r}: a sparse member that is not GNU tar's: it cannot be read")
        holes = parse_gnu_map(block, self._take_block) if is_gnu_sparse else None
        header = apply_extensions(header, found)
        self._left, self._padding = header.size, -header.size % BLOCK
        member = build_member(block, header, found.pax, position)
        if header.sparse and header.kind in (REGULAR, GNU_SPARSE):
            self._make_sparse(member, found.pax, holes)
        if member.kind == REGULAR and member.name.endswith(b"/"):
            raise ArchiveError(f"{member.name[:60]!r}: a file whose name is a folder's: tar programs disagree on it")
        return member

    def _make_sparse(
        self, member: TarMember, pax: dict[bytes, bytes], gnu: tuple[tuple[Piece, ...], int] | None
    ) -> None:
        if gnu is not None:
            member.data, member.size = gnu
        elif (version := (pax.get(b"GNU.sparse.major"), pax.get(b"GNU.sparse.minor"))) == (b"1", b"0"):
            member.data = read_map(self._read_stored)
            member.size = parse_pax_number(pax, b"GNU.sparse.realsize", -1)
        elif version in _OLD_SPARSE:
            member.data = parse_map_text(pax.get(SPARSE_MAP, b""), pax.get(b"GNU.sparse.numblocks"))
            member.size = parse_pax_number(pax, b"GNU.sparse.size", -1)
        else:
            raise ArchiveError(f"{member.name[:60]!r}: a sparse format that is not understood (0.0, 0.1 and 1.0 are)")
        member.kind = REGULAR
        member.name = pax.get(b"GNU.sparse.name", member.name)
        _check_map(member, self._left)

    def _read_stored(self, length: int) -> bytes:
        if length > self._left:
            raise ArchiveError("a sparse member's map is longer than the member: the archive is corrupt")
        self._left -= length
        return self._bytes.take(length)

    def _read_extension(self, header: Header, found: Extensions) -> None:
        if header.size > MAX_EXTENSION:
            raise LimitExceeded(f"an extension header of {header.size} bytes; at most {MAX_EXTENSION} are accepted")
        position = self._bytes.position
        body = self._bytes.take(header.size)
        self._bytes.take(-header.size % BLOCK)
        read_extension(found, header.kind, body, position)

    def _next_block(self) -> bytes | None:
        block = self._bytes.take_block()
        if block and block != _ZEROS:
            return block
        second = self._bytes.take_block() if block else b""
        if second and second != _ZEROS:
            raise ArchiveError("members follow an empty header: the archive is corrupt")
        return None

    def _take_block(self) -> bytes:
        return self._bytes.take(BLOCK)

    def _skip(self) -> None:
        for _ in self.read_content():
            pass
        self._bytes.take(self._padding)

    def _check(self, holds: bool, what: str) -> None:
        if not holds:
            raise LimitExceeded(f"the layer has more {what} than the limit of {self._limits.members} members allows")


class _Bytes:
    """Chunks of any size, taken in pieces of the size that is wanted."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = memoryview(b"")
        self.position = 0  # bytes taken

    def take_some(self, most: int) -> bytes:
        """At least one byte and at most `most`."""
        if not self._held and not self.fetch():
            raise ArchiveError(f"the archive ends at byte {self.position}, within a member: it is truncated")
        piece = bytes(self._held[:most])
        self._held = self._held[len(piece) :]
        self.position += len(piece)
        return piece

    def take(self, length: int) -> bytes:
        """So many bytes; only for lengths that were checked."""
        if length <= len(self._held):
            return self.take_some(length) if length else b""
        parts, missing = [], length
        while missing:
            parts.append(self.take_some(missing))
            missing -= len(parts[-1])
        return b"".join(parts)

    def take_block(self) -> bytes:
        """The next block, or nothing at the end."""
        return self.take(BLOCK) if self._held or self.fetch() else b""

    def fetch(self) -> bool:
        """Replace what is held by the next chunk that is not empty; False at the end."""
        for chunk in self._chunks:
            if chunk:
                self._held = memoryview(chunk)
                return True
        self._held = memoryview(b"")
        return False


def _check_map(member: TarMember, stored: int) -> None:
    """The pieces must be in order, within the file, be all that is stored, and mean the same to every reader.

    GNU tar reads each piece from a new block, Go right behind the one before: so all but the last must be of whole
    blocks. What follows the last piece is a hole to Go, and nothing to GNU tar: so an empty piece must mark the end.
    """
    end = total = 0
    for offset, length in member.data or ():
        if offset < end:
            raise ArchiveError(f"{member.name[:60]!r}: the map of holes is out of order: the archive is corrupt")
        if length and total % BLOCK:
            raise ArchiveError(
                f"{member.name[:60]!r}: a piece between holes is not of whole blocks: tar programs disagree on it"
            )
        end = offset + length
        total += length
    if end != member.size or total != stored:
        raise ArchiveError(f"{member.name[:60]!r}: the map of holes does not fit the content: the archive is corrupt")
