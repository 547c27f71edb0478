"""Tar headers, parsed strictly: what two readers could understand differently is refused.

Spec: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar's long names and sparse members.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from ocisync.errors import ArchiveError, LimitExceeded

BLOCK = 512  # bytes
MAX_EXTENSION = 1024 * 1024  # bytes of one pax header or long name
MAX_NAME = 4096  # bytes; Linux's PATH_MAX
MAX_SIZE = 1 << 60  # bytes

_OCTAL = re.compile(rb"[0-7]*\Z")
_DECIMAL = re.compile(rb"0*[0-9]{1,19}\Z")
_FORMAT = struct.Struct("100s 8x 8x 8x 12s 12x 8x c 100s 8s 247x")
GNU_MAGIC = b"ustar  \0"

REGULAR = b"0"
HARD_LINK = b"1"
SYMLINK = b"2"
FOLDER = b"5"
GNU_SPARSE = b"S"
_WITHOUT_CONTENT = frozenset((HARD_LINK, SYMLINK, FOLDER, b"3", b"4", b"6"))
_SAME_AS_REGULAR = frozenset((b"\0", b"7"))
_PAX_LOCAL = frozenset((b"x", b"X"))
_PAX_SIZE, _PAX_PATH, _PAX_LINK = b"size", b"path", b"linkpath"
_PAX_MEMBER = frozenset((_PAX_SIZE, _PAX_PATH, _PAX_LINK, b"uid", b"gid", b"mtime"))
_SPARSE = b"GNU.sparse."
_PIECE = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")  # format 0.0
SPARSE_MAP = b"GNU.sparse.map"  # format 0.1


@dataclass(slots=True)
class Header:
    """One member's header block, after the extensions before it were applied."""

    name: bytes
    kind: bytes  # the type flag, "0" for every regular file
    size: int  # bytes of content that follow in the archive
    link: bytes
    extended_sparse: bool = False  # GNU: further blocks with a map of holes follow the header
    sparse: bool = False  # the content is not the file's bytes


@dataclass(slots=True)
class Extensions:
    """What pax headers and GNU long names say about the next member.

    Of several pax headers in a row only the last one counts, as in Go and GNU tar, also for what it does not say.
    """

    long_name: bytes | None = None  # GNU
    long_link: bytes | None = None  # GNU
    pax: dict[bytes, bytes] = field(default_factory=dict)


def parse_header(block: bytes, position: int) -> Header:
    """Read one 512 byte header.

    Raises:
        ArchiveError: the checksum does not hold, or a number is malformed or negative.
    """
    name, size, kind, link, magic = _FORMAT.unpack(block)
    _verify_checksum(block, position)
    name = name.partition(b"\0")[0]
    if before := _read_prefix(block, magic):
        name = before + b"/" + name
    # A link's or a folder's size is parsed too, so that a malformed one is refused; no content follows them.
    length = parse_number(size, position)
    return Header(
        name,
        kind,
        0 if kind in _WITHOUT_CONTENT else length,
        link.partition(b"\0")[0],
        extended_sparse=kind == GNU_SPARSE and block[482] != 0,
        sparse=kind == GNU_SPARSE,
    )


def parse_number(field: bytes, position: int) -> int:
    """Read an octal or base-256 number.

    One leading zero byte is passed over, which old tars wrote when the field before ran over. Go passes over any number
    of them, GNU tar over one and reads the rest as 0: what they would read differently is refused.

    Raises:
        ArchiveError: negative, absurdly large or malformed (CVE-2025-8194: tarfile loops for ever on negative sizes).
    """
    text = field.removeprefix(b"\0").lstrip(b" ")
    if field[0] == 0x80:
        value = int.from_bytes(field[1:], "big")
    elif (text.startswith(b"\0") and text.strip(b"\0 ")) or not _OCTAL.match(
        digits := text.partition(b"\0")[0].rstrip(b" ")
    ):
        raise ArchiveError(
            f"the tar header at byte {position} has a negative or malformed number: the archive is corrupt"
        )
    else:
        value = int(digits or b"0", 8)
    if value > MAX_SIZE:
        raise ArchiveError(f"the tar header at byte {position} claims {value} bytes: the archive is corrupt")
    return value


def is_extension(kind: bytes) -> bool:
    """Whether a header of this type speaks about the member after it, or about all."""
    return kind in b"xXgLK"


def read_extension(extensions: Extensions, kind: bytes, body: bytes, position: int) -> None:
    """Take one extension header's body.

    Raises:
        ArchiveError: malformed, or a global header that describes members: Go ignores those, and GNU tar does not.
    """
    if kind == b"L":
        extensions.long_name = body.partition(b"\0")[0]
    elif kind == b"K":
        extensions.long_link = body.partition(b"\0")[0]
    elif kind in _PAX_LOCAL:
        extensions.pax = parse_pax_records(body, position)
    else:
        found = sorted(key for key in parse_pax_records(body, position) if _describes(key))
        if found:
            told = b", ".join(found)[:100].decode("utf-8", "replace")
            raise ArchiveError(
                f"the global pax header at byte {position} sets {told} of all members: tar programs disagree on it"
            )


