"""The status page: made on the server from a snapshot; a small script only fetches it again from time to time.

Nothing on it can be changed without the daemon's token. Its policy lets no script or style run but the two files that
the daemon itself serves beside it, and everything that came from outside is escaped by the template.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from typing import TYPE_CHECKING

from aiohttp import web
from anyio import to_thread

from ocisync import __version__
from ocisync.daemon.status.cures import cure_of
from ocisync.daemon.status.failures import FailureNow
from ocisync.daemon.status.pictures import HEIGHT, WIDTH, draw_day
from ocisync.daemon.status.snapshot import FolderNow, RuleNow, Snapshot
from ocisync.drop.report import FAILED, RETRY, SKIPPED, UNREADABLE
from ocisync.logs import clean
from ocisync.model.text.quantities import duration_text, short_duration, size_text, time_text

if TYPE_CHECKING:  # who never looks at the page does not pay for the templates
    import jinja2
    from markupsafe import Markup

MOST_ROWS = 100  # of rules, until all are asked for
MOST_FAILURES = 30
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
_FILES = {"status.css": "text/css", "status.js": "text/javascript"}
_STATES = ("failing", "late", "running", "new", "fresh")
_MARKS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_PARTS = re.compile(r"(\d+)")

Look = Callable[[], Awaitable[Snapshot]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What of the rules is shown."""

    words: str = ""
    state: str = ""
    is_all: bool = False

    def selects(self, rule: RuleNow) -> bool:
        """Whether a rule is meant."""
        text = " ".join((rule.name, rule.source, *rule.targets)).lower()
        return self.state in ("", rule.state) and all(word in text for word in self.words.lower().split())


class StatusPage:
    """The page and its two files. `registry_page` answers who came by another name, through a front of the registry."""

    def __init__(
        self,
        look: Look,
        registry_page: Handler | None = None,
        is_from_front: Callable[[web.Request], bool] | None = None,
        *,
        can_change: bool = False,
    ) -> None:
        """`can_change`: who knows the token may have rules run."""
        self._look = look
        self._can_change = can_change
        self._registry_page = registry_page
        self._is_from_front = is_from_front or (lambda _: False)

    def routes(self) -> list[web.RouteDef]:
        """Where it stands."""
        return [web.get("/", self.answer), web.get("/status/{file}", self.answer_file)]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The page."""
        if self._is_from_front(request):
            if self._registry_page is not None:
                return await self._registry_page(request)
            return web.Response(status=421, text="this page is served to this machine only: ask for it as localhost\n")
        snapshot = await self._look()
        query = request.query
        wish = Wish(query.get("q", "")[:200], query.get("state", "")[:20], "all" in query)
        body = await to_thread.run_sync(partial(render_page, snapshot, wish, can_change=self._can_change))
        return web.Response(text=body, content_type="text/html", headers=_HEADERS | {"Cache-Control": "no-store"})

    async def answer_file(self, request: web.Request) -> web.StreamResponse:
        """The style or the script."""
        name = request.match_info["file"]
        if name not in _FILES:
            raise web.HTTPNotFound
        body = await to_thread.run_sync(_read, name)
        headers = _HEADERS | {"Cache-Control": "no-cache", "ETag": f'"{_digest(body)}"'}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(text=body, content_type=_FILES[name], headers=headers)


def render_page(snapshot: Snapshot, wish: Wish, *, can_change: bool = False) -> str:
    """The page as HTML; reads files of the package the first time."""
    counts = {state: sum(rule.state == state for rule in snapshot.rules) for state in _STATES}
    selected = sorted(filter(wish.selects, snapshot.rules), key=_rank)
    shown = selected if wish.is_all else selected[:MOST_ROWS]
    headline, mood = _tell_headline(snapshot, counts)
    return str(
        _template().render(
            snapshot=snapshot,
            wish=wish,
            rules=shown,
            selected=len(selected),
            counts=counts,
            states=_STATES,
            headline=headline,
            mood=mood,
            failures=group_failures(snapshot.failures)[:MOST_FAILURES],
            pictures=draw_day(snapshot.history, snapshot.now),
            width=WIDTH,
            height=HEIGHT,
            version=__version__,
            can_change=can_change,
            cure_of=cure_of,
            folder_counts=_count_inputs,
        )
    )


def group_failures(failures: Sequence[FailureNow]) -> list[tuple[FailureNow, list[FailureNow]]]:
    """The newest failure of each kind, and the others of that kind: a registry that is down is one trouble, not 500."""
    groups: dict[tuple[str, str], tuple[FailureNow, list[FailureNow]]] = {}
    for failure in failures:
        same = groups.get((failure.code, failure.message.replace(failure.what, "")))
        if same is None:
            groups[failure.code, failure.message.replace(failure.what, "")] = (failure, [])
        else:
            same[1].append(failure)
    return list(groups.values())


def _tell_headline(snapshot: Snapshot, counts: dict[str, int]) -> tuple[str, str]:
    """The most important thing in a few words, and how bad it is: good, slow or bad."""
    broken = counts["failing"] + sum(folder.state == "failing" for folder in snapshot.drops)
    all_of = len(snapshot.rules) + len(snapshot.drops)
    if snapshot.troubles:
        return "Not at work", "bad"
    if not all_of:
        return "No rules yet", "idle"
    if broken:
        return f"{broken} of {all_of} {'needs' if broken == 1 else 'need'} attention", "bad"
    if counts["late"]:
        return f"{counts['late']} of {all_of} {'is' if counts['late'] == 1 else 'are'} late", "slow"
    return ("Everything is fresh", "good") if counts["new"] == 0 else ("At work", "good")


def _count_inputs(folder: FolderNow) -> Sequence[tuple[str, int, str]]:
    """What lies in a folder, by how bad it is: a word, how many, and a class."""
    report = folder.report
    failed, skipped = report.count(FAILED, RETRY, UNREADABLE), report.count(SKIPPED)
    counts = (
        ("failed", failed, "bad"),
        ("waiting", len(report.inputs) - failed - skipped, "slow"),
        ("skipped", skipped, "idle"),
    )
    return [one for one in counts if one[1]]


def _rank(rule: RuleNow) -> tuple[int, list[tuple[int, int | str]]]:
    """What is wrong comes first, then by name, in natural order."""
    return _STATES.index(rule.state), [
        (0, int(part)) if part.isascii() and part.isdigit() else (1, part.lower()) for part in _PARTS.split(rule.name)
    ]


def _mark_code(text: str) -> Markup:
    """Text in which `this` is code."""
    from markupsafe import Markup, escape

    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def _clean_text(value: object) -> object:
    """What a template is about to show: every text is cleaned, but for markup of our own."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return _MARKS.sub("\ufffd", clean(value))


@cache
def _template() -> jinja2.Template:
    import jinja2

    files = jinja2.DictLoader({"status.html": _read("status.html")})
    pages = jinja2.Environment(
        loader=files, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
        finalize=_clean_text,
    )  # fmt: skip
    pages.filters |= {
        "code": _mark_code,
        "size": size_text,
        "span": duration_text,
        "short": short_duration,
        "clock": partial(time_text, is_local=True),
        "iso": lambda moment: time_text(moment).replace(" ", "T", 1),
        "plain": _clean_text,
    }
    return pages.get_template("status.html")


@cache
def _read(name: str) -> str:
    return (resources.files("ocisync.daemon.status") / "files" / name).read_text(encoding="utf-8")


@cache
def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
