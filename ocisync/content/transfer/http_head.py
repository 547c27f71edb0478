"""The heads of HTTP messages, as the standard library writes and reads them; bodies are moved by others. Pure.

Spec: RFC 9112, "Message Format" and "Message Body Length".
"""

from __future__ import annotations

import http.client
import io
import re
from collections.abc import Mapping
from typing import NamedTuple

from multidict import CIMultiDict, CIMultiDictProxy

LONGEST = 64 * 1024  # bytes of a head; signed URLs are long
_END = re.compile(rb"\r?\n\r?\n")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d")


class Head(NamedTuple):
    """What an answer says before its body."""

    status: int
    headers: CIMultiDictProxy[str]
    length: int | None  # bytes of the body; None: that is known only at its end
    keeps_open: bool  # whether the connection can be used again after the body
    raw: bytes


def render_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """A request's head; raises ValueError when something in it must not be sent."""
    writer = _HeadWriter("unused")
    writer.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        writer.putheader(name, value)
    writer.endheaders()
    return bytes(writer.written)


def split_head(received: bytes) -> tuple[bytes, bytes] | None:
    """A head and what came behind it, interim answers (status 1xx) left out; None when it is not whole yet."""
    start = 0
    while (end := _END.search(received, start)) is not None:
        if not _INTERIM.match(received, start):
            return received[start : end.end()], received[end.end() :]
        start = end.end()
    return None


def parse_head(raw: bytes, method: str) -> Head:
    """What a head says; raises http.client.HTTPException when it is none."""
    answer = http.client.HTTPResponse(_HeadBytes(raw), method=method)  # type: ignore[arg-type]  # asks for no more than that
    answer.begin()
    headers = CIMultiDictProxy(CIMultiDict((name, value.strip()) for name, value in answer.headers.items()))
    length = None if answer.chunked else answer.length
    return Head(answer.status, headers, length, not answer.will_close, raw)


def decode_body(raw: bytes, body: bytes, method: str) -> bytes:
    """As much of a body as came, out of its chunks where it was sent in chunks."""
    answer = http.client.HTTPResponse(_HeadBytes(raw + body), method=method)  # type: ignore[arg-type]  # as above
    answer.begin()
    try:
        return answer.read()
    except http.client.IncompleteRead as exc:
        return exc.partial
    except OverflowError:  # a chunk is said to be larger than memory can be
        return b""


class _HeadWriter(http.client.HTTPConnection):
    """Keeps what it would send."""

    written = b""

    def send(self, data: object) -> None:
        """Keep it."""
        assert isinstance(data, bytes), "heads are bytes"
        self.written += data


class _HeadBytes(NamedTuple):
    """What an HTTPResponse takes for a socket."""

    data: bytes

    def makefile(self, mode: str) -> io.BufferedReader:
        """A file of the bytes."""
        del mode
        return io.BytesIO(self.data)  # type: ignore[return-value]  # it is as good
