"""Logging: structlog's key-value events for people or machines, with secrets masked and terminals kept safe.

Modules write `log = structlog.get_logger()`; only the command line calls `configure_logging`. In other
people's programs events go to the logger `ocisync` of the standard library.

Two things are done to every text that is logged, and by `clean` to what commands print:

- **Redaction.** Secrets of the configuration are known by their text (in all spellings that URLs and JSON give them);
  tokens, signatures and Authorization headers that only travel are known by their shape.
- **Escaping.** What a remote server or a file name says may contain control characters that move the cursor, or turn
  the direction of text around. They are spelled out, so that no text steers a terminal or forges a line of the log.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal, TextIO, cast
from urllib.parse import quote, quote_plus


@contextmanager
def _hide_module(module: str) -> Iterator[None]:
    """Let nobody find a module for the time of the block, if it is not loaded already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # the import system's own mark
    try:
        yield
    finally:
        del sys.modules[module]


with _hide_module("rich"):  # structlog would load it for tracebacks that our logs do not show: a twentieth of the start
    import structlog

MASK = "***"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_MIN_SECRET = 4  # characters; shorter ones would mask half of every line
_MAX_DEPTH = 6  # of nested values in an event
_SHORT = 200  # characters; such texts come again and again, and are cleaned once
_SECRET_KEY = re.compile(
    r"(?:passw(?:or)?d|token|secret|authorization|signature|access_?key(?:_?id)?|api_?key|private_?key|credentials?"
    r"|cookie|(?:^|_)auth)\Z"
)
_PARAMETERS = (
    r"(?:X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|Credential|sig|"
    r"(?:access_|refresh_|identity_|id_|session_)?token|password|client_secret|secret)"
)
_REDACTIONS = (
    (
        re.compile(r"(authorization[\"']?\s*[:=,]\s*)(?:b?\"[^\"]*\"|b?'[^']*'|[^\r\n\"']+)", re.IGNORECASE),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b((?i:bearer|basic))\s+(?![a-z_]+=\")(?=[^\s\"',]*[0-9A-Z=])[A-Za-z0-9+/=._~-]{6,}"), rf"\1 {MASK}"),
    # a path of a file has one slash only of a URL that was written in its place
    (re.compile(r"(://|\bhttps?:/)[^/\s\"'<>?#]+@"), rf"\1{MASK}@"),
    (re.compile(rf"(?<![A-Za-z0-9_-])({_PARAMETERS}=)[^&\s\"'<>#,;)]+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(rf"([\"']{_PARAMETERS}[\"']\s*:\s*)(?:\"[^\"]*\"|'[^']*')", re.IGNORECASE), rf'\1"{MASK}"'),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"), MASK),
)
_IN_SECRETS = re.compile(r"[\s@=\"']")
# Control characters, those that turn text around, those that are not seen (marks of direction, tags), and halves of
# characters (file names of other encodings have them): what a remote server sent must not steer a terminal or hide
# words from who reads it, and no stream can write a half.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f]"
)


class _Secrets:
    """The literal secrets of this process, as one expression."""

    def __init__(self) -> None:
        self.spellings: set[str] = set()
        self.expression: re.Pattern[str] | None = None

    def add(self, value: str) -> None:
        """Add a secret in every spelling that a URL, JSON or a repr may give it."""
        if len(value) < _MIN_SECRET:
            return
        spellings = {
            value,
            quote(value, safe=""),
            quote(value),
            quote_plus(value),
            json.dumps(value)[1:-1],
            repr(value)[1:-1],
        }
        if not spellings <= self.spellings:
            self.spellings |= spellings
            longest_first = sorted(self.spellings, key=len, reverse=True)
            self.expression = re.compile("|".join(map(re.escape, longest_first)))
            _clean_short.cache_clear()


_SECRETS = _Secrets()


def register_secret(value: str) -> None:
    """Mask this text wherever it appears from now on; below four characters it is left alone."""
    _SECRETS.add(value)


def register_secrets(values: Iterable[str]) -> None:
    """Register each of several."""
    for value in values:
        register_secret(value)


def redact(text: str) -> str:
    """The text without registered secrets, credentials in headers and URLs, tokens and signatures."""
    if _SECRETS.expression:
        text = _SECRETS.expression.sub(MASK, text)
    if _is_suspicious(text):
        for expression, replacement in _REDACTIONS:
            text = expression.sub(replacement, text)
    return text


def _is_suspicious(text: str) -> bool:
    """Whether a text has something that each of the redactions needs; names and digests have nothing."""
    return _IN_SECRETS.search(text) is not None or "eyJ" in text or "authorization" in text.lower()


def escape_controls(text: str) -> str:
    """The text with control characters spelled out; newlines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def configure_logging(
    level: str = "info",
    format: Literal["console", "json"] = "console",  # noqa: A002
    stream: TextIO | None = None,
) -> None:
    """Send structlog's events at `level` and above, and the standard library's warnings, to a stream (stderr)."""
    place = sys.stderr if stream is None else stream
    renderer = _make_renderer(format, place)
    target = LossyStream(place, is_json=format == "json")
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *_SHARED, _mask, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", target)),
        cache_logger_on_first_use=False,
    )
    _configure_standard(target, renderer)


def configure_library_logging() -> None:
    """Send events to the standard library's logger `ocisync`, unless the program has configured structlog itself.

    Unconfigured, structlog prints every event on standard output, which belongs to the program, and without the masks.
    """
    if structlog.is_configured():
        return
    logger = logging.getLogger("ocisync")
    logger.addHandler(logging.NullHandler())  # a program that configures no logging sees nothing
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            _mask,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=lambda *_: logger,
        cache_logger_on_first_use=False,
    )


class LossyStream:
    """A stream for logs that never fails: what cannot be written is lost, and how much is told later.

    A full disk or a closed pipe must cost lines of the log and nothing else. Without this, `log.info` in the middle of
    a copy would raise OSError, and the daemon would end because nobody reads what it says.
    """

    def __init__(self, stream: TextIO, *, is_json: bool = False) -> None:
        self._stream = stream
        self._is_json = is_json
        self._lost = 0  # lines since the last one that was written

    def write(self, text: str) -> int:
        """Write what can be written, after a line that says how many were lost before it."""
        try:
            if self._lost:
                self._stream.write(self._format_loss())
                self._stream.flush()
                self._lost = 0
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._lost += 1
        return len(text)

    def flush(self) -> None:
        """Nothing: each line is flushed when it is written."""

    def _format_loss(self) -> str:
        facts = {"event": "log.lines_lost", "lines": self._lost, "level": "warning"}
        return (json.dumps(facts) if self._is_json else f"[warning  ] log.lines_lost lines={self._lost}") + "\n"


def _configure_standard(stream: LossyStream, renderer: structlog.typing.Processor) -> None:
    """Other libraries' warnings, through the same masks."""
    handler: logging.StreamHandler[LossyStream] = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_SHARED],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _mask, renderer],
        )
    )
    root = logging.getLogger()
    for old in [one for one in root.handlers if getattr(one, "is_ocisync", False)]:
        root.removeHandler(old)
    handler.is_ocisync = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(logging.WARNING)


def _make_renderer(format: str, stream: TextIO) -> structlog.typing.Processor:  # noqa: A002
    if format == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=_has_colours(stream), exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
    )


def _has_colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Redact every value; objects become text here, so that no renderer can show what is in them."""
    return {key: _clean_value(key, value, 0) for key, value in event.items()}


def _clean_value(key: str, value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _is_secret(key):
        return MASK
    if isinstance(value, (int, float)):
        return value
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {clean(str(name)): _clean_value(str(name), inner, depth + 1) for name, inner in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, (list, tuple, set, frozenset)):
        return [_clean_value("", inner, depth + 1) for inner in value]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return clean(value if isinstance(value, str) else str(value))


def clean(text: str) -> str:
    """Redacted and printable."""
    return _clean_short(text) if len(text) <= _SHORT else escape_controls(redact(text))


def clean_document(value: object) -> object:
    """A JSON document with all its texts cleaned, keys included."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): clean_document(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clean_document(inner) for inner in value]
    return value


@lru_cache(2000)
def _clean_short(text: str) -> str:
    return escape_controls(redact(text))


@lru_cache(500)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key.lower().replace("-", "_")) is not None


_SHARED: tuple[structlog.typing.Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    structlog.processors.format_exc_info,
)
