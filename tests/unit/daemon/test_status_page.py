"""The status page as HTML, and what is shown on it."""

from __future__ import annotations

import html
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from ocisync.config.load import parse_config
from ocisync.daemon.metrics import Metrics
from ocisync.daemon.pages import daemon_app
from ocisync.daemon.status.activity import Activity, SpeedMeter
from ocisync.daemon.status.failures import FailureNow, Failures
from ocisync.daemon.status.page import Wish, group_failures, render_page
from ocisync.daemon.status.pictures import draw_day
from ocisync.daemon.status.snapshot import RuleNow, Snapshot, as_document
from ocisync.drop.rule import InputReport, InputVerdict
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256
from ocisync.state.history_records import Sample
from ocisync.state.image_records import ImageRecord
from ocisync.state.rule_records import RuleStatus, RuleView
from ocisync.sync.reports import Failure, JobReport, RunReport, TagReport, Verdict
from tests import status_samples
from tests.unit.daemon.test_pages import Daemon, running

FAILED = Failure("net.unreachable", "h: nobody answers", "retry")


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_what_fails_runs_waits_and_is_fresh() -> None:
    text = text_of(render_page(status_samples.busy(), Wish()))
    for told in (
        "2 of 7 need attention",
        "the credentials were refused Check user and password",
        "61.0 MiB of 148.0 MiB · 11.4 MiB/s",
        "waits for pulls from quay.io to renew (0 of 100 are left)",
        "3 wait for a slot",
        "2 failed 1 waiting 1 skipped",
        "waits for linux/arm64",
        "docker.io/library/alpine → mirror/library/alpine",
        "runs now",
        "in 56m",
        "(3 in a row)",
        "Images copied 1,322, 66 failed",
    ):
        assert told in text, told


def test_a_job_of_another_daemon_is_shown_with_its_name() -> None:
    busy = status_samples.busy()
    elsewhere = replace(busy, jobs=[replace(busy.jobs[0], daemon="host-b:7"), *busy.jobs[1:]])
    assert text_of(render_page(elsewhere, Wish())).count("at host-b:7") == 1
    assert [one.get("daemon") for one in as_document(elsewhere)["jobs"]] == ["host-b:7", None]  # type: ignore[attr-defined]


def test_without_rules_it_says_how_to_get_some() -> None:
    text = text_of(render_page(status_samples.empty(), Wish()))
    assert "No rules yet" in text
    assert "systemctl reload ocisync" in text


def test_the_rules_that_it_shows_are_right(tmp_path: Path) -> None:
    found = re.search(r"<pre[^>]*>(.*?)</pre>", render_page(status_samples.empty(), Wish()), re.DOTALL)
    assert found
    config = parse_config(f"version: 1\n{html.unescape(found[1])}\n", folder=tmp_path)
    assert (config.sync[0].tags.latest, config.drop[0].name) == (3, "builds")


def test_of_many_rules_a_hundred_are_shown_the_bad_ones_first_and_all_when_asked_for() -> None:
    page = render_page(status_samples.large(), Wish())
    assert page.count('<th scope="row">') == 100
    assert "Show all 500" in text_of(page)
    assert page.index("team-3-service-3<") < page.index("team-5-service-5<")  # failing before late
    assert render_page(status_samples.large(), Wish(is_all=True)).count('<th scope="row">') == 500
    late = render_page(status_samples.large(), Wish(state="late"))
    assert 0 < late.count('<th scope="row">') < 10
    assert render_page(status_samples.large(), Wish("TEAM-7 287")).count('<th scope="row">') == 1
    assert "No rule matches" in render_page(status_samples.large(), Wish("<b>nothing"))


def test_what_comes_from_outside_is_text() -> None:
    bad = "<script>alert(1)</script>\u202e\x1b[31m"
    rule = RuleNow("a", bad, (bad,), RuleView(RuleStatus(code="x", message=bad), 1.0, 60.0))
    failures = [FailureNow(1.0, "a", bad, "x", bad)]
    page = render_page(Snapshot(10.0, [rule], failures=failures, troubles=[bad]), Wish(bad))
    assert "<script>alert" not in page
    assert not re.search("[\u202e\x1b]", page)


def test_nothing_runs_or_is_styled_from_within_the_page() -> None:
    page = render_page(status_samples.busy(), Wish())
    assert not re.search(
        r"\son[a-z]+=|\sstyle=|<style|<script(?! src=\"status/status.js\")|https?://(?!www.w3.org)", page
    )


def test_failures_of_one_kind_are_one() -> None:
    failures = [FailureNow(9.0 - at, f"r{at}", f"mirror/r{at}:1", "net", "refused") for at in range(5)]
    failures.append(FailureNow(1.0, "z", "mirror/z:1", "net", "another"))
    assert [(first.rule, len(others)) for first, others in group_failures(failures)] == [("r0", 4), ("z", 0)]


