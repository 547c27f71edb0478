"""Completion in bash: commands, options, rules, targets, repositories and tags, as a user presses the tabulator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.command import run_ocisync
from tests.servers.images import docker_archive, make_image

CONFIG = """version: 1
targets: {here: {type: static, path: ./registry}}
registries: {ghcr.io: {username: a, password: {env: OCISYNC_TEST_UNSET}}}
sync: [{source: docker.io/library/alpine, target: here/alpine}, {name: second, source: busybox, target: here/bb}]
drop: [{name: builds, path: ./drop, target: here}]
"""
ASK = r"""
source completion.bash
COMP_LINE=$1; COMP_POINT=${#COMP_LINE}; COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
_ocisync 2>/dev/null
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration, a static registry, and the script."""
    made = tmp_path_factory.mktemp("completion")
    (made / "ocisync.yaml").write_text(CONFIG)
    archive = docker_archive(made / "in.tar", {"a:1": make_image()})
    for place in ("app:1.0", "team/app:2"):
        run_ocisync("copy", archive, f"static:./registry//{place}", cwd=made).expect(0)
    (made / "completion.bash").write_text(run_ocisync("completion", "bash").expect(0).stdout)
    (made / "bin").mkdir()
    (made / "bin/ocisync").write_text(f'#!/bin/sh\nexec {sys.executable} -m ocisync "$@"\n')
    (made / "bin/ocisync").chmod(0o755)
    return made


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ocisync statu", ["status"]),
        ("ocisync config ", ["check", "import", "schema"]),
        ("ocisync copy --src-c", ["--src-creds"]),
        ("ocisync copy --format ", ["oci", "docker"]),
        ("ocisync copy docker:", ["//"]),
        ("ocisync once ", ["builds", "alpine", "second"]),
        ("ocisync sync-now s", ["second"]),
        ("ocisync ls h", ["here"]),
        ("ocisync ls here/", ["here/app", "here/team/app"]),
        ("ocisync ls static:./registry//t", ["./registry//team/app"]),
        ("ocisync rm here team/app:", ["2"]),
        ("ocisync digest static:./registry//app:", ["1.0"]),
        ("ocisync digest docker://127.0.0.1:1/app:", [""]),  # nobody answers: nothing is said
    ],
)
def test_bash(line: str, offered: list[str], folder: Path) -> None:
    env = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", line], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == offered


def test_scripts_for_other_shells() -> None:
    assert run_ocisync("completion", "zsh").expect(0).stdout.startswith("#compdef ocisync\n")
    assert "complete --command ocisync" in run_ocisync("completion", "fish").expect(0).stdout
