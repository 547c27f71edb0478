"""The daemon's own pages: health, readiness, metrics, status, and what people and registries ask it to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, cast

import anyio
import anyio.to_thread
from aiohttp import web
from aiohttp.typedefs import Handler

from ocisync.daemon.metrics import CONTENT_TYPE, Metrics
from ocisync.daemon.responses import HEADERS, Page, RefusalLog, json_answer, require_token, text_answer
from ocisync.daemon.status.page import StatusPage
from ocisync.daemon.status.snapshot import Snapshot, as_document
from ocisync.daemon.webhooks.receiver import MAX_BODY, WebhookPage, WebhookReceiver
from ocisync.errors import StoreError
from ocisync.model.text.outside_json import load_json
from ocisync.state.rule_records import RuleView

_EXPECTED = (
    'expected nothing, or JSON: {"rule": "NAME"}, with a "tag", a "repository" or both if not all of it is meant'
)


class HealthView(WebhookReceiver, Protocol):
    """What the pages show of the daemon, and tell it. Nothing here waits for a network."""

    async def snapshot(self) -> Snapshot:
        """The daemon now; no secret is in it."""
        ...

    def rule_views(self) -> Mapping[str, RuleView]:
        """How every rule fares, for the metrics."""
        ...

    def failed_parts(self) -> Sequence[str]:
        """Which parts a defect ended, until they are started again."""
        ...

    def skipped_files(self) -> Mapping[str, int]:
        """How many files in each drop folder are left alone, for the metrics."""
        ...

    async def trigger(self, rule: str, tag: str = "", repository: str = "") -> bool:
        """Make a rule run now, for one tag or repository or all; False when there is none of that name, or no such."""
        ...


def daemon_app(
    health: HealthView,
    metrics: Metrics,
    extra_routes: Iterable[web.RouteDef] = (),
    *,
    token: str | None = None,
    is_from_front: Callable[[web.Request], bool] | None = None,
    is_worker: bool = False,
) -> web.Application:
    """The daemon's application; `extra_routes` are the registry's, where the daemon serves one.

    At / stands the status page. The registry's page, which is at / where the registry is served alone, stays at its
    other address; who came through a front, by another name, gets it at / as well. `is_worker`: health and metrics
    only, for other daemons take what is asked.
    """
    app = web.Application(middlewares=[_plain_errors], client_max_size=MAX_BODY)
    pages, routes = _Pages(health, metrics), list(extra_routes)
    app.add_routes(
        [
            web.get("/healthz", pages.healthz),
            web.get("/readyz", pages.readyz),
            web.get("/metrics", pages.metrics),
        ]
    )
    if is_worker:
        return app
    registry_page = next((cast("Page", route.handler) for route in routes if route.path == "/"), None)
    front = StatusPage(health.snapshot, registry_page, is_from_front, can_change=bool(token))
    refusals = RefusalLog()
    app.add_routes(
        [
            web.get("/v1/status", pages.status),
            web.post("/v1/sync", require_token(pages.sync_body, token, refusals)),
            web.post("/v1/sync/{rule:.+}", require_token(pages.sync_rule, token, refusals)),
            web.post("/v1/webhooks/{name}", WebhookPage(health, metrics.observe_webhook).answer),
            *front.routes(),
            *(route for route in routes if route.path != "/"),
        ]
    )
    return app


class _Pages:
    def __init__(self, health: HealthView, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    async def healthz(self, _: web.Request) -> web.Response:
        """200 while the event loop lives."""
        return text_answer(200, "ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        """200, or 503 with the reasons."""
        reasons = [*self._health.not_ready(), *self._health.failed_parts()]
        return json_answer({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        """A page for Prometheus."""
        self._metrics.observe_rules(self._health.rule_views())
        self._metrics.observe_skipped_files(self._health.skipped_files())
        page = await anyio.to_thread.run_sync(self._metrics.render)  # a second for 500 rules, on a slow machine
        return web.Response(body=page, headers=HEADERS | {"Content-Type": CONTENT_TYPE})

    async def status(self, _: web.Request) -> web.Response:
        """How everything fares."""
        return json_answer(as_document(await self._health.snapshot()))

    async def sync_rule(self, request: web.Request) -> web.Response:
        """Trigger the rule in the path."""
        return await self._trigger({"rule": request.match_info["rule"]})

    async def sync_body(self, request: web.Request) -> web.Response:
        """Trigger the rule in the body, for the tag and the repository if it names one; without a body, every rule."""
        body = await request.read()
        if not body.strip():
            rules = [rule for rule in self._health.rule_views() if await self._health.trigger(rule)]
            return json_answer({"rules": rules, "triggered": True}, 202)
        wanted = _parse_request(body)
        return text_answer(400, f"{_EXPECTED}\n") if wanted is None else await self._trigger(wanted)

    async def _trigger(self, wanted: Mapping[str, str]) -> web.Response:
        if reasons := self._health.not_ready():
            return text_answer(503, f"{'; '.join(reasons)}; ask again\n", {"Retry-After": "5"})
        if await self._health.trigger(**wanted):
            return json_answer({**wanted, "triggered": True}, 202)
        return text_answer(404, f"{self._explain_refusal(wanted)}\n")

    def _explain_refusal(self, wanted: Mapping[str, str]) -> str:
        """Why nothing was triggered."""
        rule, tag, repository = (wanted.get(key, "")[:200] for key in ("rule", "tag", "repository"))
        if wanted["rule"] not in self._health.rule_views():
            return f"there is no rule named {rule!r}; GET /v1/status lists them"
        if repository:
            what = f"the tag {tag!r} of {repository!r}" if tag else f"the repository {repository!r}"
            return f"the rule {rule!r} does not copy {what}, if that is its whole name at the source"
        return f"the rule {rule!r} does not select the tag {tag!r}; if it mirrors a whole registry, name the repository"


def _parse_request(body: bytes) -> dict[str, str] | None:
    """The rule, the tag and the repository that a body names."""
    try:
        document = load_json(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not {"rule"} <= document.keys() <= {"rule", "tag", "repository"}:
        return None
    if not all(isinstance(value, str) for value in document.values()):
        return None
    return {key: value for key, value in document.items() if value or key == "rule"}


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return text_answer(error.status, f"{error.status} {error.reason}\n", allow)
    except StoreError as error:  # what is asked for cannot be put on record now
        return text_answer(503, f"{error.message}; ask again\n", {"Retry-After": "5"})
