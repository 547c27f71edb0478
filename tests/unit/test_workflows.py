"""The workflows for GitHub: well-formed, and of commands that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"(?m)^([a-z][a-z ]*):", (ROOT / "Makefile").read_text().replace(".PHONY", "")))
COMMANDS = {name for line in TARGETS for name in line.split()}


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(workflow.read_text())["jobs"])


def scripts(workflow: Path) -> list[str]:
    return [step["run"] for job in jobs(workflow).values() for step in job["steps"] if "run" in step]


def test_there_are_two() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "release.yml"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_steps_and_jobs_hang_together(workflow: Path) -> None:
    found = jobs(workflow)
    for job in found.values():
        assert set([job["needs"]] if "needs" in job else []) <= found.keys()
        assert job["timeout-minutes"] <= 360
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[\w./-]+", step.get("uses", "a/b@v1"))
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_what_is_run_is_there(workflow: Path) -> None:
    for script in scripts(workflow):
        plain = re.sub(r"\$\{\{.*?\}\}", "x", script)
        assert subprocess.run(["bash", "-n", "-c", plain], check=False).returncode == 0, script
        assert set(re.findall(r"\bmake ([a-z]+)", script)) - {"python"} <= COMMANDS
        for tool, argument in re.findall(r"tools/(setup|package) (\w+)", script):
            assert re.search(rf"(?m)^{argument}\(\) {{|\b{argument}\b.*\)", (ROOT / "tools" / tool).read_text())


def test_everything_that_is_published_was_tested_before() -> None:
    release = jobs(ROOT / ".github" / "workflows" / "release.yml")
    assert (release["publish"]["needs"], release["build"]["needs"]) == ("build", "test")
    assert {step.get("run") for step in release["test"]["steps"]} >= {"make test"}
    assert release["publish"]["environment"] == "release"
