"""Durations, sizes and addresses."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.config.parsers import (
    BYTES,
    SECONDS,
    Address,
    format_duration,
    format_size,
    parse_address,
    parse_duration,
    parse_mail_server,
    parse_retention,
    parse_size,
)

YEAR_MS = 365 * 24 * 3600 * 1000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("60m", 3600),
        ("24h", 86400),
        ("7d", 604800),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("0", 0),
        ("1.5s", 1.5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "10 s", "-1s", "1y", "1:30", "1s\n", "١s", "1e3s", "99999w", "1h30"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"Write a (number|shorter)"):
        parse_duration(text)


@given(st.integers(0, YEAR_MS))
def test_a_formatted_duration_reads_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(sorted(SECONDS))), min_size=1, max_size=4))
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert parse_duration(text) == pytest.approx(sum(number * SECONDS[unit] for number, unit in parts))


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_clear_error(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except ValueError as exc:
        assert "Write a" in str(exc)  # noqa: PT017


def test_retention_may_be_for_ever() -> None:
    assert parse_retention("forever") == math.inf
    assert format_duration(math.inf) == "forever"
    assert parse_retention("7d") == 604800


@given(st.integers(0, 1 << 49))
def test_a_formatted_size_reads_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 9999), st.sampled_from(sorted(BYTES)))
def test_sizes(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * BYTES[unit]
    assert parse_size(f"{number} {unit}".rstrip()) == number * BYTES[unit]


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1 MiBs", "1mib", "1.5.5K", "1\n", "1e9"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="Write a number"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
    ],
)
def test_addresses_read_back(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text
    assert address.is_loopback


@pytest.mark.parametrize("text", [":80", "host", "host:", "host:65536", "::1:80", "a b:80", "http://h:80", "h:８０"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="Write"):
        parse_address(text)


def test_all_interfaces_are_not_loopback() -> None:
    assert not parse_address("0.0.0.0:8080").is_loopback


def test_a_mail_server_is_named_with_its_port() -> None:
    assert parse_mail_server("smtp.example.com:587") == Address("smtp.example.com", 587)
    assert parse_mail_server("[::1]:25") == Address("::1", 25)
    for text in ("smtp.example.com", "smtp.example.com:", "smtp.example.com:0", "smtp.example.com:99999", ":25", ""):
        with pytest.raises(ValueError, match=r"not an address of a mail server\. Write host:port, such as smtp"):
            parse_mail_server(text)
