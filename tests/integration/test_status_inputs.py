"""`ocisync status` tells of drop folders: what waits, what was set aside, and why."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from tests.servers.command import run_ocisync


def test_what_waits_and_what_failed(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    (drop / "team/app/1.0").mkdir(parents=True)
    (drop / "bad.tar").write_bytes(b"no archive")
    rule = {"name": "builds", "path": "./drop", "target": "local", "stable": "0s", "settle": "0s"}
    config = {"version": 1, "targets": {"local": {"type": "static", "path": "./reg"}}, "drop": [rule]}
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(config | {"daemon": {"state": "./state"}}))
    before = run_ocisync("status", "-c", file).expect(0).stdout
    assert "builds: bad.tar waiting: new or changed" in before
    run_ocisync("once", "-c", file).expect(1)
    (drop / "new.tar").write_bytes(b"another")
    text = run_ocisync("status", "builds", "-c", file).expect(0).stdout
    assert "builds: bad.tar failed: " in text
    assert "[archive.invalid]" in text
    row = next(line for line in text.splitlines() if line.startswith("builds  "))
    assert re.search(r" 1 +bad\.tar: ", row), "what was set aside is counted"
    told = next(line for line in text.splitlines() if line.startswith("builds: bad.tar"))
    assert told.count("bad.tar") == 1, "it is named once"
    found = json.loads(run_ocisync("status", "--json", "-c", file).expect(0).stdout)["builds"]["inputs"]
    assert [(one["key"], one["state"], one["code"]) for one in found] == [
        ("bad.tar", "failed", "archive.invalid"),
        ("new.tar", "waiting", ""),
    ]
    assert "known are builds" in run_ocisync("status", "nope", "-c", file).expect(2).stderr


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    rule = {"name": "builds", "path": "./drpo", "target": "local"}
    file = tmp_path / "c.yaml"
    config = {"version": 1, "targets": {"local": {"type": "static", "path": "./reg"}}, "drop": [rule]}
    file.write_text(yaml.safe_dump(config | {"daemon": {"state": "./state"}}))
    told = run_ocisync("status", "-c", file).expect(0).stdout
    assert "drpo unreadable: the folder is not there" in told


def test_failures_count_runs_of_once(tmp_path: Path) -> None:
    rule = {"name": "app", "source": "127.0.0.1:1/team/app", "target": "local"}
    config = {"version": 1, "targets": {"local": {"type": "static", "path": "./reg"}}, "sync": [rule]}
    file = tmp_path / "c.yaml"
    registries = {"127.0.0.1:1": {"plain_http": True, "retries": 0}}
    file.write_text(yaml.safe_dump(config | {"daemon": {"state": "./state"}, "registries": registries}))
    for count in (1, 2):
        run_ocisync("once", "-q", "-c", file).expect(1)
        assert json.loads(run_ocisync("status", "--json", "-c", file).expect(0).stdout)["app"]["failures"] == count
