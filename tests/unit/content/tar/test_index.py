"""The tar index: what valid archives hold, and what hostile ones must not do."""

from __future__ import annotations

import io
import tarfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocisync.content.tar.index import TarLimits
from ocisync.errors import ArchiveError, LimitExceeded

from .tars import END, Memory, by_tarfile, content, drain, index, member, pax, tar

_PART = st.text(st.characters(exclude_characters="/\0.", exclude_categories=["Cs"]), min_size=1, max_size=60)
_NAMES = st.lists(_PART, min_size=1, max_size=6).map("/".join)
_FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@settings(deadline=None)
@given(st.dictionaries(_NAMES, st.binary(max_size=1500), max_size=8), _FORMATS)
def test_valid_archives_read_as_tarfile_reads_them(files: dict[str, bytes], form: int) -> None:
    try:
        data = by_tarfile(files, form)
    except ValueError:  # too long for ustar
        return
    if not files:
        data = by_tarfile({"one": b""}, form)
        files = {"one": b""}
    found = index(data)
    assert set(found) == set(files)
    assert {name: content(found, name) for name in files} == files


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=3000), st.integers(0, 2000), st.integers(0, 2000))
def test_fault_65_any_damage_ends_in_an_archive_error(noise: bytes, start: int, length: int) -> None:
    good = by_tarfile({"manifest.json": b"[]" * 300, "layer.tar": b"x" * 900})
    data = good[:start] + noise + good[start + length :]
    try:
        found = index(data)
        for name in found:
            content(found, name)
    except (ArchiveError, LimitExceeded):
        return


