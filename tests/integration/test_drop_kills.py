"""SIGKILL while files are cleared away: the rerun ends as an uninterrupted run does, and publishes nothing twice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.servers.command import run_module

SET = ("drop/app/1/linux.amd64.tar", "drop/app/1/linux.arm64.tar")
FILES = (*SET, "drop/tool/1.tar")


def _run(root: Path, done: str, verdict: str, kill_at: str = "") -> int:
    env = {"OCISYNC_KILL_AT": kill_at}
    return run_module("tests.integration.drop_pass", root, done, verdict, env=env).code


def _prepare(root: Path, files: tuple[str, ...] = FILES) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the bytes of {name}")
    return root


def _outcome(root: Path) -> tuple[dict[str, str], list[str]]:
    tree = {
        str(path.relative_to(root)): "" if path.suffix == ".txt" else path.read_text()  # reasons tell the time
        for path in sorted((root / "drop").rglob("*"))
        if path.is_file()
    }
    return tree, sorted((root / "runs").read_text().split())


@pytest.mark.parametrize("verdict", ["good", "bad"])
@pytest.mark.parametrize("done", ["move", "delete"])
def test_fault_57_a_kill_while_files_are_cleared_away_changes_nothing_in_the_end(
    tmp_path: Path, done: str, verdict: str
) -> None:
    straight = _prepare(tmp_path / "straight", SET)
    assert _run(straight, done, verdict) == 0
    expected = _outcome(straight)
    assert expected[1] == ["local/app"]
    for number in range(1, 2 * len(SET) + 1):
        root = _prepare(tmp_path / str(number), SET)
        assert _run(root, done, verdict, f"archive.move@{number}") == -signal.SIGKILL
        assert _run(root, done, verdict) == 0
        assert _outcome(root) == expected


@pytest.mark.parametrize("done", ["keep", "move", "delete"])
def test_fault_57_a_kill_before_the_record_loses_no_input(tmp_path: Path, done: str) -> None:
    straight = _prepare(tmp_path / "straight")
    assert _run(straight, done, "good") == 0
    for number in (1, 2):
        root = _prepare(tmp_path / str(number))
        assert _run(root, done, "good", f"ledger@{number}") == -signal.SIGKILL
        assert _run(root, done, "good") == 0
        assert _outcome(root)[0] == _outcome(straight)[0]
        assert set(_outcome(root)[1]) == {"local/app", "local/tool"}
