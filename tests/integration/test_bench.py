"""The benchmarks run, with tiny workloads; what they measure then means nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cases import CASES
from bench.workloads import BUILDS, TINY, workload

_ROOT = Path(__file__).parents[2]
_EXPECTED = {
    "start": {("start", "--help"), ("start", "config check")},
    "many": {("many", "warm, no ledger, validates"), ("many", "moved"), ("many to directory", "warm, daemon")},
    "typical": {("typical", "warm"), ("typical", "moved"), ("typical to S3", "cold")},
    "big": {("big", "cold"), ("big to S3", "cold")},
    "single": {("single", "cold")},
    "archive": {("archive", "cold"), ("archive", "rebuilt")},
    "scale": {("scale", "cold"), ("scale", "warm")},
}


# `many` has every step of these, and `test_every_workload_can_be_made` their contents.
_LONG = ("typical", "big", "scale")
_CASES = [pytest.param(case, (), marks=[pytest.mark.prove] if case in _LONG else []) for case in CASES]
_BY_TLS = [pytest.param("single", ("--tls",)), pytest.param("typical", ("--tls",), marks=pytest.mark.prove)]


@pytest.mark.parametrize("name", BUILDS)
def test_every_workload_can_be_made(name: str, tmp_path: Path) -> None:
    made, again = (workload(name, tmp_path, TINY) for _ in range(2))
    assert made.tags
    assert made.tags == again.tags
    assert all(one.blobs for one in made.repositories.values())
    assert bool(made.moves) == (name in ("many", "typical"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("case", "more"), [*_CASES, *_BY_TLS])
def test_every_case_runs(case: str, more: tuple[str, ...], tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    options = [*more, "--tiny", "--runs", "1", "--work", str(tmp_path / "work"), "--json", str(found)]
    done = subprocess.run(
        [sys.executable, "-m", "bench", case, *options], capture_output=True, text=True, cwd=_ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = {(one["case"], one["phase"]) for one in json.loads(found.read_text()) if one["client"] == "ocisync"}
    assert runs >= _EXPECTED[case]
    assert "| number" in done.stdout