def apply_extensions(header: Header, extensions: Extensions) -> Header:
    """The header as its extensions change it: pax size and names win over those of the header.

    Raises:
        ArchiveError: a malformed size, or a name that is said twice: Go takes GNU's, and GNU tar takes pax'.
        LimitExceeded: a name longer than 4096 bytes.
    """
    pax = extensions.pax
    header.name = _choose_name(header.name, extensions.long_name, pax.get(_PAX_PATH))
    header.link = _choose_name(header.link, extensions.long_link, pax.get(_PAX_LINK))
    header.sparse = header.sparse or any(key.startswith(_SPARSE) for key in pax)
    if header.kind in _SAME_AS_REGULAR:
        header.kind = FOLDER if header.name.endswith(b"/") and header.kind == b"\0" else REGULAR
    size = pax.get(_PAX_SIZE)
    if size is not None and (not _DECIMAL.match(size) or int(size) > MAX_SIZE):
        raise ArchiveError(
            f"{header.name[:60]!r}: a pax header has a negative or malformed size: the archive is corrupt"
        )
    if header.kind in _WITHOUT_CONTENT:
        header.size = 0
    elif size is not None:
        header.size = int(size)
    if len(header.name) > MAX_NAME or len(header.link) > MAX_NAME:
        raise LimitExceeded(f"a member's name or link has more than {MAX_NAME} bytes: {header.name[:60]!r}…")
    return header


def _choose_name(name: bytes, long_name: bytes | None, pax_name: bytes | None) -> bytes:
    if pax_name == b"":
        raise ArchiveError(f"{name[:60]!r}: a pax header has an empty name: tar programs disagree on it")
    if long_name is not None and pax_name is not None and long_name != pax_name:
        raise ArchiveError(f"{pax_name[:60]!r} is also called {long_name[:60]!r}: tar programs disagree on it")
    return name if pax_name is None and long_name is None else pax_name or long_name or b""


def _describes(key: bytes) -> bool:
    """Whether a pax record says something about a member, and not about the archive."""
    return key in _PAX_MEMBER or key.startswith((_SPARSE, b"SCHILY.xattr."))


def parse_pax_records(body: bytes, position: int) -> dict[bytes, bytes]:
    """Split `length key=value` records; a later one of the same key wins.

    GNU's sparse format 0.0 repeats two keys for each piece; they become the map that format 0.1 writes.

    Raises:
        ArchiveError: a length that does not fit.
    """
    records: dict[bytes, bytes] = {}
    pieces: list[bytes] = []
    start = 0
    while start < len(body) and body[start] != 0:
        digits, space, _ = body[start : start + 24].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = body[start + len(digits) + 1 : start + length]
        key, equals, value = record.partition(b"=")
        if not equals or start + length > len(body) or not record.endswith(b"\n"):
            raise ArchiveError(f"the pax header at byte {position} is malformed: the archive is corrupt")
        if key in _PIECE:
            if key != _PIECE[len(pieces) % 2] or not _DECIMAL.match(value[:-1]):
                raise ArchiveError(f"the map of holes at byte {position} is malformed: the archive is corrupt")
            pieces.append(value[:-1])
        records[key] = value[:-1]
        start += length
    if pieces:
        records[SPARSE_MAP] = b",".join(pieces)
    return records


def has_checksum(block: bytes) -> bool:
    """Whether a block is a header by the sum of its bytes."""
    digits = block[148:156].removeprefix(b"\0").lstrip(b" ").partition(b"\0")[0].rstrip(b" ")
    written = int(digits, 8) if digits and _OCTAL.match(digits) else -1
    rest = block[:148] + block[156:]
    actual = sum(rest) + 256
    return written in (actual, actual - 256 * sum(1 for byte in rest if byte > 127))  # some old tars sum signed


def _verify_checksum(block: bytes, position: int) -> None:
    if not has_checksum(block):
        where = "this is not a tar archive" if position == 0 else "the archive is truncated or corrupt"
        raise ArchiveError(f"no valid tar header at byte {position}: {where}")


def _read_prefix(block: bytes, magic: bytes) -> bytes:
    """The beginning of a long name; star's field is shorter.

    It counts whatever the version after the magic is. GNU's own format has times there; but Go before 1.8 wrote a
    prefix under GNU's magic for members with large numbers, and docker's layers of that time have such.
    """
    if magic.startswith(b"ustar\0"):
        return (block[345:476] if block[508:] == b"tar\0" else block[345:500]).partition(b"\0")[0]
    if magic != GNU_MAGIC or all(_is_time(block[start : start + 12]) for start in (345, 357)):
        return b""
    prefix = block[345:500].partition(b"\0")[0]
    return prefix if prefix.isascii() else b""


def _is_time(field: bytes) -> bool:
    text = field.strip(b"\0 ").partition(b"\0")[0]
    return field[0] == 0 or field[0] & 0x80 != 0 or _OCTAL.match(text) is not None
