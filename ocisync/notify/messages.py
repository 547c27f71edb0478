"""Several notices as one message, in the formats of those who take it. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from ocisync import __version__
from ocisync.notify.events import EVENTS, FAILURE, LATE, RECOVERY, REFUSED, TEST, Notice

MOST = 20  # notices that one message lists; the others are counted
_LINE = 500  # characters of a text
_MARKS = {FAILURE: "🔴", RECOVERY: "🟢", LATE: "🟠", REFUSED: "⛔", TEST: "⚪"}
_WORDS = {FAILURE: "failing", RECOVERY: "well again", LATE: "late", REFUSED: "refused", TEST: "tested"}


def headline(notices: Sequence[Notice], host: str) -> str:
    """The message in one line."""
    if len(notices) == 1:
        return f"{notices[0].title} · {host}"
    counts = Counter(notice.event for notice in notices)
    return f"{', '.join(f'{counts[event]} {_WORDS[event]}' for event in EVENTS if counts[event])} · {host}"


def as_text(notices: Sequence[Notice]) -> str:
    """Plain text, a paragraph for each notice."""
    lines = []
    for notice in notices[:MOST]:
        code = f" [{notice.code}]" if notice.code and notice.code != LATE else ""
        lines.append(f"{notice.title}{f': {_cut(notice.text)}' if notice.text else ''}{code}")
    return "\n\n".join([*lines, *_rest(notices)])


def as_json(notices: Sequence[Notice], host: str, now: float) -> bytes:
    """The document of a plain webhook."""
    document = {
        "source": "ocisync",
        "version": __version__,
        "host": host,
        "at": round(now, 3),
        "text": headline(notices, host),
        "notices": [
            {
                "event": notice.event,
                "rule": notice.rule,
                "what": notice.what,
                "text": notice.text,
                "code": notice.code or None,
                "at": round(notice.at, 3),
            }
            for notice in notices
        ],
    }
    return json.dumps(document).encode()


def as_slack(notices: Sequence[Notice], host: str) -> bytes:
    """For an incoming webhook of Slack, and of Mattermost and Rocket.Chat, which take the same."""
    blocks: list[dict[str, object]] = [_slack_block(f"*{_escape_slack(headline(notices, host))}*")]
    for notice in notices[:MOST]:
        text = f"\n{_escape_slack(_cut(notice.text))}" if notice.text else ""
        blocks.append(_slack_block(f"{_MARKS[notice.event]} *{_escape_slack(notice.title)}*{text}"))
    blocks += [_slack_block(line) for line in _rest(notices)]
    return json.dumps({"text": _escape_slack(headline(notices, host)), "blocks": blocks}).encode()


def as_teams(notices: Sequence[Notice], host: str) -> bytes:
    """For a workflow's webhook of Microsoft Teams: an adaptive card."""
    body: list[dict[str, object]] = [_teams_text(headline(notices, host), weight="Bolder", size="Medium")]
    for notice in notices[:MOST]:
        body.append(_teams_text(f"{_MARKS[notice.event]} {notice.title}", weight="Bolder", separator=True))
        if notice.text:
            body.append(_teams_text(_cut(notice.text), isSubtle=True))
    body += [_teams_text(line) for line in _rest(notices)]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "msteams": {"width": "Full"},
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return json.dumps({"type": "message", "attachments": [attachment]}).encode()


def as_mail(notices: Sequence[Notice], host: str, sender: str, recipients: Sequence[str]) -> EmailMessage:
    """A mail in plain text."""
    mail = EmailMessage()
    mail["Subject"] = f"[ocisync] {' '.join(headline(notices, host).split())[:150]}"
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Date"] = formatdate(time.time())
    mail["Message-ID"] = make_msgid(domain="ocisync.invalid")
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(f"{as_text(notices)}\n\n-- \nocisync {__version__} on {host}\n")
    return mail


def sign(body: bytes, secret: str) -> str:
    """The signature of a body as GitHub writes it."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def _rest(notices: Sequence[Notice]) -> list[str]:
    left = len(notices) - MOST
    return [f"… and {left} more; the status page lists what fails"] if left > 0 else []


def _cut(text: str) -> str:
    return text if len(text) <= _LINE else f"{text[: _LINE - 1]}…"


def _escape_slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _slack_block(text: str) -> dict[str, object]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:2900]}}


def _teams_text(text: str, **facts: object) -> dict[str, object]:
    """Teams reads Markdown in it: what a registry says must be no link or mention."""
    plain = "".join(f"\\{char}" if char in "\\`*_[]<>()#" else char for char in text)
    return {"type": "TextBlock", "text": plain, "wrap": True, **facts}
