"""Tar headers of new archives: pax, and the same bytes for the same member everywhere.

Spec: POSIX.1-2017, pax, "pax Interchange Format"; GNU tar manual, "Storing Sparse Files" (1.0).
"""

from __future__ import annotations

from dataclasses import replace

from ocisync.content.tar.headers import BLOCK, FOLDER, REGULAR
from ocisync.content.tar.member import TarMember
from ocisync.content.tar.sparse import render_map

END = bytes(2 * BLOCK)
_NAME = 100  # bytes
_SMALL = 0o7777777  # what a field of eight bytes holds
_LARGE = 0o77777777777  # what one of twelve holds


def render_member(member: TarMember) -> bytes:
    """Everything that stands before a member's content: pax header, header, map of holes.

    The content's bytes are those of `member.data`'s pieces when it has any; `padding` follows them.
    """
    if member.data is None:
        return _render_headers(member, _stored_size(member), {})
    table = render_map(member.data)
    records = {
        b"GNU.sparse.major": b"1",
        b"GNU.sparse.minor": b"0",
        b"GNU.sparse.name": member.name,
        b"GNU.sparse.realsize": b"%d" % member.size,
    }
    stand_in = replace(member, name=b"GNUSparseFile.0/" + member.name.rpartition(b"/")[2])
    return _render_headers(stand_in, len(table) + _stored_size(member), records) + table


def padding(member: TarMember) -> bytes:
    """What fills the content up to a whole block."""
    return bytes(-_stored_size(member) % BLOCK)


def _stored_size(member: TarMember) -> int:
    if member.kind != REGULAR:
        return 0
    return member.size if member.data is None else sum(length for _, length in member.data)


def _render_headers(member: TarMember, stored: int, records: dict[bytes, bytes]) -> bytes:
    name = member.name + b"/" if member.kind == FOLDER else member.name
    seconds = member.mtime // 10**9
    records = {
        **records,
        **_record_if(b"path", name, not _fits_header(name)),
        **_record_if(b"linkpath", member.link, not _fits_header(member.link)),
        **_record_if(b"size", b"%d" % stored, stored > _LARGE),
        **_record_if(b"uid", b"%d" % member.uid, member.uid > _SMALL),
        **_record_if(b"gid", b"%d" % member.gid, member.gid > _SMALL),
        **_record_if(b"mtime", b"%d" % seconds, not 0 <= seconds <= _LARGE),
        **{b"SCHILY.xattr." + key: value for key, value in member.xattrs.items()},
    }
    header = _render_header(replace(member, name=name), stored, seconds)
    return _render_pax(records, name) + header if records else header


def _record_if(key: bytes, value: bytes, wanted: bool) -> dict[bytes, bytes]:
    return {key: value} if wanted else {}


def _fits_header(name: bytes) -> bool:
    return len(name) <= _NAME and name.isascii()


def _render_pax(records: dict[bytes, bytes], name: bytes) -> bytes:
    body = b"".join(_render_record(key, value) for key, value in sorted(records.items()))
    short = b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2]
    described = TarMember(short, b"x", b"", len(body), 0o644, 0, 0, 0)
    return _render_header(described, len(body), 0) + body + bytes(-len(body) % BLOCK)


def _render_record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _render_header(member: TarMember, stored: int, seconds: int) -> bytes:
    head = b"".join(
        (
            _render_text(member.name),
            b"%07o\0" % member.mode,
            b"%07o\0" % (member.uid if member.uid <= _SMALL else 0),
            b"%07o\0" % (member.gid if member.gid <= _SMALL else 0),
            b"%011o\0" % (stored if stored <= _LARGE else 0),
            b"%011o\0" % (seconds if 0 <= seconds <= _LARGE else 0),
            b" " * 8,
            member.kind,
            _render_text(member.link),
            b"ustar\x0000",
            bytes(64),
            b"%07o\0%07o\0" % member.device,
            bytes(167),
        )
    )
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def _render_text(name: bytes) -> bytes:
    plain = name.decode("ascii", "replace").encode("ascii", "replace")
    return plain[:_NAME].ljust(_NAME, b"\0")
