"""How the daemon's pages answer, and how they compare secrets."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import web

from ocisync.logs import clean, clean_document

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # they are no pages, whatever they quote
    "X-Content-Type-Options": "nosniff",
}
_NO_TOKEN = (
    "nothing can be changed over HTTP, because the configuration sets no token: give daemon.token "
    "({env: NAME} or {file: PATH}) and send it as Authorization: Bearer TOKEN\n"
)

MOST_REFUSALS = 10  # lines
REFUSAL_PERIOD = 60.0  # seconds

log = structlog.get_logger(__name__)

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


def text_answer(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Plain text, cleaned: it may quote what others wrote."""
    return web.Response(
        status=status, text=clean(text), content_type="text/plain", headers=HEADERS | dict(headers or {})
    )


def json_answer(document: Mapping[str, object], status: int = 200) -> web.Response:
    """A JSON document, cleaned as the log is: it ends on terminals."""
    return web.json_response(clean_document(document), status=status, headers=HEADERS)


def constant_time_equal(given: str, secret: str) -> bool:
    """Whether what was given is the secret; how long it takes tells nothing of it, not even its length."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, secret))
    return bool(secret) and hmac.compare_digest(*digests)


class RefusalLog:
    """Logs what was refused, at most `MOST_REFUSALS` lines in `REFUSAL_PERIOD`.

    Who guesses secrets leaves a trace, and cannot fill the disk with it; what was not logged is counted in the next
    line.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._since = -math.inf  # when the period began
        self._logged = 0
        self._not_logged = 0

    def log(self, event: str, **facts: object) -> None:
        """One refusal."""
        if self._monotonic() - self._since >= REFUSAL_PERIOD:
            self._since, self._logged = self._monotonic(), 0
        if self._logged >= MOST_REFUSALS:
            self._not_logged += 1
            return
        missed = {"not_logged": self._not_logged} if self._not_logged else {}
        log.warning(event, **facts, **missed)
        self._logged, self._not_logged = self._logged + 1, 0


def require_token(page: Page, token: str | None, refusals: RefusalLog) -> Page:
    """The page for those who know the token."""

    async def check(request: web.Request) -> web.StreamResponse:
        if not token:
            return text_answer(403, _NO_TOKEN)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not constant_time_equal(given.strip(), token):
            refusals.log("token.refused", remote=request.remote, path=request.rel_url.raw_path[:100])
            return text_answer(401, "a token is needed: Authorization: Bearer TOKEN\n", {"WWW-Authenticate": "Bearer"})
        return await page(request)

    return check
