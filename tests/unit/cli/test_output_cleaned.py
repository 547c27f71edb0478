"""Nothing that came from outside steers a terminal, and no secret is printed, whichever way it goes."""

from __future__ import annotations

import json
import re

import pytest

from ocisync.cli.display.output import show, show_json, show_raw, warn
from ocisync.cli.display.progress import LineProgress

EVIL = "\x1b]0;title\x07\x1b[2J\u202eright\x9b31m\rX\x7f"
SECRET = "https://user:hunter22@registry.example/v2/?X-Amz-Signature=abcdef"
STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def check(text: str) -> None:
    assert STEERS.search(text) is None, repr(text)
    assert "hunter22" not in text
    assert "abcdef" not in text


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    show(f"a {EVIL} {SECRET}")
    warn(f"b {EVIL} {SECRET}")
    out, err = capsys.readouterr()
    check(out)
    check(err)
    assert (out[0], err[0]) == ("a", "b")
    assert "registry.example" in out


def test_json_stays_json_and_its_values_are_clean(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"authorization": "x", EVIL: [EVIL, {"url": SECRET}, 1, None, True], "pair": (1, 2.5)})
    out = capsys.readouterr().out
    check(out)
    document = json.loads(out)
    assert document["authorization"] == "x"
    assert document["pair"] == [1, 2.5]
    inner = next(value for value in document.values() if isinstance(value, list) and len(value) == 5)
    assert inner[2:] == [1, None, True]
    check(inner[0])
    check(inner[1]["url"])


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress()
    progress.tag_finished(f"target:{EVIL}", f"{EVIL}{SECRET}", "copied")
    progress.held_up(f"{EVIL} {SECRET}")
    check(capsys.readouterr().err)


def test_bytes_that_are_asked_for_are_not_touched(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    show_raw(EVIL.encode())
    assert capfdbinary.readouterr().out == EVIL.encode()
