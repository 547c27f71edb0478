"""What `top`, `status --watch` and `sync-now --wait` show while it changes. Imported only where it is shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ocisync.cli.display.output import printable, warn
from ocisync.logs import clean
from ocisync.model.text.quantities import duration_text, short_duration, size_text

_RANK = {"failing": 0, "late": 1, "running": 2, "new": 3, "fresh": 4}
_COLOURS = {"failing": "red", "late": "yellow", "running": "cyan", "new": "dim", "fresh": "green", "waiting": "yellow"}


@contextmanager
def open_screen() -> Iterator[Live]:
    """A screen of its own on a terminal, which is as it was before when it is closed."""
    with Live(console=Console(), screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        yield live


def draw_text(text: str) -> RenderableType:
    """Text as it is."""
    return Text(clean(text), no_wrap=True)


def draw_status(found: Mapping[str, Any], height: int) -> RenderableType:
    """The daemon's status in so many lines."""
    parts: list[RenderableType] = [_draw_head(found), Text()]
    jobs, failures = found["jobs"][: max(3, height // 4)], _group(found["failures"])[: max(2, height // 6)]
    if jobs:
        parts += [_draw_jobs(jobs), Text()]
    if failures:
        parts += [*(_draw_failure(*one) for one in failures), Text()]
    left = height - 4 - (len(jobs) + 2 if jobs else 0) - (len(failures) + 1 if failures else 0)
    rules = sorted(found["rules"].items(), key=lambda one: (_RANK.get(one[1]["state"], 9), one[0]))
    folders = sorted(found["drops"].items(), key=lambda one: (_RANK.get(one[1]["state"], 9), one[0]))
    parts.append(_draw_rules(found["now"], folders, rules, max(3, left)))
    return Group(*parts)


def _draw_head(found: Mapping[str, Any]) -> Text:
    everything = [*found["rules"].values(), *found["drops"].values()]
    failing = sum(one["state"] == "failing" for one in everything)
    late = sum(one["state"] == "late" for one in everything)
    if failing:
        state, colour = f"{failing} of {len(everything)} {'needs' if failing == 1 else 'need'} attention", "bold red"
    elif late:
        state, colour = f"{late} of {len(everything)} late", "bold yellow"
    else:
        state, colour = ("everything is fresh" if everything else "no rules"), "bold green"
    speed, day = sum(job["speed"] for job in found["jobs"]), found["day"]
    head = Text.assemble((f"ocisync {_plain(found['version'])}", "bold"), "  ", (state, colour))
    head.append(f"   {size_text(speed)}/s   24 h: {day['copied']:,} copied, {day['failed']:,} failed, ")
    return head.append(f"{size_text(day['bytes'])}   {found['queue']['waiting']} waiting")


def _draw_jobs(jobs: Sequence[Mapping[str, Any]]) -> Table:
    shown = Table(box=None, pad_edge=False, expand=True, header_style="dim")
    for name, how in (
        ("RUNNING", {"ratio": 3}),
        ("", {"width": 18}),
        ("MOVED", {}),
        ("SPEED", {}),
        ("NOW", {"ratio": 2}),
    ):
        shown.add_column(name, no_wrap=True, overflow="ellipsis", **how)  # type: ignore[arg-type]
    for job in jobs:
        known, moved = max(1, job["known"]), min(job["moved"], job["known"])
        state = ", ".join(job["images"]) or "looks up tags"
        if job["waits_for"]:
            state = f"waits for {job['waits_for']}"
        elif job["quiet"]:
            state = f"no bytes for {duration_text(job['quiet'])}"
        if job.get("daemon"):  # another of several
            state = f"{state}, at {job['daemon']}"
        shown.add_row(
            _text(job["target"].removeprefix("target:"), "cyan"),
            ProgressBar(total=known, completed=moved, width=18),
            f"{size_text(job['moved'])} of {size_text(job['known'])}",
            f"{size_text(job['speed'])}/s",
            _text(state, "yellow" if job["waits_for"] or job["quiet"] else ""),
        )
    return shown


def _draw_failure(failure: Mapping[str, Any], others: int) -> Text:
    from ocisync.drop.report import without_name

    more = f" and {others} more" if others else ""
    message = _plain(without_name(failure["what"], failure["message"]))
    line = Text.assemble(("✗ ", "red"), (_plain(failure["what"]), "bold"), more, f": {message}")
    line.append(f" [{_plain(failure['code'])}]", "dim")
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _draw_rules(now: float, folders: Sequence[tuple[str, Any]], rules: Sequence[tuple[str, Any]], height: int) -> Table:
    shown = Table(box=None, pad_edge=False, expand=True, header_style="dim")
    for name in ("", "RULE", "FRESH AS OF", "NEXT RUN", "LAST ERROR"):
        wide = {"RULE": 2, "LAST ERROR": 3}.get(name)
        shown.add_column(name, no_wrap=True, overflow="ellipsis", ratio=wide)
    rows = [(name, one, _next_of_folder(one)) for name, one in folders]
    rows += [(name, one, _next_of_rule(one, now)) for name, one in rules]
    for name, one, following in rows[:height]:
        fresh = f"{short_duration(max(0.0, now - one['last_success']))} ago" if one["last_success"] else "never"
        colour = _COLOURS.get(one["state"], "")
        shown.add_row(Text("●", colour), _text(name), fresh, following, _text(one["message"], "red"))
    if len(rows) > height:
        shown.add_row("", f"… and {len(rows) - height} more", "", "", "", style="dim")
    return shown


def _next_of_rule(rule: Mapping[str, Any], now: float) -> str:
    if rule["running"]:
        return "runs now"
    if rule["wanted"]:
        return "is next"
    if rule["next_due"] is None:
        return "-"
    return f"in {short_duration(rule['next_due'] - now)}" if rule["next_due"] > now + 1 else "now"


def _next_of_folder(folder: Mapping[str, Any]) -> str:
    waiting = sum(one["state"] in ("waiting", "publishing") for one in folder["inputs"])
    return f"{waiting} waiting" if waiting else "watches"


def _group(failures: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], int]]:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in failures:
        groups.setdefault((one["code"], one["message"].replace(one["what"], "")), []).append(one)
    return [(same[0], len(same) - 1) for same in groups.values()]


def _text(text: object, style: str = "") -> Text:
    return Text(_plain(text), style)


def _plain(text: object) -> str:
    return printable(clean(str(text)))


class WaitDisplay:
    """What `sync-now --wait` shows on standard error: bars on a terminal, a line for each change elsewhere."""

    def __init__(self, rules: Sequence[str]) -> None:
        self._rules = rules
        self._live: Live | None = None
        self._told: dict[str, str] = {}

    def __enter__(self) -> WaitDisplay:
        if sys.stderr.isatty():
            self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, found: Mapping[str, Any]) -> None:
        """Show how far the rules are."""
        jobs = [job for job in found["jobs"] if job["rule"] in self._rules]
        if self._live is not None:
            waiting = sum(found["queue"]["by_rule"].get(rule, 0) for rule in self._rules)
            head = Text(f"{len(jobs)} at work, {waiting} waiting", "dim")
            self._live.update(Group(head, _draw_jobs(jobs)) if jobs else head, refresh=True)
            return
        for rule in self._rules:
            state = _next_of_rule(found["rules"][rule], found["now"]) if rule in found["rules"] else ""
            if state in ("runs now", "is next") and self._told.get(rule) != state:
                warn(f"{printable(rule)}: {state}")
                self._told[rule] = state
