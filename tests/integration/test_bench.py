"""The benchmarks run, with tiny workloads; what they measure then means nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cases import CASES

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


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES)
def test_every_case_runs(case: str, tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    options = ("--tiny", "--runs", "1", "--work", tmp_path / "work", "--json", found)
    done = subprocess.run(
        [sys.executable, "-m", "bench", case, *options], capture_output=True, text=True, cwd=_ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = {(one["case"], one["phase"]) for one in json.loads(found.read_text()) if one["client"] == "ocisync"}
    assert runs >= _EXPECTED[case]
    assert "| number" in done.stdout
