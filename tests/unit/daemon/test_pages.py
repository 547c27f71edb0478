"""The daemon's pages, over a real connection."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO

import pytest
from aiohttp import ClientSession, web
from structlog.testing import capture_logs

from ocisync.daemon.metrics import CONTENT_TYPE, Metrics
from ocisync.daemon.pages import daemon_app
from ocisync.daemon.responses import MOST_REFUSALS, REFUSAL_PERIOD, RefusalLog
from ocisync.daemon.status.snapshot import RuleNow, Snapshot
from ocisync.daemon.webhooks.payloads import Push
from ocisync.daemon.webhooks.receiver import Webhook
from ocisync.serve.server import serve
from ocisync.state.rule_records import RuleStatus, RuleView

TOKEN = "a long secret"


@dataclass
class Daemon:
    """What the pages show."""

    reasons: list[str] = field(default_factory=list)
    triggered: list[str] = field(default_factory=list)
    pushed: list[Push] = field(default_factory=list)
    hooks: dict[str, Webhook] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def not_ready(self) -> Sequence[str]:
        return self.reasons

    async def snapshot(self) -> Snapshot:
        rules = [
            RuleNow(name, "docker.io/library/alpine", ("local",), view) for name, view in self.rule_views().items()
        ]
        return Snapshot(1_700_000_090.0, rules)

    def rule_views(self) -> Mapping[str, RuleView]:
        status = RuleStatus(last_success=1_700_000_000.0, failures=2)
        return {"library/alpine": RuleView(status, lag=90.0, gap=3600.0)}

    def failed_parts(self) -> Sequence[str]:
        return self.failed

    def skipped_files(self) -> Mapping[str, int]:
        return {"builds": 2}

    async def trigger(self, rule: str, tag: str = "", repository: str = "") -> bool:
        if rule != "library/alpine" or tag not in ("", "3") or repository not in ("", "team/app"):
            return False
        self.triggered.append(":".join(filter(None, (rule, repository, tag))))
        return True

    def webhooks(self) -> Mapping[str, Webhook]:
        return self.hooks

    async def accept(self, pushes: Sequence[Push]) -> Sequence[str]:
        self.pushed += pushes
        return ["library/alpine"] if any(push.repository == "library/alpine" for push in pushes) else []


@dataclass
class Client:
    """Asks one daemon."""

    url: str
    session: ClientSession

    async def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        body: bytes | BytesIO | AsyncIterator[bytes] | None = None,
        **headers: str,
    ) -> tuple[int, Mapping[str, str], str]:
        async with self.session.request(method, self.url + path, headers=headers, data=body) as reply:
            return reply.status, dict(reply.headers), await reply.text()


AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def running(daemon: Daemon, token: str | None = None, *routes: web.RouteDef) -> AsyncIterator[Client]:
    app = daemon_app(daemon, Metrics(), routes, token=token)
    async with serve(app, "127.0.0.1", 0) as url, ClientSession() as session:
        yield Client(url, session)


async def test_healthz_is_200_also_while_not_ready() -> None:
    async with running(Daemon(["draining"])) as client:
        status, headers, text = await client.ask("/healthz")
    assert (status, text) == (200, "ok\n")
    assert headers["Cache-Control"] == "no-store"


async def test_readyz_names_the_reasons() -> None:
    daemon = Daemon(["starting: the state is being opened"])
    async with running(daemon) as client:
        before = await client.ask("/readyz")
        daemon.reasons.clear()
        after = await client.ask("/readyz")
    assert (before[0], json.loads(before[2])) == (
        503,
        {"ready": False, "reasons": ["starting: the state is being opened"]},
    )
    assert (after[0], json.loads(after[2])) == (200, {"ready": True, "reasons": []})


async def test_readyz_names_parts_that_a_defect_ended_and_requests_are_taken_all_the_same() -> None:
    daemon = Daemon(failed=["the drop folder of rule builds was ended by a defect (KeyError); it is started again"])
    async with running(daemon, TOKEN) as client:
        ready = await client.ask("/readyz")
        triggered = await client.ask("/v1/sync/library/alpine", "POST", body=None, **AUTHORIZED)
    assert (ready[0], json.loads(ready[2])["reasons"]) == (503, daemon.failed)
    assert triggered[0] == 202


async def test_wrong_tokens_are_logged_at_a_bounded_rate_and_never_with_what_was_sent() -> None:
    with capture_logs() as lines:
        async with running(Daemon(), TOKEN) as client:
            for _ in range(MOST_REFUSALS + 20):
                status, _, _ = await client.ask("/v1/sync", "POST", Authorization="Bearer guess-number-one")
                assert status == 401
    assert [line["event"] for line in lines] == ["token.refused"] * MOST_REFUSALS
    assert {line["remote"] for line in lines} == {"127.0.0.1"}
    assert "guess" not in str(lines)


def test_refusals_that_were_not_logged_are_counted_in_the_next_line() -> None:
    now = [0.0]
    refusals = RefusalLog(lambda: now[0])
    with capture_logs() as lines:
        for _ in range(MOST_REFUSALS + 7):
            refusals.log("token.refused", remote="::1")
        now[0] = REFUSAL_PERIOD
        refusals.log("token.refused", remote="::1")
    assert len(lines) == MOST_REFUSALS + 1
    assert lines[-1]["not_logged"] == 7


async def test_metrics_are_prometheus_text() -> None:
    async with running(Daemon()) as client:
        status, headers, text = await client.ask("/metrics")
    assert (status, headers["Content-Type"]) == (200, CONTENT_TYPE)
    assert "ocisync_build_info{" in text
    assert 'ocisync_rule_consecutive_failures{rule="library/alpine"} 2.0' in text
    assert 'ocisync_rule_lag_seconds{rule="library/alpine"} 90.0' in text
    assert 'ocisync_rule_interval_seconds{rule="library/alpine"} 3600.0' in text
    assert 'ocisync_rule_last_success_timestamp_seconds{rule="library/alpine"} 1.7e+09' in text
    assert 'ocisync_drop_skipped_files{rule="builds"} 2.0' in text


async def test_status_is_json() -> None:
    async with running(Daemon()) as client:
        status, _, text = await client.ask("/v1/status")
    found = json.loads(text)
    rule = found["rules"]["library/alpine"]
    assert (status, rule["failures"], rule["lag"], rule["targets"]) == (200, 2, 90.0, ["local"])
    assert found["queue"]["waiting"] == 0


async def test_the_token_lets_a_rule_run() -> None:
    daemon = Daemon()
    async with running(daemon, TOKEN) as client:
        right = await client.ask("/v1/sync/library/alpine", "POST", Authorization=f"Bearer {TOKEN}")
        unknown = await client.ask("/v1/sync/other", "POST", Authorization=f"bearer {TOKEN}")
    assert (right[0], json.loads(right[2])) == (202, {"rule": "library/alpine", "triggered": True})
    assert unknown[0] == 404
    assert "'other'" in unknown[2]
    assert daemon.triggered == ["library/alpine"]


@pytest.mark.parametrize(
    ("body", "status", "triggered"),
    [
        (b"", 202, ["library/alpine"]),
        (b'{"rule": "library/alpine"}', 202, ["library/alpine"]),
        (b'{"rule": "library/alpine", "tag": "3"}', 202, ["library/alpine:3"]),
        (b'{"rule": "library/alpine", "tag": "4"}', 404, []),
        (b'{"rule": "other"}', 404, []),
        (b'{"rule": "library/alpine", "repository": "team/app"}', 202, ["library/alpine:team/app"]),
        (b'{"rule": "library/alpine", "repository": "team/app", "tag": "3"}', 202, ["library/alpine:team/app:3"]),
        (b'{"rule": "library/alpine", "repository": "team/other"}', 404, []),
        (b'{"rule": "library/alpine", "repository": ["team/app"]}', 400, []),
        (b'{"tag": "3"}', 400, []),
        (b'{"rule": 3}', 400, []),
        (b'{"rule": "library/alpine", "tags": "3"}', 400, []),
        (b"[" * 100_000, 400, []),
    ],
)
async def test_a_body_names_a_rule_and_perhaps_a_tag(body: bytes, status: int, triggered: list[str]) -> None:
    daemon = Daemon()
    async with running(daemon, TOKEN) as client:
        refused = await client.ask("/v1/sync", "POST", body=body)
        found = await client.ask("/v1/sync", "POST", body=body, **AUTHORIZED)
    assert (refused[0], found[0], daemon.triggered) == (401, status, triggered)


async def test_while_it_is_not_ready_it_says_so_and_triggers_nothing() -> None:
    daemon = Daemon(["it is stopping"])
    async with running(daemon, TOKEN) as client:
        status, headers, text = await client.ask("/v1/sync/library/alpine", "POST", body=None, **AUTHORIZED)
    assert (status, headers["Retry-After"], daemon.triggered) == (503, "5", [])
    assert "it is stopping" in text


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \xff\xfe"],
)
async def test_without_the_right_token_nothing_changes(authorization: str | None) -> None:
    daemon = Daemon()
    headers = {} if authorization is None else {"Authorization": authorization}
    async with running(daemon, TOKEN) as client:
        status, found, text = await client.ask("/v1/sync/library/alpine", "POST", body=None, **headers)
    assert (status, found["WWW-Authenticate"], daemon.triggered) == (401, "Bearer", [])
    assert TOKEN not in text


@pytest.mark.parametrize("token", [None, ""])
async def test_without_a_configured_token_it_says_how_to_set_one(token: str | None) -> None:
    daemon = Daemon()
    async with running(daemon, token) as client:
        status, _, text = await client.ask("/v1/sync/library/alpine", "POST", Authorization="Bearer ")
    assert (status, daemon.triggered) == (403, [])
    assert "daemon.token" in text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("POST", "/healthz", 405), ("GET", "/v1/sync/x", 405), ("DELETE", "/v1/status", 405)],
)
async def test_error_pages_are_plain(method: str, path: str, status: int) -> None:
    async with running(Daemon(), TOKEN) as client:
        found, headers, text = await client.ask(path, method)
    assert (found, headers["Content-Type"]) == (status, "text/plain; charset=utf-8")
    assert text.startswith(f"{status} ")
    assert ("Allow" in headers) is (status == 405)


async def test_other_routes_are_served_beside() -> None:
    async def extra(_: web.Request) -> web.Response:
        return web.Response(text="extra")

    async with running(Daemon(), None, web.get("/v2/", extra)) as client:
        assert (await client.ask("/v2/"))[2] == "extra"
