"""Heads and bodies of answers that nobody means well with."""

import http.client
import time

import pytest

from ocisync.content.transfer.http_head import decode_body, parse_head, split_head

CHUNKED = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"f" * 40 + b"\r\nwhy",  # more than memory can be
        b"7fffffffffffffff\r\nwhy",
        b"-5\r\nwhy",
        b"no number\r\nwhy",
        b"5\r\nwhy",
        b"0\r\nA: b",
        b"",
    ],
)
def test_chunks_that_lie_cost_the_words_only(body: bytes) -> None:
    assert decode_body(CHUNKED, body, "GET") in (b"", b"why")


def test_interim_answers_are_skipped() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert split_head(interim * 3) is None
    assert split_head(interim * 3 + b"HTTP/1.1 200 OK\r\n\r\nbody") == (b"HTTP/1.1 200 OK\r\n\r\n", b"body")


def test_interim_answers_without_an_end_cost_linear_time() -> None:
    """They are looked at again with every piece that comes: copying them would hold the event loop for seconds."""
    few, many = (_seconds(b"HTTP/1.1 100 C\r\n\r\n" * count) for count in (300, 30_000))
    assert many < few * 100 * 10


def _seconds(received: bytes) -> float:
    tries = []
    for _ in range(3):
        began = time.process_time()
        assert split_head(received) is None
        tries.append(time.process_time() - began)
    return min(tries)


MANY = b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200


@pytest.mark.parametrize("raw", [b"HTTP/2 200 OK\r\n\r\n", b"HTTP/1.1 99999 OK\r\n\r\n", b"\r\n\r\n", MANY])
def test_what_is_no_head_is_said_so(raw: bytes) -> None:
    with pytest.raises(http.client.HTTPException):
        parse_head(raw, "GET")


@pytest.mark.parametrize("length", ["-5", "five", "9" * 5000])
def test_a_length_that_is_none_is_not_known(length: str) -> None:
    head = parse_head(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode(), "GET")
    assert (head.length, head.keeps_open) == (None, False)
