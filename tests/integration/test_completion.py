"""Completion: commands, options, rules, targets, repositories and tags, as a user presses the tabulator.

In bash; in zsh and fish, which `make prove` has, by the shells themselves.
"""

from __future__ import annotations

import os
import pty
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


def shell_environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "HOME": str(folder),
    }


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
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", line],
        cwd=folder,
        env=shell_environment(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == offered


def test_scripts_for_other_shells() -> None:
    assert run_ocisync("completion", "zsh").expect(0).stdout.startswith("#compdef ocisync\n")
    assert "complete --command ocisync" in run_ocisync("completion", "fish").expect(0).stdout


NOTHING: tuple[str, list[str]] = (
    "ocisync digest docker://127.0.0.1:1/app:",
    [],
)  # nobody answers; fish would offer files
OTHERS = [
    ("ocisync statu", ["status"]),
    ("ocisync config ", ["check", "import", "schema"]),
    ("ocisync copy --src-c", ["--src-creds"]),
    ("ocisync copy --format ", ["docker", "oci"]),
    ("ocisync once ", ["alpine", "builds", "second"]),
    ("ocisync ls here/", ["here/app", "here/team/app"]),
    ("ocisync ls static:./registry//t", ["static:./registry//team/app"]),
    ("ocisync rm here team/app:", ["team/app:2"]),
    ("ocisync copy docker:", ["docker://"]),
]


@pytest.mark.prove
@pytest.mark.parametrize(("line", "offered"), OTHERS)
def test_fish(line: str, offered: list[str], folder: Path) -> None:
    (folder / "completion.fish").write_text(run_ocisync("completion", "fish").expect(0).stdout)
    ask = f"source completion.fish; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", ask], cwd=folder, env=shell_environment(folder), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert sorted(found.partition("\t")[0] for found in done.stdout.splitlines()) == offered


# `compadd` is what every completion ends with; the widget does what the tabulator does, and tells what it made.
ZSHRC = r"""
autoload -U compinit; compinit -u -D
compadd () {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return $?; fi
    local -a found; builtin compadd -A found "$@"
    (( $#found )) && print -rl -- $found >> found
    builtin compadd "$@"
}
source ./completion.zsh
zle-line-init() { BUFFER="$ASK"; CURSOR=$#BUFFER; zle complete-word; print -rn -- "$BUFFER" > buffer; exit }
zle -N zle-line-init
"""


@pytest.mark.prove
@pytest.mark.parametrize(("line", "offered"), [*OTHERS, ("ocisync copy ./in", ["in.tar"]), NOTHING])
def test_zsh(line: str, offered: list[str], folder: Path) -> None:
    (folder / "completion.zsh").write_text(run_ocisync("completion", "zsh").expect(0).stdout)
    (folder / ".zshrc").write_text(ZSHRC)
    (folder / "found").write_text("")
    env = shell_environment(folder) | {"ZDOTDIR": str(folder), "TERM": "dumb", "ASK": line}
    ours, theirs = pty.openpty()
    with subprocess.Popen(["zsh", "-d", "-i"], cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as zsh:
        os.close(theirs)
        try:
            while os.read(ours, 4096):
                pass
        except OSError:  # it has ended
            pass
        zsh.wait(60)
    os.close(ours)
    assert sorted((folder / "found").read_text().splitlines()) == offered
    if len(offered) == 1:  # it is put into the line; a space follows what is complete
        is_open = offered[0].endswith(("/", ":"))
        assert (folder / "buffer").read_text() == f"{line.rpartition(' ')[0]} {_whole(line, offered[0])}" + (
            "" if is_open else " "
        )


def _whole(line: str, found: str) -> str:
    """A file is offered without the folder that was typed."""
    folder, slash, _ = line.rpartition(" ")[2].rpartition("/")
    return f"{folder}{slash}{found}" if "./in" in line else found
