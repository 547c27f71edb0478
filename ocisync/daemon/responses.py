"""How the daemon's pages answer, and how they compare secrets."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_NO_TOKEN = (
    "nothing can be changed over HTTP, because the configuration sets no token: give daemon.token "
    "({env: NAME} or {file: PATH}) and send it as Authorization: Bearer TOKEN\n"
)

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


def text_answer(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Plain text."""
    return web.Response(status=status, text=text, content_type="text/plain", headers=HEADERS | dict(headers or {}))


def json_answer(document: Mapping[str, object], status: int = 200) -> web.Response:
    """A JSON document."""
    return web.json_response(document, status=status, headers=HEADERS)


def constant_time_equal(given: str, secret: str) -> bool:
    """Whether what was given is the secret; how long it takes tells nothing of it, not even its length."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, secret))
    return bool(secret) and hmac.compare_digest(*digests)


def require_token(page: Page, token: str | None) -> Page:
    """The page for those who know the token."""

    async def check(request: web.Request) -> web.StreamResponse:
        if not token:
            return text_answer(403, _NO_TOKEN)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not constant_time_equal(given.strip(), token):
            return text_answer(401, "a token is needed: Authorization: Bearer TOKEN\n", {"WWW-Authenticate": "Bearer"})
        return await page(request)

    return check
