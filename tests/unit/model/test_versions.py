"""Versions in their order, and ranges of them as tables."""

from __future__ import annotations

import itertools

import pytest

from ocisync.errors import InvalidName
from ocisync.model.versions import parse_range, parse_version

ORDERED = [
    "0.9", "1.0-alpha", "1.0-alpha.1", "1.0-beta2", "1.0-rc.2", "1.0-rc9", "1.0-rc10", "v1.0.0", "1.0.1", "1.2",
    "1.10", "2-alpine", "2", "10.0.17763.1", "10.0.17763.20", "20.04", "2024.01.05",
]  # fmt: skip


def test_versions_in_their_order() -> None:
    versions = [parse_version(text) for text in ORDERED]
    assert None not in versions
    for one, other in itertools.combinations(versions, 2):
        assert one is not None
        assert other is not None
        assert one < other
        assert not other < one


@pytest.mark.parametrize(("one", "other"), [("1.2", "v1.2.0"), ("1", "1.0.0.0"), ("1-rc1", "1.0-rc.1"), ("3", "03")])
def test_spellings_of_the_same_version(one: str, other: str) -> None:
    assert parse_version(one) == parse_version(other)
    assert hash(parse_version(one)) == hash(parse_version(other))


@pytest.mark.parametrize("text", ["latest", "", "v", "3f2a91c", "1..2", "1.2-", "sha256-00", "alpine3.18", "٣.1"])
def test_what_is_no_version(text: str) -> None:
    assert parse_version(text) is None


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=3.5 <4", "3.5 3.5.0 3.99.1", "3.4.9 4 4.0.1 3.6-rc1 4.0-rc1 latest"),
        (">=3.5, <4", "3.5 v3.6", "4"),
        (">3.5", "3.6 4", "3.5 3.5.9"),  # 3.5 stands for all of 3.5.x
        ("<=3.5", "3.5.9 3 1", "3.6"),
        ("3.5", "3.5 3.5.9", "3.6 3.4"),
        ("=3.5.1", "3.5.1 v3.5.1", "3.5 3.5.1.1"),
        ("!=3.5", "3.4 3.6", "3.5.2"),
        ("1.x || 3.x", "1.0 1.9 3", "2.0 4"),
        ("1.2.x", "1.2.0 1.2.9", "1.3.0"),
        ("*", "0.1 99", "1-rc1 latest"),
        ("^1.2", "1.2 1.9.9", "1.1 2.0"),
        ("^0.2.3", "0.2.3 0.2.9", "0.2.2 0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3"),
        ("~1", "1.0 1.9", "2"),
        ("~> 1.2", "1.2 1.2.7", "1.3"),
        ("1.2 - 1.4.5", "1.2.0 1.4.5 1.3", "1.4.6 1.1"),
        (">=1.2-0", "1.2-rc1 1.2 2.0-beta", "1.1"),
        (">=1.2-0 <2", "1.2-rc1 1.2 1.9-beta", "1.1 2.0-beta 2.0"),
        (">= 3.5 < 4", "3.5", "4"),
        ("=> 2 =< 3", "2 3.9", "4 1"),
        ("v2", "2.1", "3"),
        (">=1.2.3.4", "1.2.3.4 1.2.4", "1.2.3.3"),
    ],
)
def test_ranges(text: str, inside: str, outside: str) -> None:
    found = parse_range(text)
    assert [one for one in inside.split() if not found.admits(parse_version(one))] == []
    assert [one for one in outside.split() if found.admits(parse_version(one))] == []
    assert str(found) == text


@pytest.mark.parametrize("text", ["", "||", "latest", ">=", ">=1 foo", ">>1", "1..2", ">=1 | <2", "^", "1.2 -"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(InvalidName, match="not a range of versions"):
        parse_range(text)
