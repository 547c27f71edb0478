"""Which names are left out of a packed tree."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ocisync.errors import ConfigError


class Excludes:
    """Patterns with `*`, `?`, `[…]` (within one name) and `**` (across folders).

    A pattern with a slash is matched from the root, one without against every name. A folder that is left out takes
    everything in it along.

    Raises:
        ConfigError: a range in brackets is malformed.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        regex = "|".join(_translate(text) for text in patterns if text.strip("/"))
        try:
            self._regex = re.compile(regex or r"(?!)", re.DOTALL)
        except re.error as exc:
            raise ConfigError(f"an exclude pattern is malformed: {exc}") from exc

    def match(self, path: bytes) -> bool:
        """Whether a path from the root is left out."""
        return self._regex.fullmatch(path.decode("utf-8", "surrogateescape")) is not None


def parse_exclude_file(text: str) -> list[str]:
    """One pattern per line; empty lines and those that begin with # say nothing."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _translate(pattern: str) -> str:
    from_root = "/" in pattern.rstrip("/")
    parts = re.split(r"(\*\*/?|\*|\?|\[!?\]?[^\]]*\])", pattern.strip("/"))
    body = "".join(_piece(part) for part in parts)
    return body if from_root else f"(?:.*/)?{body}"


def _piece(part: str) -> str:
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if part in known:
        return known[part]
    if part.startswith("[") and part.endswith("]") and len(part) > 2:
        inner = part[1:-1].replace("\\", "\\\\")
        return f"(?!/)[^{inner[1:]}]" if inner.startswith("!") else f"(?!/)[{inner}]"
    return re.escape(part)
