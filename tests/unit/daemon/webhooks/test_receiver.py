"""Where registries report pushes, over a real connection: who is believed, and what is answered."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from io import BytesIO

import anyio
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from ocisync.daemon.webhooks.payloads import Push
from ocisync.daemon.webhooks.receiver import MAX_BODY, MOST_BODIES, BodyBudget, Webhook
from tests.unit.daemon import notifications as sent
from tests.unit.daemon.test_pages import Daemon, running

SECRET = "a secret that nobody guesses"
PLAIN = sent.encoded({"repository": "docker.io/alpine", "tag": "3"})
BEARER = {"Authorization": f"Bearer {SECRET}"}


def a_daemon(sender: str = "plain", registry: str = "") -> Daemon:
    return Daemon(hooks={"hook": Webhook(sender, SECRET, registry)})


def basic(password: str) -> str:
    return "Basic " + b64encode(f"any:{password}".encode()).decode()


def signature(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def test_a_push_is_taken_and_its_rules_are_named() -> None:
    daemon = a_daemon()
    async with running(daemon) as client:
        status, _, text = await client.ask("/v1/webhooks/hook", "POST", body=PLAIN, **BEARER)
    assert (status, json.loads(text)) == (202, {"pushes": 1, "rules": ["library/alpine"]})
    assert daemon.pushed == [Push("library/alpine", "3", "docker.io")]


@pytest.mark.parametrize("given", [f"Bearer {SECRET}", f"bearer  {SECRET}", SECRET, basic(SECRET)])
@pytest.mark.parametrize("sender", ["plain", "harbor", "distribution", "quay", "dockerhub"])
async def test_the_secret_in_the_header_is_believed(sender: str, given: str) -> None:
    body = sent.encoded({"events": [], "repository": "a"})
    async with running(a_daemon(sender)) as client:
        status, _, _ = await client.ask("/v1/webhooks/hook", "POST", body=body, Authorization=given)
    assert status == 202


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer wrong", f"Bearer {SECRET}x", SECRET[:-1], basic("wrong"), "Basic ???", "Basic \xff", "\xff"],
)
async def test_any_other_header_is_refused(given: str) -> None:
    daemon = a_daemon()
    async with running(daemon) as client:
        status, _, text = await client.ask("/v1/webhooks/hook", "POST", body=PLAIN, Authorization=given)
    assert (status, daemon.pushed) == (401, [])
    assert SECRET not in text


@pytest.mark.parametrize(
    ("sender", "status"), [("dockerhub", 202), ("quay", 202), ("plain", 401), ("harbor", 401), ("github", 401)]
)
async def test_only_senders_without_headers_may_have_it_in_the_url(sender: str, status: int) -> None:
    async with running(a_daemon(sender)) as client:
        path = f"/v1/webhooks/hook?token={SECRET.replace(' ', '%20')}"
        found, _, _ = await client.ask(path, "POST", body=sent.encoded(sent.DOCKER_HUB))
        wrong, _, _ = await client.ask("/v1/webhooks/hook?token=wrong", "POST", body=sent.encoded(sent.DOCKER_HUB))
    assert (found, wrong) == (status, 401)


async def test_github_signs_the_body() -> None:
    body = sent.encoded(sent.GITHUB)
    headers = {"X-GitHub-Event": "registry_package", "X-Hub-Signature-256": signature(body)}
    daemon = a_daemon("github")
    async with running(daemon) as client:
        right = await client.ask("/v1/webhooks/hook", "POST", body=body, **headers)
        other_body = await client.ask("/v1/webhooks/hook", "POST", body=body + b" ", **headers)
        other_secret = headers | {"X-Hub-Signature-256": signature(body, "wrong")}
        wrong = await client.ask("/v1/webhooks/hook", "POST", body=body, **other_secret)
        bearer = await client.ask("/v1/webhooks/hook", "POST", body=body, **BEARER)
    assert [answer[0] for answer in (right, other_body, wrong, bearer)] == [202, 401, 401, 401]
    assert daemon.pushed == [Push("acme/web", "2.1", "ghcr.io")]


async def test_the_configured_registry_is_the_pushes() -> None:
    daemon = a_daemon("harbor", "harbor.inner:8443")
    async with running(daemon) as client:
        await client.ask("/v1/webhooks/hook", "POST", body=sent.encoded(sent.HARBOR), **BEARER)
    assert daemon.pushed == [
        Push("team/web", "2.1", "harbor.inner:8443"),
        Push("team/web", "", "harbor.inner:8443", is_untagged=True),
    ]


async def test_bad_requests_are_answered_and_counted() -> None:
    async with running(a_daemon()) as client:
        post = client.ask
        unknown = await post("/v1/webhooks/other", "POST", body=PLAIN, **BEARER)
        invalid = await post("/v1/webhooks/hook", "POST", body=b"{}", **BEARER)
        large = await post("/v1/webhooks/hook", "POST", body=BytesIO(b" " * (MAX_BODY + 1)), **BEARER)
        read = await post("/v1/webhooks/hook", "GET", body=None, **BEARER)
        await post("/v1/webhooks/hook", "POST", body=PLAIN)
        nobodys = sent.encoded({"repository": "nobody/knows"})
        unmatched = await post("/v1/webhooks/hook", "POST", body=nobodys, **BEARER)
        metrics = (await post("/metrics"))[2]
    assert [answer[0] for answer in (unknown, invalid, large, read, unmatched)] == [404, 400, 413, 405, 202]
    assert 'expected {"repository"' in invalid[2]
    for outcome in ("invalid", "refused", "unmatched"):
        assert f'ocisync_webhooks_total{{outcome="{outcome}",webhook="hook"}} 1.0' in metrics


def test_bodies_are_read_within_a_budget_that_they_share() -> None:
    budget = BodyBudget(each=10, total=15)
    with budget.open_body() as first:
        first.add(b"1234567890")
        with pytest.raises(web.HTTPRequestEntityTooLarge):
            first.add(b"1")
        with budget.open_body() as second:
            second.add(b"12345")
            with pytest.raises(web.HTTPServiceUnavailable):
                second.add(b"6")
        assert budget.left == 5
        assert first.whole() == b"1234567890"
    assert budget.left == 15


def test_so_many_bodies_are_read_at_a_time() -> None:
    budget = BodyBudget(most=1)
    with budget.open_body(), pytest.raises(web.HTTPServiceUnavailable), budget.open_body():
        pass
    with budget.open_body():
        pass


async def never() -> AsyncIterator[bytes]:
    """A body that does not end."""
    yield b"{"
    await anyio.sleep_forever()


async def test_who_comes_while_many_bodies_are_read_is_to_come_again() -> None:
    body = sent.encoded(sent.GITHUB)
    headers = {"X-GitHub-Event": "registry_package", "X-Hub-Signature-256": signature(body)}
    async with running(a_daemon("github")) as client:

        async def send_slowly() -> None:
            await client.ask("/v1/webhooks/hook", "POST", body=never(), **headers)

        async def send() -> int:
            return (await client.ask("/v1/webhooks/hook", "POST", body=body, **headers))[0]

        with anyio.fail_after(60):
            async with anyio.create_task_group() as senders:
                for _ in range(MOST_BODIES):
                    senders.start_soon(send_slowly)
                while await send() != 503:  # until the slow ones have arrived
                    await anyio.lowlevel.checkpoint()
                senders.cancel_scope.cancel()
            while await send() != 202:  # once the server has noticed that they are gone
                await anyio.lowlevel.checkpoint()


async def test_a_body_whose_signature_is_missing_is_not_read() -> None:
    async with running(a_daemon("github")) as client:
        with anyio.fail_after(20):
            status, _, _ = await client.ask("/v1/webhooks/hook", "POST", body=never())
    assert status == 401


async def test_while_it_is_not_ready_the_sender_is_to_come_again() -> None:
    daemon = a_daemon()
    daemon.reasons.append("it is starting")
    async with running(daemon) as client:
        status, headers, _ = await client.ask("/v1/webhooks/hook", "POST", body=PLAIN, **BEARER)
    assert (status, headers["Retry-After"], daemon.pushed) == (503, "5", [])


async def test_fault_64_no_secret_of_a_webhook_is_logged() -> None:
    with capture_logs() as lines:
        async with running(a_daemon("quay")) as client:
            for secret in (SECRET.replace(" ", "%20"), "wrong-secret"):
                await client.ask(f"/v1/webhooks/hook?token={secret}", "POST", body=sent.encoded(sent.QUAY))
                await client.ask("/v1/webhooks/hook", "POST", body=PLAIN, Authorization=f"Bearer {secret}")
    assert {line["event"] for line in lines} == {"webhook.taken", "webhook.refused"}
    assert "secret" not in str(lines)
    assert SECRET not in repr(a_daemon().hooks)
