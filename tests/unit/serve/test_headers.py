"""If-None-Match, If-Range and Range."""

import pytest

from ocisync.serve.headers import ByteRange, Unsatisfiable, etag_of, http_date, is_match, wanted_range

ETAG = '"sha256:abc"'


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (None, False),
        (ETAG, True),
        ("sha256:abc", True),
        (f"W/{ETAG}", True),
        (f'"other", {ETAG}', True),
        ("*", True),
        ('"sha256:abcd"', False),
        ("", False),
    ],
)
def test_if_none_match(header: str | None, *, matches: bool) -> None:
    assert is_match(header, ETAG) is matches


def test_a_file_whose_date_is_none_is_served_without_it() -> None:
    assert http_date(784111777.0) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert [http_date(seconds) for seconds in (0.0, 253_402_351_199.0, 1e18)] == [""] * 3


def test_an_etag_is_quoted() -> None:
    assert etag_of("sha256:abc") == ETAG


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-3", ByteRange(0, 4)),
        ("bytes=5-5", ByteRange(5, 1)),
        ("bytes=4-", ByteRange(4, 6)),
        ("bytes=4-100", ByteRange(4, 6)),
        ("bytes=-3", ByteRange(7, 3)),
        ("bytes=-100", ByteRange(0, 10)),
        ("Bytes= 1-2 ", ByteRange(1, 2)),
        ("bytes=3-1", None),
        ("bytes=0-1,4-5", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("items=0-1", None),
        ("0-1", None),
        ("bytes=0-" + "9" * 30, None),
    ],
)
def test_a_range_of_ten_bytes(header: str | None, expected: ByteRange | None) -> None:
    assert wanted_range(header, None, ETAG, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-11", "bytes=-0"])
def test_a_range_beyond_the_end_is_unsatisfiable(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        wanted_range(header, None, ETAG, 10)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1"])
def test_nothing_of_an_empty_body_can_be_ranged(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        wanted_range(header, None, ETAG, 0)


@pytest.mark.parametrize(
    ("if_range", "expected"),
    [(ETAG, ByteRange(0, 2)), ('"other"', None), (f"W/{ETAG}", None), ("Wed, 21 Oct 2015 07:28:00 GMT", None)],
)
def test_if_range_needs_the_strong_etag(if_range: str, expected: ByteRange | None) -> None:
    assert wanted_range("bytes=0-1", if_range, ETAG, 10) == expected


def test_content_range() -> None:
    assert ByteRange(2, 3).content_range(10) == "bytes 2-4/10"
