"""People are told: over HTTP, by mail and by a command; from a real daemon, and by `notify test`."""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import json
import os
import signal
import socketserver
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest

from ocisync.errors import OcisyncError
from ocisync.notify.channels import AppriseChannel, CommandChannel, NotifyError, WebhookChannel
from ocisync.notify.events import FAILURE, Notice
from ocisync.notify.notice_sender import NoticeSender, Subscription
from ocisync.state.open import open_state
from ocisync.sync.reports import Failure, RunReport
from tests.integration.mainjob import Directory, write_config
from tests.integration.test_daemon_faults import metric
from tests.servers.command import daemon, run_ocisync
from tests.servers.images import make_image, oci_archive
from tests.servers.process import wait_for

SECRET = "a secret of many letters"
NOTICE = Notice(FAILURE, "rule app", "app", "Rule app", "the credentials were refused", 1.0, "auth.denied")


@dataclass
class Receiver:
    """What was POSTed; answers with the statuses in turn, then 204."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    def titles(self) -> list[tuple[str, str]]:
        return [(one["event"], one["what"]) for document in self.documents() for one in document["notices"]]


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    receiver = Receiver(statuses=list(statuses))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append((dict(self.headers), body))
            status = receiver.statuses.pop(0) if receiver.statuses else 204
            said = f"Cannot POST {self.path}".encode() if status >= 400 else b""  # as many servers say it
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        receiver.url = f"http://127.0.0.1:{port}/hooks/token-in-the-path"
        yield receiver


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    server.daemon_threads, server.block_on_close = True, False  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_webhook_is_signed_and_slack_and_teams_get_their_own() -> None:
    with receiving() as receiver:
        await WebhookChannel(receiver.url, "webhook", SECRET).send([NOTICE], "farm")
        await WebhookChannel(receiver.url, "slack").send([NOTICE], "farm")
        await WebhookChannel(receiver.url, "teams").send([NOTICE], "farm")
    (headers, body), (_, slack), (_, teams) = receiver.got
    signed = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Ocisync-Signature-256"] == f"sha256={signed}"
    assert json.loads(body)["notices"][0]["code"] == "auth.denied"
    assert json.loads(slack)["text"] == "Rule app fails · farm"
    assert json.loads(teams)["attachments"][0]["contentType"] == "application/vnd.microsoft.card.adaptive"


@pytest.mark.parametrize(("status", "is_retried"), [(503, True), (429, True), (404, False), (302, False)])
async def test_a_refusal_that_passes_is_tried_again_and_no_message_shows_the_url(status: int, is_retried: bool) -> None:
    with receiving(status) as receiver, pytest.raises(OcisyncError) as caught:
        await WebhookChannel(receiver.url).send([NOTICE], "farm")
    assert caught.value.retryable is is_retried
    with pytest.raises(OcisyncError) as unreachable:
        await WebhookChannel(receiver.url).send([NOTICE], "farm")  # nobody listens any more
    assert unreachable.value.retryable
    assert "token-in-the-path" not in caught.value.message + unreachable.value.message + repr(
        WebhookChannel("x-secret")
    )


async def test_a_command_gets_the_document_and_its_failure_is_told(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    await CommandChannel(("tee", str(out))).send([NOTICE], "farm")
    assert json.loads(out.read_text())["text"] == "Rule app fails · farm"
    with pytest.raises(NotifyError, match="exit status 3: no pager"):
        await CommandChannel(("sh", "-c", "echo no pager >&2; exit 3")).send([NOTICE], "farm")
    tracemalloc.start()
    with pytest.raises(NotifyError, match=r"the end\Z") as caught:
        await CommandChannel(("sh", "-c", "yes | head -c 50000000 >&2; echo the end >&2; exit 3")).send(
            [NOTICE], "farm"
        )
    assert len(caught.value.message) < 400
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    with pytest.raises(NotifyError, match="cannot be run"):
        await CommandChannel((str(tmp_path / "none"),)).send([NOTICE], "farm")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of apprise's own
async def test_apprise_is_asked_where_it_is_installed() -> None:
    with receiving() as receiver:
        channel = AppriseChannel(receiver.url.replace("http://", "json://"))
        if importlib.util.find_spec("apprise") is None:
            with pytest.raises(OcisyncError, match=r"Install ocisync\[notify\]"):
                await channel.send([NOTICE], "farm")
            return
        await channel.send([NOTICE], "farm")
    assert receiver.documents()[0]["title"] == "Rule app fails · farm"


async def test_a_receiver_that_is_down_gets_one_message_later_and_holds_up_nobody(tmp_path: Path) -> None:
    with receiving(503) as receiver, receiving() as other:
        async with open_state(tmp_path) as state, anyio.create_task_group() as tasks:
            notifier = NoticeSender(state.history, "farm", gather=0.01)
            notifier.replace(
                [Subscription("a", WebhookChannel(receiver.url)), Subscription("b", WebhookChannel(other.url))]
            )
            tasks.start_soon(notifier.serve, dict, dict)
            for rule in ("one", "two"):
                notifier.observe_run(RunReport(rule, failure=Failure("x", "y", "fail")))
            with anyio.fail_after(20):
                while len(receiver.got) < 2 or not other.got:  # noqa: ASYNC110 (a thread receives)
                    await anyio.sleep(0.05)
            known = await state.history.notices()
            while len(known) < 2:
                await anyio.sleep(0.05)
                known = await state.history.notices()
            tasks.cancel_scope.cancel()
    assert [len(one["notices"]) for one in receiver.documents()] == [2, 2]
    assert [len(one["notices"]) for one in other.documents()] == [2]
    assert known == {"rule one": "x", "rule two": "x"}


async def test_of_two_daemons_with_one_state_one_tells_a_change(tmp_path: Path) -> None:
    with receiving() as receiver:
        async with open_state(tmp_path) as state, anyio.create_task_group() as tasks:
            notifiers = [NoticeSender(state.history, name, gather=0.01, is_shared=True) for name in ("one", "two")]
            for notifier in notifiers:
                notifier.replace([Subscription("ops", WebhookChannel(receiver.url))])
                tasks.start_soon(notifier.serve, dict, dict)
            for failure, count in ((Failure("x", "y", "fail"), 1), (None, 2)):
                for notifier in notifiers:
                    notifier.observe_run(RunReport("app", failure=failure))
                with anyio.fail_after(20):
                    while len(receiver.got) < count:  # noqa: ASYNC110 (a thread receives)
                        await anyio.sleep(0.05)
                await anyio.sleep(0.3)  # in which another would come
            tasks.cancel_scope.cancel()
    assert [event for event, _ in receiver.titles()] == ["failure", "recovery"]


def config_with(tmp_path: Path, notify: object, drops: Sequence[dict[str, object]] = ()) -> Path:
    place = Directory(tmp_path / "registry")
    return write_config(tmp_path, {"out": place.settings}, drop=list(drops), notify=notify)


def test_a_bad_archive_and_its_cure_are_told_once_each_within_seconds_also_after_a_reload(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    (drop / "app").mkdir(parents=True)
    rule: dict[str, object] = {"name": "builds", "path": str(drop), "target": "out", "stable": "0s", "rescan": "1s"}
    with receiving() as receiver:
        notify = {"ops": {"type": "webhook", "url": receiver.url, "secret": SECRET}}
        file = config_with(tmp_path, notify, [rule])
        with daemon(file) as running:
            started = time.monotonic()
            (drop / "app/1.tar").write_bytes(b"no archive")
            wait_for(lambda: receiver.got, "the failure to be told")
            assert time.monotonic() - started < 10
            os.kill(running.pid, signal.SIGHUP)
            wait_for(lambda: "config.reloaded" in running.log, "the reload")
            oci_archive(drop / "app/1.tar", make_image("one"))
            wait_for(lambda: len(receiver.got) == 2, "the recovery to be told")
            assert metric(running, "ocisync_notifications_total", channel="ops", outcome="sent") == 2
            assert SECRET not in running.log
            assert "token-in-the-path" not in running.log
    assert receiver.titles() == [("failure", "app/1.tar (builds)"), ("recovery", "app/1.tar (builds)")]


def test_notify_test_tells_each_channel(tmp_path: Path) -> None:
    with receiving(500) as broken, receiving() as receiver:
        notify = {
            "ops": {"type": "webhook", "url": receiver.url},
            "chat": {"type": "slack", "url": broken.url},
        }
        file = config_with(tmp_path, notify)
        told = run_ocisync("notify", "test", "-c", file).expect(1)
        assert told.stdout == "ops: sent\n"
        assert "chat: answered 500" in told.stderr
        assert "token-in-the-path" not in told.stdout + told.stderr
        run_ocisync("notify", "test", "ops", "-c", file).expect(0)
        assert "known are chat, ops" in run_ocisync("notify", "test", "no", "-c", file).expect(2).stderr
    assert receiver.titles() == [("test", "A test message")] * 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"type": "webhook"}, "`type: webhook` needs `url`. Add it"),
        ({"type": "slack", "url": "http://h/x", "secret": SECRET}, "`secret` means nothing with `type: slack`"),
        (
            {"type": "email", "server": "h:0", "sender": "a@b", "recipients": ["c@d"]},
            "is not an address of a mail server",
        ),
        ({"type": "email", "server": "h", "sender": "a@b", "recipients": ["c@d"]}, "is not an address"),
        ({"type": "email", "server": "h:25", "sender": "a@b", "recipients": ["c@d"], "username": "u"}, "go together"),
        ({"type": "teams", "url": "h/x"}, "`url` does not begin with http: or https:"),
        ({"type": "command", "command": "page"}, "expected a list"),
        ({"type": "webhook", "url": "${HOOK}"}, "Write {env: HOOK}"),
        ({"type": "webhook", "url": "http://h/x", "events": ["broken"]}, '"broken"'),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, settings: object, told: str) -> None:
    found = run_ocisync("config", "check", config_with(tmp_path, {"ops": settings})).expect(2).stderr
    assert "notify.ops" in found
    assert told in found
