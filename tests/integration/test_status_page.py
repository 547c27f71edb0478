"""The status page in a real browser, and /v1/status of a real daemon."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ocisync.daemon.metrics import Metrics
from ocisync.daemon.pages import daemon_app
from ocisync.daemon.status.snapshot import Snapshot
from ocisync.serve.server import serve
from tests import status_samples
from tests.integration.mainjob import Directory, write_config
from tests.integration.test_daemon_faults import metric
from tests.servers.chromium import MISSING, PROGRAM, Tab, browser_tab
from tests.servers.command import Daemon, daemon
from tests.servers.images import make_image, oci_archive
from tests.servers.process import wait_for
from tests.unit.daemon.test_pages import Daemon as Health


class Shown(Health):
    """A daemon that shows a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.shown = snapshot

    async def snapshot(self) -> Snapshot:
        return self.shown


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    if PROGRAM is None:
        pytest.skip(MISSING)
    async with browser_tab(tmp_path / "chromium") as tab:
        yield tab


@asynccontextmanager
async def shown(snapshot: Snapshot, token: str = "") -> AsyncIterator[tuple[str, Shown]]:
    health = Shown(snapshot)
    async with serve(daemon_app(health, Metrics(), token=token), "127.0.0.1", 0) as url:
        yield url, health


async def test_a_desktop_and_a_phone_show_it_whole_and_without_an_error(tab: Tab) -> None:
    for snapshot in (status_samples.empty(), status_samples.busy(), status_samples.large()):
        async with shown(snapshot) as (url, _):
            for width, is_phone in ((1280, False), (390, True)):
                await tab.show(width, 844, dark=is_phone, mobile=is_phone)
                await tab.open(url)
                await tab.until("document.readyState === 'complete' && document.querySelector('footer')")
                assert await tab.run("document.documentElement.scrollWidth <= innerWidth")
                assert await tab.run("getComputedStyle(document.querySelector('h1')).display") == "flex"
    assert tab.errors == []


async def test_it_follows_the_daemon_and_keeps_what_was_opened_and_typed(tab: Tab) -> None:
    async with shown(status_samples.large()) as (url, health):
        await tab.show(1280, 900)
        await tab.open(url)
        await tab.until("Boolean(document.querySelector('html.live'))")
        await tab.run("document.getElementById('drop-nightly').open = true; document.getElementById('q').focus()")
        await tab.type("service-287")
        await tab.until("document.querySelectorAll('tbody tr').length === 1")
        health.shown = replace(status_samples.large(), troubles=["it is stopping"])
        await tab.run("refresh()")
        await tab.until("document.querySelector('h1').innerText.includes('Not at work')")
        assert await tab.run("document.getElementById('drop-nightly').open")
        assert await tab.run("document.getElementById('q').value === 'service-287'")
        assert await tab.run("document.activeElement.id") == "q"
        assert await tab.run("location.search") == "?q=service-287"
    assert tab.errors == []


async def test_who_knows_the_token_may_have_a_rule_run_and_nobody_else(tab: Tab) -> None:
    [name], token = [Health().rule_views().keys()], "a token of many letters"
    rule = replace(status_samples.busy().rules[0], name=next(iter(name)))
    snapshot = Snapshot(status_samples.NOW, [rule])
    async with shown(snapshot) as (url, _):
        await tab.open(url)
        await tab.until("Boolean(document.querySelector('html.live'))")
        assert await tab.run("document.querySelector('#unlock, #login, .next button') === null")
    async with shown(snapshot, token) as (url, health):
        await tab.open(url)
        await tab.until("Boolean(document.querySelector('#unlock:not([hidden])'))")
        for given, told in (("a wrong one", "not the daemon"), (token, "runs now")):
            await tab.run("document.querySelector('#unlock').click()")
            await tab.type(given)
            await tab.run("document.querySelector('#login .main').click()")
            await tab.until("Boolean(document.querySelector('.next button'))")
            await tab.run("document.querySelector('.next button').click()")
            await tab.until(f"document.querySelector('#said').textContent.includes('{told}')")
            await tab.until("document.querySelector('#live').textContent === 'live'")
        assert health.triggered == [rule.name]
        assert await tab.run("document.body.innerHTML.includes('many letters')") is False
    assert [error for error in tab.errors if "401" not in error] == []


def status(running: Daemon) -> dict[str, Any]:
    return dict(json.loads(running.get("/v1/status").body))


def test_a_real_daemon_tells_of_its_drop_folder_and_of_what_it_did(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    (drop / "team/app/1.0").mkdir(parents=True)
    rule: dict[str, object] = {"name": "builds", "path": str(drop), "target": "out", "stable": "0s", "rescan": "1s"}
    rule |= {"platforms": ["linux/amd64", "linux/arm64"]}
    place = Directory(tmp_path / "registry")
    file = write_config(tmp_path, {"out": place.settings}, drop=[rule], daemon={"serve": "out"})
    with daemon(file) as running:
        oci_archive(drop / "team/app/1.0/linux.amd64.tar", make_image("one"))
        (drop / "bad.tar").write_bytes(b"no archive")
        (drop / "notes.txt").write_text("hello")
        (drop / "tool").mkdir()
        oci_archive(drop / "tool/1.tar", make_image("two"))

        def inputs() -> dict[str, dict[str, Any]]:
            return {one["key"]: one for one in status(running)["drops"]["builds"]["inputs"]}

        wait_for(lambda: inputs().get("bad.tar", {}).get("state") == "failed", "the bad archive to be told of")
        wait_for(lambda: status(running)["day"]["copied"] == 1, "the good one to be counted")
        found = inputs()
        assert found["bad.tar"]["code"] == "archive.invalid"
        assert found["team/app/1.0/"]["reason"] == "waits for linux/arm64"
        assert found["notes.txt"]["state"] == "skipped"
        assert "tool/1.tar" not in found
        assert [(one["what"], bool(one["cure"])) for one in status(running)["failures"]] == [("bad.tar", True)]
        page = running.get("/").body.decode()
        assert "1 of 1 needs attention" in page
        assert 'href="index.html"' in page
        assert running.get("/index.html").status == 200
        assert metric(running, "ocisync_drop_skipped_files", rule="builds") == 1
    with daemon(file) as running:  # the day and what fails outlive the process
        assert status(running)["day"]["copied"] == 1
