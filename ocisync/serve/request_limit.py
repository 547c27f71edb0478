"""Bounds on what requests are made of: their heads, and what a body has beside its bytes.

aiohttp bounds each header and their number, which together allow a third of a MiB; as objects a head takes several
times its bytes, a connection may have two of them in memory, and there are thousands of connections. Nor does it
bound heads without an end, or chunks of one byte each: these take forty times their size in memory, and hold up the
event loop for as long as all that came is parsed. Nobody needs a secret to send them.
"""

from __future__ import annotations

from typing import Any

from aiohttp import EMPTY_PAYLOAD, web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.web_protocol import _ErrInfo

HEAD = 32 * 1024  # bytes; nginx and other servers in front of this one allow as much
FRAMING = 8 * 1024  # bytes of a body's chunk sizes, extensions and trailers; an eighth of the body comes on top
PIPELINED = 1  # requests of a connection that wait, parsed, for the one before: each may take 64 KiB; aiohttp takes 32
_SLICE = 4 * 1024  # bytes that are parsed before the bounds are looked at


def limit_requests(connection: web.RequestHandler) -> None:
    """Let a connection refuse requests that are out of bounds.

    A head that is too long is answered with 431, and then the connection is closed (RFC 6585, 5). A body with too much
    beside its bytes ends the connection without an answer. aiohttp has no place to say so: what it parses requests with
    is changed, which the tests watch.
    """
    connection._parser = _RequestLimit(connection, connection._parser)  # type: ignore[assignment]


class _RequestLimit:
    """aiohttp's parser of one connection's requests, with bounds."""

    def __init__(self, connection: web.RequestHandler, parser: Any) -> None:
        self._connection = connection
        self._parser = parser
        self._rest = b""  # what came while requests were waiting
        self._waiting = 0  # requests
        self._unfinished = 0  # bytes of a head that has not ended
        self._body: Any = EMPTY_PAYLOAD  # of the last request
        self._received = 0  # bytes of that body, with what is beside them
        self._is_refused = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def message_consumed(self) -> None:
        """aiohttp has taken a request."""
        self._waiting -= 1
        self._parser.message_consumed()

    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]:
        """Parse what came, slice by slice, as long as no request waits and the body is taken; aiohttp asks again.

        In place of a head that is too long stands an error, which aiohttp answers with. It is not raised: the traceback
        would keep all that was parsed until the garbage collector comes by.
        """
        data, self._rest = self._rest + data, b""
        found: list[tuple[Any, Any]] = []
        start = 0
        while not self._is_refused and self._waiting < PIPELINED:
            piece = data[start : start + _SLICE]
            start += len(piece)
            is_in_body = not self._body.is_eof()
            messages, is_upgraded, rest = self._parser.feed_data(piece)
            self._waiting += len(messages)
            if is_upgraded:
                return [*found, *messages], True, rest + data[start:]
            found += self._check_heads(messages, 0 if is_in_body else len(piece))
            if is_in_body and not messages and self._is_body_refused(len(piece)):
                return (), False, b""  # its body leads back to the connection: nothing may hold it when that is gone
            if self._connection._reading_paused:  # its body is not taken; aiohttp's parser would give it all the same
                break
            has_ended = bool(messages) or (is_in_body and self._body.is_eof())
            if start >= len(data) and not has_ended:  # after a request the parser may keep some, and wait to be asked
                break
        if not self._is_refused:
            self._rest = data[start:]
        return found, False, b""

    def _check_heads(self, messages: Any, size: int) -> Any:
        if messages:
            self._unfinished, self._received, self._body = 0, 0, messages[-1][1]
        else:
            self._unfinished += size
        if self._unfinished <= HEAD and all(_measure(message) <= HEAD for message, _ in messages):
            return messages
        self._is_refused = True
        error = BadHttpMessage(f"the head of the request is longer than {HEAD} bytes")
        return [(_ErrInfo(431, error, f"{error.message}\n"), EMPTY_PAYLOAD)]

    def _is_body_refused(self, size: int) -> bool:
        self._received += size
        if self._body.is_eof() or self._received <= FRAMING + self._body.total_bytes * 9 // 8:
            return False
        self._is_refused, self._body = True, EMPTY_PAYLOAD
        self._connection.force_close()
        if self._connection.transport is not None:
            self._connection.transport.abort()
        return True


def _measure(message: Any) -> int:
    return len(message.path) + sum(len(name) + len(value) for name, value in message.raw_headers)
