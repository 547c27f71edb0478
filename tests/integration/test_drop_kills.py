"""SIGKILL while files are cleared away: the rerun ends as an uninterrupted run does, and publishes nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PASS = """
import sys
from pathlib import Path
import anyio
from ocisync.daemon.clock import SystemClock
from ocisync.drop.rule import DropRule, DropTarget
from ocisync.drop.process import InputProcessor
from ocisync.drop.watcher import DropWatcher
from ocisync.state.open import open_state
from ocisync.sync.reports import Failure, JobReport
from tests.drop_archives import NamedArchives

class Later(SystemClock):
    def wall(self):
        return super().wall() + 60

ROOT, DONE, BAD = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "bad"

async def run(job):
    with (ROOT / "runs").open("a") as runs:
        runs.write(job.lock_name + "\\n")
    report = JobReport(job.rule, str(job.source), str(job.target))
    report.failure = Failure("archive.invalid", "it is no archive", "quarantine") if BAD else None
    return report

async def main():
    rule = DropRule("builds", ROOT / "drop", (DropTarget("local"),), done=DONE, stable=0.0, settle=0.0)
    async with open_state(ROOT / "state") as state:
        processor = InputProcessor(rule, state.inputs, NamedArchives(), run, Later())
        for _ in range(2):
            await DropWatcher(processor).pass_once(patience=False)

anyio.run(main)
"""
SET = ("drop/app/1/linux.amd64.tar", "drop/app/1/linux.arm64.tar")
FILES = (*SET, "drop/tool/1.tar")


def _run(root: Path, done: str, verdict: str, kill_at: str = "") -> int:
    command = [sys.executable, "-c", PASS, str(root), done, verdict]
    return subprocess.run(command, env={**os.environ, "OCISYNC_KILL_AT": kill_at}, check=False).returncode


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
