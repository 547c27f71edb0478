"""URLs that somebody typed."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from ocisync.errors import InvalidName


def split_url(text: str) -> SplitResult:
    """The parts of a URL, of which the host and the port can be read.

    Raises:
        InvalidName: it cannot be split, such as for half of an IPv6 address or a port above 65535.
    """
    try:
        parts = urlsplit(text)
        _ = parts.hostname, parts.port
    except ValueError as exc:
        raise InvalidName(f"{text[:200]!r} is not a URL: {exc}") from exc
    return parts
