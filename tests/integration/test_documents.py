"""Documents by task: every command in the quickstarts and how-tos is run, and every other one is a command line."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup

from ocisync.cli.app import app
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import docker_archive, make_image, make_index, push
from tests.servers.process import free_port

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
FENCED = re.compile(r"(?ms)^```(?:sh|console|bash)\n(.*?)^```")
LINE = re.compile(r"(?m)^(?:    |\$ )(?:sudo )?(ocisync .*)$")
READY = "for n in $(seq 200); do curl -sf http://127.0.0.1:8080/readyz >/dev/null && break; sleep 0.1; done"
PORT = "sed -i 's/listen: 127.0.0.1:[0-9]*/listen: 127.0.0.1:8080/' ocisync.yaml"  # the pages' port is another here
TOOLS = """
jq() { python3 -c 'import json,sys; print("\\n".join(one["name"] for one in json.load(sys.stdin)))'; }
rsync() { mkdir -p "${@: -1}" && cp -a "${@: -2:1}." "${@: -1}"; }
"""


def blocks(page: str, heading: str = "") -> list[str]:
    """The commands of a page, or of the part below a heading."""
    text = (ROOT / "docs" / page).read_text()
    if heading:
        text = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return BLOCK.findall(text)


def run(folder: Path, commands: list[str], hosts: dict[str, str]) -> None:
    """Run commands in one shell whose `ocisync` is this one; what they leave in the background is ended."""
    (folder / "bin").mkdir()
    (folder / "bin/ocisync").write_text(f'#!/bin/sh\nexec {sys.executable} -m ocisync "$@"\n')
    (folder / "bin/ocisync").chmod(0o755)
    text = "\n".join(commands)
    for name, host in hosts.items():
        text = text.replace(name, host)
    env = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    env |= {"NEW_TOKEN": "new", "XDG_RUNTIME_DIR": "", "AWS_EC2_METADATA_DISABLED": "true"}
    shell = ["bash", "-euo", "pipefail", "-c", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{text}"]
    log = folder / "said"
    with log.open("wb") as said:
        process = subprocess.Popen(
            shell, cwd=folder, env=env, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(timeout=180)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert code == 0, log.read_text()[-3000:]


@pytest.fixture
def upstream(registry: DockerRegistry) -> DockerRegistry:
    """What stands for Docker Hub."""
    index = make_index([make_image(seed="a"), make_image(seed="b", platform=("linux", "arm64", ""))])
    for name in ("alpine", "busybox"):
        for tag in ("3.20", "latest", "1", "3"):
            push(registry.client, f"library/{name}", tag, index)
    return registry


def test_quickstart_of_a_farm(tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    docker_archive(tmp_path / "build/amd64.tar", make_image(seed="a"))
    docker_archive(tmp_path / "build/arm64.tar", make_image(seed="b", platform=("linux", "arm64", "")))
    start, daemon, drop, look = blocks("quickstart-farm.md")
    asked = "ocisync tags --tls-verify=false docker://127.0.0.1:8080/team/app"
    there = f"for n in $(seq 100); do {asked} && break; sleep 0.2; done"
    hosts = {"127.0.0.1:8080": f"127.0.0.1:{free_port()}"}
    run(tmp_path, [start, PORT, daemon, READY, drop, there, look], hosts)


def test_quickstart_of_a_mirror(tmp_path: Path, upstream: DockerRegistry) -> None:
    start, once, daemon, pull, clients = blocks("quickstart-mirror.md")
    ours = f"sed -i 's,docker.io/library,{upstream.host}/library,' ocisync.yaml"
    hosts = {"127.0.0.1:8080": f"127.0.0.1:{free_port()}"}
    run(tmp_path, [start, PORT, ours, once, daemon, READY, pull, clients], hosts)


def test_quickstart_of_a_sidecar(tmp_path: Path) -> None:
    run(tmp_path, blocks("quickstart-sidecar.md"), {})


HEADINGS = re.findall(r"(?m)^## (.+)$", (ROOT / "docs/how-to.md").read_text())


@pytest.mark.parametrize("heading", [one for one in HEADINGS if blocks("how-to.md", one)])
def test_how_to(heading: str, tmp_path: Path, upstream: DockerRegistry) -> None:
    (tmp_path / "ocisync.yaml").write_text(
        "version: 1\ntargets: {mirror: {type: static, path: ./registry}}\n"
        f"sync: [{{name: app, source: '{upstream.host}/library/alpine', target: mirror/app, tags: {{allow: ['3']}}}}]\n"
        "registries: {example.com: {username: me, password: {file: ./hub-token}}}\ndaemon: {state: ./state}\n"
    )
    (tmp_path / "hub-token").write_text("old")
    (tmp_path / "backup").mkdir()
    hosts = {"docker://": f"docker://{upstream.host}/library/"}
    run(tmp_path, ["ocisync once", TOOLS, *blocks("how-to.md", heading)], hosts)


def lines(page: Path) -> list[str]:
    """The command lines that a page shows."""
    text = FENCED.sub(lambda found: "    " + found[1].replace("\n", "\n    "), page.read_text())
    text = re.sub(r"\\\n\s*", "", text)
    return [found[1].partition("  #")[0].partition(" # ")[0].rstrip() for found in LINE.finditer(text)]


@pytest.mark.parametrize("page", [one for one in PAGES if lines(one)], ids=lambda one: str(one.relative_to(ROOT)))
def test_what_looks_like_a_command_line_is_one(page: Path) -> None:
    assert [line for line in lines(page) if not is_command_line(line)] == []


def is_command_line(line: str) -> bool:
    """Whether the command is there, and has all of these options."""
    command: object = app
    words = shlex.split(re.sub(r"'[^']*'|\"[^\"]*\"", "QUOTED", line).partition("|")[0])[1:]
    while words and isinstance(command, TyperGroup) and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    if isinstance(command, TyperGroup):
        return not words or words[0].startswith("-")
    options = (one for parameter in command.params for one in parameter.opts)  # type: ignore[attr-defined]
    given = {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    return given <= {*options, "--help", "-h"}
