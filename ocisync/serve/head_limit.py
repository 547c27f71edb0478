"""A bound on the heads of requests: on each, and on what comes of one that never ends.

aiohttp bounds each header and their number, which together allow a third of a MiB; as objects a head takes several
times its bytes, a connection may have three of them in memory, and there are thousands of connections.
"""

from __future__ import annotations

from typing import Any

from aiohttp import EMPTY_PAYLOAD, web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.web_protocol import _ErrInfo

HEAD = 32 * 1024  # bytes; nginx and other servers in front of this one allow as much


def limit_heads(connection: web.RequestHandler) -> None:
    """Let a connection refuse requests whose head is too long: with 431, and then it is closed (RFC 6585, 5).

    aiohttp has no place to say so: what it parses requests with is changed, which the tests watch.
    """
    connection._parser = _HeadLimit(connection._parser)  # type: ignore[assignment]


class _HeadLimit:
    """aiohttp's parser of one connection's requests, with a bound."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self._body: Any = None  # of the last request; None: there was none
        self._unfinished = 0  # bytes of a head that has not ended
        self._is_refused = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]:
        """Parse what came; in place of a head that is too long stands an error, which aiohttp answers with.

        It is not raised: the traceback would keep all that was parsed until the garbage collector comes by.
        """
        if self._is_refused:
            return (), False, b""
        is_in_body = self._body is not None and not self._body.is_eof()
        messages, is_upgraded, rest = self._parser.feed_data(data)
        if messages:
            self._unfinished = 0
            self._body = messages[-1][1]
        elif not is_in_body:
            self._unfinished += len(data)
        if self._unfinished <= HEAD and all(_measure(message) <= HEAD for message, _ in messages):
            return messages, is_upgraded, rest
        self._is_refused = True
        error = BadHttpMessage(f"the head of the request is longer than {HEAD} bytes")
        return [(_ErrInfo(431, error, f"{error.message}\n"), EMPTY_PAYLOAD)], False, b""


def _measure(message: Any) -> int:
    return len(message.path) + sum(len(name) + len(value) for name, value in message.raw_headers)