async def test_page_and_files_have_a_strict_policy_and_only_the_two_files_are_served() -> None:
    async with running(Daemon()) as client:
        status, headers, text = await client.ask("/?q=al")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert 'value="al"' in text
        style, script = [await client.ask(f"/status/status.{kind}") for kind in ("css", "js")]
        assert [one[0] for one in (style, script)] == [200, 200]
        known = {"If-None-Match": script[1]["Etag"]}
        assert (await client.ask("/status/status.js", body=None, **known))[0] == 304
        assert (await client.ask("/status/status.html"))[0] == 404


@pytest.mark.parametrize(
    "path", ["/status/<script>", "/nothing", "/healthz", "/readyz", "/v1/status", "/metrics", "/v1/sync"]
)
async def test_every_other_answer_runs_nothing_either(path: str) -> None:
    async with running(Daemon()) as client:
        _, headers, text = await client.ask(path)
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "html" not in headers["Content-Type"]
        assert "<script>" not in text


async def test_who_comes_through_a_front_gets_the_registry_and_never_the_status() -> None:
    async def registry_page(_: web.Request) -> web.Response:
        return web.Response(text="the registry")

    with_registry = daemon_app(Daemon(), Metrics(), [web.get("/", registry_page)], is_from_front=lambda _: True)
    without = daemon_app(Daemon(), Metrics(), is_from_front=lambda _: True)
    for app, expected in ((with_registry, (200, "the registry")), (without, (421, "this page"))):
        found = await _ask_root(app)
        assert found[0] == expected[0]
        assert found[1].startswith(expected[1])


async def _ask_root(app: web.Application) -> tuple[int, str]:
    from aiohttp.test_utils import TestClient, TestServer

    async with TestClient(TestServer(app)) as client, client.get("/") as reply:
        return reply.status, await reply.text()


def test_a_job_tells_its_images_bytes_and_speed() -> None:
    activity, blob = Activity(), Descriptor("application/octet-stream", sha256(b"x"), 1000)
    job = activity.for_job("rule", "docker://h/a", "target:out/a")
    job.tag_started("target:out/a", "1")
    job.blob_started(blob)
    job.blob_moved(blob, 600)
    [now] = activity.running()
    assert (now.images, now.moved, now.known, now.done) == (("1",), 600, 1000, 0)
    job.blob_finished(blob)
    job.tag_finished("target:out/a", "1", "failed")
    [now] = activity.running()
    assert (now.images, now.done, now.failed) == ((), 1, 1)
    job.job_finished()
    assert activity.running() == []


def test_speed_is_that_of_the_last_seconds() -> None:
    now = [0.0]
    meter = SpeedMeter(lambda: now[0])
    for second in range(5):
        now[0] = second + 0.5
        meter.add(1000)
    assert meter.speed() == pytest.approx(1000, rel=0.2)
    now[0] = 60.0
    assert meter.speed() == 0.0
    assert meter.quiet() == pytest.approx(55.5)


def test_a_failure_is_listed_until_it_went_well() -> None:
    failures = Failures()
    failures.observe_job(JobReport("r", "s", "target:out/a", [TagReport("1", Verdict.FAILED, "", None, FAILED)]))
    failures.observe_input(InputReport("d", "bad.tar", (), InputVerdict.FAILED, failure=FAILED))
    assert {one.what for one in failures.list_newest({"r", "d"})} == {"out/a:1", "bad.tar"}
    failures.observe_job(JobReport("r", "s", "target:out/a", [TagReport("1", Verdict.COPIED, "")]))
    assert [one.what for one in failures.list_newest({"r", "d"})] == ["bad.tar"]
    assert failures.list_newest({"r"}) == []  # the rule is gone


def test_what_a_whole_run_did_not_meet_again_is_no_longer_listed() -> None:
    failures = Failures()
    old = ImageRecord("r", "target:out/a", "gone", "failed", "", "", 0, 0, 0.0, "x", "y", time.time() - 100)
    failures.load([old, replace(old, rule="other")])
    failures.observe_job(JobReport("r", "s", "target:out/a", [TagReport("1", Verdict.FAILED, "", None, FAILED)]))
    failures.observe_run(RunReport("r", seconds=5.0, failure=FAILED))
    assert [(one.rule, one.what) for one in failures.list_newest({"r", "other"})] == [
        ("r", "out/a:1"),
        ("other", "out/a:gone"),
    ]


def test_the_day_is_drawn_where_there_is_something_to_draw() -> None:
    samples = [Sample(86400.0 * 2, 300, 300 * 1024, 1, 2, 1, 0.0)]
    sent, images, delay = draw_day(samples, 86400.0 * 2)
    assert (sent.value, sent.peak, images.value) == ("300.0 KiB", "peak 1.0 KiB/s", "2, 1 failed")
    assert sent.paths[0][1].startswith("M287.0 60V4.0H288.0")
    assert (delay.value, delay.is_empty) == ("none", True)


def test_secrets_in_messages_are_masked() -> None:
    snapshot = status_samples.busy()
    rule = snapshot.rules[0]
    told = replace(rule.view.status, code="x", message="https://user:hunter22@h/v2/")
    found = as_document(replace(snapshot, rules=[replace(rule, view=replace(rule.view, status=told))]))
    assert "hunter22" not in str(found)
