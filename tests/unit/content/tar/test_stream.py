"""Members as they are written and read again, by us and by the standard library."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.content.tar.headers import FOLDER, REGULAR
from ocisync.content.tar.member import TarMember
from ocisync.content.tar.stream import TarStream
from ocisync.content.tar.write import END, padding, render_member
from ocisync.errors import OcisyncError
from tests.unit.content.tar.tars import member, pax, tar

NAMES = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and not name.endswith(b"/"))
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=200)
ATTRIBUTES = st.dictionaries(
    st.text("abc.", min_size=1, max_size=5).map(str.encode), st.binary(max_size=50), max_size=3
)
MEMBERS = st.builds(
    TarMember,
    name=NAMES,
    kind=st.just(REGULAR),
    link=st.just(b""),
    size=st.just(0),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    mtime=st.integers(-(10**9), 10**11).map(lambda seconds: seconds * 10**9),
    xattrs=ATTRIBUTES,
)


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    """The same in chunks."""
    return (data[start : start + size] for start in range(0, len(data), size))


def read(data: bytes, size: int = 1000) -> list[tuple[TarMember, bytes]]:
    """Members with their stored content."""
    stream = TarStream(chunked(data, size))
    return [(found, b"".join(stream.read_content())) for found in stream]


def write(found: TarMember, content: bytes) -> bytes:
    """A member with its content."""
    found.size = len(content)
    return render_member(found) + content + padding(found)


@given(st.lists(st.tuples(MEMBERS, st.binary(max_size=2000)), max_size=4), st.integers(1, 3000))
def test_what_is_written_is_read_again(given_members: list[tuple[TarMember, bytes]], chunk: int) -> None:
    data = b"".join(write(found, content) for found, content in given_members) + END
    assert read(data, chunk) == given_members


@given(st.lists(TEXTS, min_size=1, max_size=4), st.binary(max_size=2000))
def test_the_standard_library_reads_it(names: list[str], content: bytes) -> None:
    members = [TarMember(name.encode(), REGULAR, b"", 0, 0o640, 5, 3_000_000, 7 * 10**9) for name in names]
    data = b"".join(write(found, content) for found in members) + END
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = archive.getmembers()
        bodies = [archive.extractfile(one).read() for one in found]  # type: ignore[union-attr]
    assert [one.name for one in found] == names
    assert {(one.mode, one.uid, one.gid, one.mtime) for one in found} == {(0o640, 5, 3_000_000, 7)}
    assert set(bodies) == {content}


def test_folders_and_devices() -> None:
    folder = TarMember(b"d" * 100, FOLDER, b"", 0, 0o755, 0, 0, 0)
    device = TarMember(b"null", b"3", b"", 0, 0o666, 0, 0, 0, device=(1, 300))
    data = render_member(folder) + render_member(device) + END
    assert [(one.name, one.device) for one, _ in read(data)] == [(b"d" * 100 + b"/", (0, 0)), (b"null", (1, 300))]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(one.name, one.isdir(), one.devminor) for one in archive] == [
            ("d" * 100, True, 0),
            ("null", False, 300),
        ]


@pytest.mark.parametrize("pieces", [((0, 512), (1000, 5), (2000, 0)), ((2000, 0),), ((3, 512), (1990, 10))])
def test_sparse_members(pieces: tuple[tuple[int, int], ...]) -> None:
    stored = sum(length for _, length in pieces)
    sparse = TarMember(b"a/holes", REGULAR, b"", 2000, 0o644, 0, 0, 0, data=pieces)
    data = render_member(sparse) + b"x" * stored + padding(sparse) + member("next") + END
    (found, content), (after, _) = read(data)
    assert (found.name, found.size, found.data, content) == (b"a/holes", 2000, pieces, b"x" * stored)
    assert after.name == b"next"
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        body = archive.extractfile("a/holes")
        assert body is not None
        read_back = body.read()
    assert len(read_back) == 2000
    assert read_back.count(b"x") == stored


def test_a_member_that_is_not_read_is_left_behind() -> None:
    data = tar(member("a", bytes(5000)), member("b", b"x"))
    assert [found.name for found in TarStream(chunked(data, 700))] == [b"a", b"b"]


def test_pax_says_more_than_the_header() -> None:
    said = {"path": "käse", "size": "3", "uid": "70000000", "mtime": "1.5", "SCHILY__xattr__user__a": "1"}
    found, content = read(tar(pax(**said), member("x", b"abc")))[0]
    assert (found.name, found.uid, found.mtime) == ("käse".encode(), 70_000_000, 1_500_000_000)
    assert (found.xattrs, content) == ({b"user.a": b"1"}, b"abc")


@given(st.data())
def test_no_damage_gets_through_as_another_kind_of_error(data: st.DataObject) -> None:
    whole = tar(pax(path="a", GNU__sparse__map="0,1", GNU__sparse__size="5"), member("x", b"x"), member("y", b"yy"))
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:position] + data.draw(st.binary(min_size=1, max_size=40)) + whole[position:]
    with suppress(OcisyncError):
        read(damaged[: data.draw(st.integers(0, len(damaged)))])