def test_fault_65_truncated_at_any_byte() -> None:
    files = {f"{n}/layer.tar": bytes([n]) * (400 * n) for n in range(1, 5)}
    data = by_tarfile(files)[: sum(512 + -(-len(body) // 512) * 512 for body in files.values())]
    ends = []
    position = 0
    for body in files.values():
        ends.append((position, position + 512 + len(body)))
        position += 512 + -(-len(body) // 512) * 512
    for cut in range(len(data)):
        inside = [start for start, end in ends if start < cut < end]
        if inside or cut == 0:
            with pytest.raises(ArchiveError):
                index(data[:cut])
        else:
            assert list(index(data[:cut])) == [name for name, (_, end) in zip(files, ends, strict=True) if end <= cut]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"not a tar" * 100, "not a tar"),
        (END, "empty"),
        (member("a", b"x") + bytes(512) + member("b", b"y") + END, "follow an empty header"),
        (member("a", b"x") + b"\xff" * 512 + END, "corrupt"),
    ],
)
def test_fault_65_garbage(data: bytes, says: str) -> None:
    with pytest.raises(ArchiveError, match=says) as caught:
        index(data)
    assert caught.value.code == "archive.invalid"


@pytest.mark.parametrize(
    "size",
    [
        b"\xff" * 11 + b"\x00",  # base-256, negative
        b"\xff" * 12,
        b"-0000000010",
        b"\x80" + b"\xff" * 11,  # base-256, 2^88
        b"0x000000010",
        b"1_000",
        b"77777777777",
    ],
)
def test_fault_66_negative_and_absurd_sizes_end_at_once(size: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(ArchiveError):
        index(tar(member("a", b"", size=size), member("b", b"x")))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("size", ["-1", "-512", "99999999999999999999", "1e3", "", "0x10"])
def test_fault_66_negative_and_absurd_pax_sizes(size: str) -> None:
    with pytest.raises(ArchiveError):
        index(tar(pax(size=size), member("a", b"x")))


def test_fault_66_sparse_bomb_costs_nothing_and_is_no_layer() -> None:
    bomb = pax(GNU__sparse__major="0", GNU__sparse__minor="1", GNU__sparse__map="0,1," * 4000, size="0")
    found = index(tar(bomb, member("layer.tar"), member("manifest.json", b"[]")))
    assert content(found, "manifest.json") == b"[]"
    with pytest.raises(ArchiveError, match="sparse"):
        found.find("layer.tar")


def test_gnu_sparse_members_are_stepped_over() -> None:
    header = bytearray(member("holes", b"", kind=b"S"))
    header[482] = 1  # one more block of the map follows
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    found = index(bytes(header) + bytes(512) + tar(member("after", b"x")))
    assert content(found, "after") == b"x"


def test_fault_68_pax_size_wins() -> None:
    body = b"x" * 700
    padded = body + bytes(-len(body) % 512)
    lying = member("layer.tar", b"", size=b"00000000003")
    data = tar(pax(size="700"), lying + padded, member("after", b"y"))
    found = index(data)
    assert content(found, "layer.tar") == body
    assert content(found, "after") == b"y"
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getmember("layer.tar").size == 700


def test_global_pax_headers_may_not_resize_members() -> None:
    everything = member("global", b"11 size=10\n", kind=b"g")
    with pytest.raises(ArchiveError, match="global"):
        index(tar(everything, member("a", b"x")))
    assert set(index(tar(member("global", b"15 comment=abc\n", kind=b"g"), member("a", b"x")))) == {"a"}


@pytest.mark.parametrize(
    "other",
    [
        member("./manifest.json", b"[2]"),
        member("/manifest.json", b"[1]longer"),
        member("manifest.json", kind=b"2", link="other"),
        member("manifest.json", kind=b"1", link="other"),
    ],
)
def test_fault_69_two_members_of_one_name(other: bytes) -> None:
    with pytest.raises(ArchiveError, match="twice"):
        index(tar(member("manifest.json", b"[1]"), other))
    with pytest.raises(ArchiveError, match="twice"):
        index(tar(other, member("manifest.json", b"[1]")))


def test_fault_69_equal_duplicates_are_one() -> None:
    found = index(tar(member("a", b"same"), member("./a", b"same"), member("l", kind=b"2", link="a")))
    assert len(found) == 2
    assert content(found, "l") == b"same"


@pytest.mark.parametrize("name", ["../etc/passwd", "a/../../etc/passwd", "out", "deep/out", "loop1", "through/../../x"])
def test_fault_70_names_and_links_stay_inside(name: str) -> None:
    found = index(
        tar(
            member("out", kind=b"2", link="../../etc/passwd"),
            member("deep/out", kind=b"2", link="../../x"),
            member("loop1", kind=b"2", link="loop2"),
            member("loop2", kind=b"2", link="loop1"),
            member("through", kind=b"2", link="/"),
        )
    )
    with pytest.raises(ArchiveError, match=r"leads out|loop"):
        found.find(name)


@pytest.mark.parametrize(
    "name", ["layer", "/layer", "./layer", "abs", "one/layer.tar", "two/layer.tar", "hard", "folder/layer.tar"]
)
def test_fault_77_links_within_the_archive(name: str) -> None:
    found = index(
        tar(
            member("layer", b"bytes"),
            member("abs", kind=b"2", link="/layer"),
            member("one/layer.tar", kind=b"2", link="../layer"),
            member("two/layer.tar", kind=b"2", link="../one/layer.tar"),
            member("hard", kind=b"1", link="./layer"),
            member("folder", kind=b"2", link="one"),
        )
    )
    assert content(found, name) == b"bytes"


def test_fault_77_odd_but_real_members() -> None:
    found = index(
        tar(
            member("./", kind=b"5"),
            member("./manifest.json", b"[]"),
            member("/kaniko/layer.tar", b"x"),
            member("../evil", b"never used"),
            member("//a//b/./c", b"y"),
        )
    )
    assert set(found) == {"manifest.json", "kaniko/layer.tar", "a/b/c"}
    assert ["evil" in warning for warning in found.warnings] == [True]


def test_old_and_foreign_headers() -> None:
    v7 = bytearray(member("old", b"x"))
    v7[156:157] = b"\0"
    v7[257:265] = bytes(8)
    v7[148:156] = b" " * 8
    v7[148:156] = b"%06o\0 " % sum(v7[:512])
    assert content(index(tar(bytes(v7))), "old") == b"x"


def test_caps_on_members_and_names() -> None:
    with pytest.raises(LimitExceeded, match="members"):
        index(tar(*(member(f"{n}") for n in range(11))), TarLimits(members=10))
    with pytest.raises(LimitExceeded, match="names"):
        index(tar(*(member(f"{n}" * 50) for n in range(9))), TarLimits(names=100))
    with pytest.raises(LimitExceeded, match="4096"):
        index(tar(pax(path="x" * 5000), member("a")))
    with pytest.raises(LimitExceeded, match="extension"):
        index(tar(*(pax(comment="x") for _ in range(50)), member("a")), TarLimits(members=10))


def test_three_hundred_thousand_entries() -> None:
    one = member("0000000", b"x")
    parts = []
    for number in range(300_000):
        name = b"%07d" % number
        checksum = sum(one[:148]) + sum(one[156:512]) + 256 - sum(one[:7]) + sum(name)
        parts.append(name + one[7:148] + b"%06o\0 " % checksum + one[156:])
    began = time.monotonic()
    found = index(b"".join(parts) + END)
    assert len(found) == 300_000
    assert content(found, "0299999") == b"x"
    assert time.monotonic() - began < 30


def test_indexing_pauses_so_that_it_can_be_cancelled() -> None:
    from ocisync.content.tar.index import index_tar

    steps = index_tar(Memory(tar(*(member(f"{n}") for n in range(20_001)))))
    next(steps)
    assert len(drain(steps)) == 20_001
