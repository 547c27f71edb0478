"""One member of a tar with all that its headers say about it, checked.

Spec: POSIX.1-2017, pax; extended attributes as star and GNU tar write them (SCHILY.xattr).
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field

from ocisync.content.tar.headers import Header, parse_number
from ocisync.content.tar.sparse import Piece
from ocisync.errors import ArchiveError, LimitExceeded

MAX_XATTRS = 1024  # of one member
_XATTR = b"SCHILY.xattr."
_DEVICES = b"34"
_TIME = re.compile(rb"(-?)0*([0-9]{1,12})(?:\.([0-9]*))?\Z")
_NUMBER = re.compile(rb"0*[0-9]{1,20}\Z")


@dataclass(slots=True)
class TarMember:
    """One member; its content must be read, or left, before the next is asked for."""

    name: bytes
    kind: bytes  # the type flag, "0" for every regular file, sparse ones included
    link: bytes
    size: int  # bytes of the file, holes included
    mode: int  # permissions, set-id and sticky bits
    uid: int
    gid: int
    mtime: int  # nanoseconds since the epoch
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    data: tuple[Piece, ...] | None = None  # where the stored bytes belong in a sparse file


def build_member(block: bytes, header: Header, pax: dict[bytes, bytes], position: int) -> TarMember:
    """A member from its header block and what pax headers say; size and names as `headers.apply_extensions` left them.

    Raises:
        ArchiveError: a number, time or name is malformed.
        LimitExceeded: more extended attributes than MAX_XATTRS.
    """
    xattrs = {key[len(_XATTR) :]: value for key, value in pax.items() if key.startswith(_XATTR)}
    if len(xattrs) > MAX_XATTRS or any(not name or b"\0" in name for name in xattrs):
        raise LimitExceeded(f"{header.name[:60]!r}: more than {MAX_XATTRS} extended attributes, or malformed ones")
    if b"\0" in header.name or b"\0" in header.link:
        raise ArchiveError(f"{header.name[:60]!r}: the name or link holds a zero byte: the archive is corrupt")
    mode = parse_number(block[100:108], position)
    if mode >= 1 << 32:
        raise ArchiveError(f"{header.name[:60]!r}: the mode {mode:#o} is not valid for a file: the archive is corrupt")
    return TarMember(
        header.name,
        header.kind,
        header.link,
        header.size,
        stat.S_IMODE(mode),
        parse_pax_number(pax, b"uid", parse_number(block[108:116], position)),
        parse_pax_number(pax, b"gid", parse_number(block[116:124], position)),
        _parse_time(pax[b"mtime"]) if b"mtime" in pax else _parse_header_time(block[136:148], position),
        (parse_number(block[329:337], position), parse_number(block[337:345], position))
        if header.kind in _DEVICES
        else (0, 0),
        xattrs,
    )


def parse_pax_number(pax: dict[bytes, bytes], key: bytes, otherwise: int) -> int:
    """A number of a pax header; `otherwise` where it has none, unless that is negative: then it must have one."""
    text = pax.get(key)
    if text is None:
        if otherwise < 0:
            raise ArchiveError(f"a sparse member has no {key.decode()}: the archive is corrupt")
        return otherwise
    if not _NUMBER.match(text):
        raise ArchiveError(f"a pax header has a malformed {key.decode()}: the archive is corrupt")
    return int(text)


def _parse_time(text: bytes) -> int:
    found = _TIME.match(text)
    if found is None:
        raise ArchiveError(f"a pax header has a malformed time {text[:40]!r}: the archive is corrupt")
    sign, seconds, fraction = found.groups()
    nanoseconds = int(seconds) * 10**9 + int((fraction or b"")[:9].ljust(9, b"0"))
    return -nanoseconds if sign else nanoseconds


def _parse_header_time(raw: bytes, position: int) -> int:
    if raw[0] & 0x80:  # base 256, two's complement in 95 bits
        value = int.from_bytes(bytes((raw[0] & 0x7F,)) + raw[1:], "big")
        seconds = value - (1 << 95) if raw[0] & 0x40 else value
        if abs(seconds) >= 10**12:
            raise ArchiveError(f"the tar header at byte {position} has an absurd time: the archive is corrupt")
        return seconds * 10**9
    return parse_number(raw, position) * 10**9
