"""Text from outside, through every surface of this process that shows or sends text to people: one table."""

from __future__ import annotations

import io
import json
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from rich.console import Console

from ocisync.cli.display.live import draw_status, draw_text
from ocisync.cli.display.output import show, show_json, warn
from ocisync.cli.display.progress import LineProgress
from ocisync.cli.display.progress_bars import TerminalProgress
from ocisync.cli.display.signatures import verdict_json, verdict_text
from ocisync.cli.engine import _print_status
from ocisync.daemon.responses import json_answer, text_answer
from ocisync.daemon.status.page import Wish, render_page
from ocisync.daemon.status.snapshot import as_document
from ocisync.daemon.systemd import Notifier
from ocisync.drop.report import FAILED, RETRY, SKIPPED, UNREADABLE, WAITING
from ocisync.drop.rule import InputReport, InputVerdict
from ocisync.engine.status import EngineNow, UnitNow, WorkerNow
from ocisync.logs import configure_logging
from ocisync.notify.events import Notice, StateTracker
from ocisync.notify.messages import as_json, as_mail, as_slack, as_teams, as_text, headline
from ocisync.sync.judging.acceptance import SignatureVerdict
from ocisync.sync.reports import Failure
from tests.status_samples import busy

EVIL = (
    "\x1b]0;title\x07\x1b[2J\u202egnp\u2066\u200f\u061c\ufeff\U000e0041\x9b31m\r\x7f\x00\ud800<script>x</script>[red]"
    " https://user:hunter22@h.example/?X-Amz-Signature=abcdef0123\n2026-11-30T00:00:00Z [info     ] forged.line"
)
STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
KEPT = frozenset((FAILED, RETRY, SKIPPED, UNREADABLE, WAITING, "publishing"))


def poison(value: Any) -> Any:
    """The same value, all its texts from outside."""
    if isinstance(value, str):
        return value if value in KEPT or not value else f"{value}{EVIL}"
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: poison(getattr(value, one.name)) for one in fields(value) if one.init})
    if isinstance(value, Mapping):
        return {poison(key): poison(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(poison(inner) for inner in value)
    return value


def draw(thing: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=400, color_system=None).print(thing)
    return out.getvalue()


def notices() -> list[Notice]:
    tracker, failure = StateTracker(), Failure("input.invalid", EVIL, "quarantine")
    return list(tracker.see_input(InputReport(EVIL, EVIL, (EVIL,), InputVerdict.FAILED, failure=failure), 1.0))


def log_line(form: Any) -> str:
    out = io.StringIO()
    try:
        configure_logging("info", form, out)
        structlog.get_logger().info(
            "some.event", text=EVIL, deep={EVIL: [EVIL, {"x": EVIL}]}, raw=EVIL.encode("utf-8", "replace")
        )
        structlog.get_logger().error("other.event", error=ValueError(EVIL))
    finally:
        structlog.reset_defaults()
    assert len(out.getvalue().splitlines()) == 2, "no line is forged"
    return out.getvalue()


def systemd_status() -> str:
    path = "\0ocisync-test-" + __name__
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        Notifier(path).status(EVIL)
        said = listener.recv(65536).decode()
    assert said.startswith("STATUS=")
    assert "\n" not in said, "no second variable is set"
    return said


def engine_status() -> None:
    worker = WorkerNow("w", 1.0, 1.0, 4, "l", "g", True)
    units = [UnitNow("r", "i", 1.0, worker="w"), UnitNow("r", "i", 1.0, reason="for a slot")]
    _print_status(poison(EngineNow([worker], units[:1], units[1:], 0, None)))


def line_progress() -> None:
    progress = LineProgress()
    progress.tag_finished(f"target:{EVIL}", EVIL, "copied")
    progress.held_up(EVIL)


def bars() -> None:
    with TerminalProgress() as shown:
        shown.tag_finished(f"target:{EVIL}", EVIL, "copied")
        shown.held_up(EVIL)


def verdicts() -> None:
    for is_valid in (True, False):
        verdict = SignatureVerdict(is_valid, "verify.untrusted", EVIL, EVIL, EVIL, 1.0)
        show(verdict_text(verdict))
        show_json(verdict_json(verdict))


SURFACES: dict[str, Callable[[], str | None]] = {
    "standard output": lambda: show(EVIL),
    "standard error": lambda: warn(EVIL),
    "json": lambda: show_json({EVIL: [EVIL, {"x": EVIL}]}),
    "progress, lines": line_progress,
    "progress, bars": bars,
    "signatures": verdicts,
    "engine status": engine_status,
    "status --watch": lambda: draw(draw_text(EVIL)),
    "top": lambda: draw(draw_status(json.loads(json_answer(as_document(poison(busy()))).text or ""), 100)),
    "status page": lambda: render_page(poison(busy()), Wish(), can_change=True),
    "/v1/status": lambda: json_answer(as_document(poison(busy()))).text,
    "a refusal over HTTP": lambda: text_answer(400, EVIL).text,
    "log, console": lambda: log_line("console"),
    "log, JSON": lambda: log_line("json"),
    "systemd": systemd_status,
    "notice, headline": lambda: headline(notices(), "host"),
    "notice, text": lambda: as_text(notices()),
    "notice, webhook": lambda: json.loads(as_json(notices(), "host", 1.0))["notices"][0]["text"],
    "notice, Slack": lambda: json.dumps(json.loads(as_slack(notices(), "host")), ensure_ascii=False),
    "notice, Teams": lambda: json.dumps(json.loads(as_teams(notices(), "host")), ensure_ascii=False),
    "notice, mail": lambda: cast("str", as_mail(notices(), "host", "a@b.example", ["c@d.example"]).get_content()),
}


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())
def test_no_text_from_outside_steers_or_tells_a_secret(
    surface: Callable[[], str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    returned = surface() or ""
    out, err = capsys.readouterr()
    said = returned + out + err
    assert "gnp" in said or "\\u" in said, "it does come there"
    assert STEERS.search(said) is None, repr(said)
    assert "hunter22" not in said
    assert "abcdef0123" not in said


def test_a_page_shows_no_markup_from_outside() -> None:
    assert "<script>x" not in render_page(poison(busy()), Wish(), can_change=True)


def test_the_title_of_a_notice_has_one_line() -> None:
    (notice,) = notices()
    assert "\n" not in notice.title


def test_nothing_is_printed_past_the_functions_that_clean() -> None:
    """`print` and the streams are used where text is cleaned, and nowhere else."""
    ways = re.compile(
        r"(?<![\w.])print\(|sys\.std(?:out|err)\.write|typer\.echo|click\.echo|secho\(|console\.print\(|Console\("
    )
    root = Path(__file__).parents[2] / "ocisync"
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if ways.search(path.read_text("utf-8"))}
    assert found == {"cli/display/output.py", "cli/display/live.py", "cli/display/progress_bars.py", "cli/top.py"}
