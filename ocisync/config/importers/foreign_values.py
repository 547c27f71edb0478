"""Reading other tools' values: every key is taken once, and what is left over is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ocisync.config.diagnostics import KeyPath
from ocisync.config.importers.draft import DraftEntry
from ocisync.config.parsers import format_duration, parse_duration
from ocisync.config.yaml_document import Document, Value
from ocisync.errors import InvalidName
from ocisync.model.cron import parse_cron, parse_zone
from ocisync.model.platform import parse_platform

_HARMLESS = ("not needed", "see ", "the order of")  # so begins what tells that nothing is lost
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)\Z")
_EVERY = re.compile(r"@every\s+(\S+)\Z")


def keep_spelling(document: Document) -> Value:
    """A document's value with its numbers as they are written: the tag 3.10 is not 3.1."""
    return _keep_spelling(document.value, document, ())


def _keep_spelling(value: Value, document: Document, path: KeyPath) -> Value:
    if isinstance(value, dict):
        return {key: _keep_spelling(inner, document, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_keep_spelling(inner, document, (*path, at)) for at, inner in enumerate(value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return document.texts.get(path, str(value))
    return value


@dataclass(slots=True)
class Reader:
    """A mapping of a foreign file."""

    left: dict[str, Value] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Value) -> Reader:
        """A reader of a mapping; of anything else, an empty one."""
        return cls(dict(value) if isinstance(value, dict) else {})

    def take(self, key: str) -> Value:
        """A value, or None."""
        return self.left.pop(key, None)

    def text(self, key: str) -> str:
        """A text; empty when there is none."""
        return as_text(self.take(key))

    def texts(self, key: str) -> list[str]:
        """A list of texts, also of one."""
        return as_texts(self.take(key))

    def flag(self, key: str) -> bool:
        """Whether it is true."""
        return as_text(self.take(key)).lower() == "true"

    def inner(self, key: str) -> Reader:
        """A mapping inside."""
        return Reader.of(self.take(key))

    def each(self, key: str) -> list[Reader]:
        """The mappings of a list."""
        value = self.take(key)
        return [Reader.of(one) for one in value] if isinstance(value, list) else []

    def tell_rest(self, entry: DraftEntry, known: Mapping[str, str], prefix: str = "") -> None:
        """A comment for each key that nobody took: why it has no equivalent, where that is known."""
        for key, value in self.left.items():
            if not key.startswith("x-") and value not in (None, "", [], {}):
                why = known.get(key, "not known to this import; see docs/configuration.md")
                tell = entry.note if why.startswith(_HARMLESS) else entry.lose
                tell(f"{prefix}{key}: {why}")


def as_text(value: Value) -> str:
    """A scalar as text; empty for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else ""


def as_texts(value: Value) -> list[str]:
    """A list's scalars as texts, also of a single one."""
    found = value if isinstance(value, list) else [value]
    return [text for text in map(as_text, found) if text]


def set_duration(entry: DraftEntry, key: str, text: str) -> None:
    """A duration as Go writes it, or a comment."""
    try:
        entry.values[key] = format_duration(parse_duration(text.replace("us", "ms")))
    except ValueError:
        entry.lose(f"{key}: {text} is not a duration that ocisync knows")


def set_schedule(entry: DraftEntry, text: str) -> None:
    """A cron expression, perhaps with its zone, or an interval in its disguise."""
    if every := _EVERY.match(text):
        set_duration(entry, "interval", every[1])
        return
    zoned = _ZONE.match(text)
    zone, fields = (zoned[1], zoned[2]) if zoned else ("", text)
    try:
        entry.values["schedule"] = parse_cron(fields)
        if zone:
            parse_zone(zone)
            entry.values["time_zone"] = zone
    except ValueError as exc:
        entry.lose(f"schedule: {exc}")


def set_platforms(entry: DraftEntry, platforms: list[str], is_registry: bool) -> None:
    """Restrict to platforms; a registry as target wants to know what becomes of the index."""
    try:
        entry.values["platforms"] = [str(parse_platform(one)) for one in platforms]
    except InvalidName as exc:
        entry.lose(f"platforms: {exc.message}")
        return
    if is_registry:
        entry.values["rewrite_index"] = True
        entry.note("platforms: the target gets an index of these platforms, whose digest is not the source's")
