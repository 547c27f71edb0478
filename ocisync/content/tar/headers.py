"""Tar headers, parsed strictly: what two readers could understand differently is refused.

Spec: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar's long names and sparse members.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from ocisync.errors import ArchiveError, LimitExceeded

BLOCK = 512  # bytes
MAX_EXTENSION = 1024 * 1024  # bytes of one pax header or long name
MAX_NAME = 4096  # bytes; Linux's PATH_MAX
MAX_SIZE = 1 << 60  # bytes

_OCTAL = re.compile(rb"[0-7]*\Z")
_SIZE = re.compile(rb"[0-9]{1,19}\Z")
_FORMAT = struct.Struct("100s 8x 8x 8x 12s 12x 8s c 100s 8s 80x 155s 12x")

REGULAR = b"0"
HARD_LINK = b"1"
SYMLINK = b"2"
FOLDER = b"5"
GNU_SPARSE = b"S"
_WITHOUT_CONTENT = frozenset((HARD_LINK, SYMLINK, FOLDER, b"3", b"4", b"6"))
_SAME_AS_REGULAR = frozenset((b"\0", b"7"))
_PAX_LOCAL = frozenset((b"x", b"X"))
_PAX_SIZE, _PAX_PATH, _PAX_LINK = b"size", b"path", b"linkpath"


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
    """What pax headers and GNU long names say about the next member."""

    name: bytes | None = None
    link: bytes | None = None
    size: int | None = None
    sparse: bool = False


def parse_header(block: bytes, position: int) -> Header:
    """Read one 512 byte header.

    Raises:
        ArchiveError: the checksum does not hold, or a number is malformed or negative.
    """
    name, size, checksum, kind, link, magic, prefix = _FORMAT.unpack(block)
    _verify_checksum(block, checksum, position)
    name = name.partition(b"\0")[0]
    if magic == b"ustar\x0000" and (before := _read_prefix(block, prefix)):
        name = before + b"/" + name
    if kind in _SAME_AS_REGULAR:
        kind = FOLDER if name.endswith(b"/") and kind == b"\0" else REGULAR
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

    Raises:
        ArchiveError: negative, absurdly large or malformed (CVE-2025-8194: tarfile loops for ever on negative sizes).
    """
    if field[0] == 0x80:
        value = int.from_bytes(field[1:], "big")
    elif _OCTAL.match(digits := field.partition(b"\0")[0].strip(b" ")):
        value = int(digits or b"0", 8)
    else:
        raise ArchiveError(
            f"the tar header at byte {position} has a negative or malformed size: the archive is corrupt"
        )
    if value > MAX_SIZE:
        raise ArchiveError(f"the tar header at byte {position} claims {value} bytes: the archive is corrupt")
    return value


def is_extension(kind: bytes) -> bool:
    """Whether a header of this type speaks about the member after it, or about all."""
    return kind in b"xXgLK"


def read_extension(found: Extensions, kind: bytes, body: bytes, position: int) -> None:
    """Take one extension header's body.

    Raises:
        ArchiveError: malformed, or a global header that moves or resizes members (readers disagree about those).
    """
    if kind == b"L":
        found.name = body.partition(b"\0")[0]
    elif kind == b"K":
        found.link = body.partition(b"\0")[0]
    elif kind in _PAX_LOCAL:
        _read_pax(found, body, position)
    elif {_PAX_SIZE, _PAX_PATH, _PAX_LINK} & parse_pax_records(body, position).keys():
        raise ArchiveError(f"the global pax header at byte {position} sets names or sizes of all members")


def apply_extensions(header: Header, found: Extensions) -> Header:
    """The header as its extensions change it: pax size and names win over those of the header.

    Raises:
        LimitExceeded: a name longer than 4096 bytes.
    """
    header.name = header.name if found.name is None else found.name
    header.link = header.link if found.link is None else found.link
    header.sparse = header.sparse or found.sparse
    if found.size is not None and header.kind not in _WITHOUT_CONTENT:
        header.size = found.size
    if len(header.name) > MAX_NAME or len(header.link) > MAX_NAME:
        raise LimitExceeded(f"a member's name or link has more than {MAX_NAME} bytes: {header.name[:60]!r}…")
    return header


def parse_pax_records(body: bytes, position: int) -> dict[bytes, bytes]:
    """Split `length key=value` records; a later one of the same key wins.

    Raises:
        ArchiveError: a length that does not fit.
    """
    records: dict[bytes, bytes] = {}
    start = 0
    while start < len(body) and body[start] != 0:
        digits, space, _ = body[start : start + 12].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = body[start + len(digits) + 1 : start + length]
        key, equals, value = record.partition(b"=")
        if not equals or start + length > len(body) or not record.endswith(b"\n"):
            raise ArchiveError(f"the pax header at byte {position} is malformed: the archive is corrupt")
        records[key] = value[:-1]
        start += length
    return records


def _read_pax(found: Extensions, body: bytes, position: int) -> None:
    records = parse_pax_records(body, position)
    found.name = records.get(_PAX_PATH, found.name)
    found.link = records.get(_PAX_LINK, found.link)
    if any(key.startswith(b"GNU.sparse.") for key in records):
        found.sparse = True
    size = records.get(_PAX_SIZE)
    if size is None:
        return
    if not _SIZE.match(size) or int(size) > MAX_SIZE:
        raise ArchiveError(
            f"the pax header at byte {position} has a negative or malformed size: the archive is corrupt"
        )
    found.size = int(size)


def _verify_checksum(block: bytes, field: bytes, position: int) -> None:
    digits = field.partition(b"\0")[0].strip(b" ")
    written = int(digits, 8) if digits and _OCTAL.match(digits) else -1
    rest = block[:148] + block[156:]
    actual = sum(rest) + 256
    if written == actual or written == actual - 256 * sum(1 for byte in rest if byte > 127):  # some old tars sum signed
        return
    where = "this is not a tar archive" if position == 0 else "the archive is truncated or corrupt"
    raise ArchiveError(f"no valid tar header at byte {position}: {where}")


def _read_prefix(block: bytes, prefix: bytes) -> bytes:
    return (block[345:476] if block[508:] == b"tar\0" else prefix).partition(b"\0")[0]  # star's is shorter
