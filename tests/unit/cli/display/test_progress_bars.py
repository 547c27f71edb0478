"""Progress on a terminal."""

from __future__ import annotations

import pytest

from ocisync.cli.display.progress_bars import TerminalProgress


def test_names_from_outside_are_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress() as shown:
        shown.tag_finished("target:local/app", "1\x1b[31m[bold]x", "copied")
        shown.tag_finished("target:local/app", "2", "failed")
        shown.tag_finished("target:local/app", "3", "unchanged")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert lines == ["local/app:1?[31m[bold]x copied", "local/app:2 failed"]
