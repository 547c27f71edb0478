"""Compact tables of digests do what a dictionary does."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from ocisync.bundles.blob_table import BlobEntry, BlobTable
from ocisync.content.digest_table import DigestTable, SizedBlobs
from ocisync.model.digest import Digest


def make_digest(number: int) -> Digest:
    name = "sha512" if number % 7 == 3 else "sha256"
    return Digest(f"{name}:{hashlib.new(name, str(number).encode()).hexdigest()}")


@given(st.lists(st.integers(0, 400), max_size=1000))
def test_a_table_is_an_ordered_set(numbers: list[int]) -> None:
    table, expected = DigestTable(), dict[Digest, int]()
    for number in numbers:
        digest = make_digest(number)
        assert table.add(digest) == expected.setdefault(digest, len(expected))
    assert list(table) == list(expected)
    for number in range(401):
        assert table.find(make_digest(number)) == expected.get(make_digest(number))


def test_a_sha512_digest_is_not_the_sha256_digest_that_it_begins_with() -> None:
    long = make_digest(3)
    short = Digest(f"sha256:{long.removeprefix('sha512:')[:64]}")
    for first, second in ((long, short), (short, long)):
        table = DigestTable([first])
        assert table.find(second) is None
        assert table.add(second) == 1
        assert list(table) == [first, second]


@given(st.dictionaries(st.integers(0, 400), st.integers(0, 9)))
def test_a_table_of_blobs_is_a_mapping(sizes: dict[int, int]) -> None:
    entries = {
        make_digest(number): BlobEntry(
            size, size % 3, (1, size) if size > 7 else (), "a-0001" * (size % 3 == 0), "t" * (size % 2)
        )
        for number, size in sizes.items()
    }
    table = BlobTable(entries)
    assert dict(table) == entries
    assert list(table) == list(entries)
    assert dict(table.sort()) == entries
    carried = [entry.size for entry in entries.values() if entry.volume]
    assert table.count_carried() == (len(carried), sum(carried))
    changed = BlobEntry(77, 0, (), "b-0002")
    for digest in list(entries)[::2]:
        table[digest] = entries[digest] = changed
    assert table == entries


def test_what_is_only_mentioned_has_no_size() -> None:
    blobs = SizedBlobs([(make_digest(1), 5)])
    number = blobs.mention(make_digest(2))
    assert blobs.size(make_digest(2)) is None
    assert blobs.note(make_digest(2), 7) == number
    assert blobs.note(make_digest(2), 8) == number
    assert [blobs.size(make_digest(one)) for one in (1, 2, 3)] == [5, 7, None]
