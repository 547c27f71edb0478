"""The manual pages: of every command, with every option, and nothing that roff does not understand."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.servers.command import run_ocisync
from tools.manpages import pages

PAGES = pages()


def test_every_command_of_the_help_has_a_page() -> None:
    commands = run_ocisync("--help").expect(0).stdout.partition("Mirroring by rules:")[2]
    listed = re.findall(r"(?m)^  ([a-z-]+) +\S", commands)
    assert listed
    for command in listed:
        assert f"ocisync-{command}.1" in PAGES or any(name.startswith(f"ocisync-{command}-") for name in PAGES), command
    assert "ocisync-config-check.1" in PAGES


def test_a_page_has_every_option_of_the_help() -> None:
    options = set(re.findall(r"(?m)^ +(?:-\w, )?(--[a-z-]+)", run_ocisync("copy", "--help").expect(0).stdout))
    assert options >= {"--platform", "--referrers", "--config", "--help"}
    shown = PAGES["ocisync-copy.1"].replace("\\-", "-")
    assert [option for option in options if option not in shown] == []


@pytest.mark.parametrize("name", ["ocisync.1", "ocisync-copy.1", "ocisync-config-import.1"])
def test_roff_has_no_complaint_and_readers_see_text(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(PAGES[name])
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-K", "utf8", file], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    text = re.sub(".\b", "", done.stdout)  # bold is a letter printed over itself
    assert name == "ocisync.1" or "EXAMPLES" in text
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS"):
        assert title in text
