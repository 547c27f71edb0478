"""The daemon's own pages: health, readiness, metrics, status, and the one request that changes something."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from ocisync.daemon.metrics import CONTENT_TYPE, Metrics
from ocisync.daemon.rules import RuleStatus

_PLAIN = "text/plain"
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_NO_TOKEN = (
    "nothing can be changed over HTTP, because the configuration sets no token: give daemon.token "
    "({env: NAME} or {file: PATH}) and send it as Authorization: Bearer TOKEN\n"
)

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HealthView(Protocol):
    """What the pages show of the daemon. Nothing here waits for a network or a disk."""

    def not_ready(self) -> Sequence[str]:
        """Why the daemon cannot be relied on now, such as that it starts or drains; empty when it can."""
        ...

    def status(self) -> Mapping[str, object]:
        """Rules and queue as a document for JSON; no secret is in it."""
        ...

    def rule_statuses(self) -> Mapping[str, RuleStatus]:
        """How every rule fares, for the metrics."""
        ...

    def trigger(self, rule: str) -> bool:
        """Make a rule run now; False when there is none of that name."""
        ...


def daemon_app(
    health: HealthView, metrics: Metrics, extra_routes: Iterable[web.AbstractRouteDef] = (), *, token: str | None = None
) -> web.Application:
    """The daemon's application; `extra_routes` are the registry's, where the daemon serves one."""
    app = web.Application(middlewares=[_plain_errors])
    pages = _Pages(health, metrics)
    app.add_routes(
        [
            web.get("/healthz", pages.healthz),
            web.get("/readyz", pages.readyz),
            web.get("/metrics", pages.metrics),
            web.get("/v1/status", pages.status),
            web.post("/v1/sync/{rule:.+}", _guarded(pages.sync, token)),
            *extra_routes,
        ]
    )
    return app


class _Pages:
    def __init__(self, health: HealthView, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    async def healthz(self, _: web.Request) -> web.Response:
        """200 while the event loop lives."""
        return _text(200, "ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        """200, or 503 with the reasons."""
        reasons = list(self._health.not_ready())
        return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        """A page for Prometheus."""
        for rule, status in self._health.rule_statuses().items():
            self._metrics.observe_rule(rule, status)
        return web.Response(body=self._metrics.render(), headers=_HEADERS | {"Content-Type": CONTENT_TYPE})

    async def status(self, _: web.Request) -> web.Response:
        """How rules and queue fare."""
        return _json(self._health.status())

    async def sync(self, request: web.Request) -> web.Response:
        """Trigger a rule."""
        rule = request.match_info["rule"]
        if not self._health.trigger(rule):
            return _text(404, f"there is no rule named {rule[:200]!r}; GET /v1/status lists them\n")
        return _json({"rule": rule, "triggered": True}, 202)


def _guarded(page: Page, token: str | None) -> Page:
    """The page for those who know the token; compared in constant time."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if not token:
            return _text(403, _NO_TOKEN)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
        if scheme.lower() != "bearer" or not is_right:
            return _text(401, "a token is needed: Authorization: Bearer TOKEN\n", {"WWW-Authenticate": "Bearer"})
        return await page(request)

    return guarded


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _text(error.status, f"{error.status} {error.reason}\n", allow)


def _text(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text, content_type=_PLAIN, headers=_HEADERS | dict(headers or {}))


def _json(document: Mapping[str, object], status: int = 200) -> web.Response:
    return web.json_response(document, status=status, headers=_HEADERS)
