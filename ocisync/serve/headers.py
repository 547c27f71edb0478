"""Header values of answers, and what requests say in theirs. Pure.

Spec: RFC 9110, sections 13.1.2 (If-None-Match), 13.1.5 (If-Range) and 14 (Range).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate

NO_PAGE = {  # of answers that are no pages, whatever they quote
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
COMMON = {"Docker-Distribution-API-Version": "registry/2.0", "X-Content-Type-Options": "nosniff"}
_RANGE = re.compile(r"bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*\Z", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Part of a body, in bytes."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """The Content-Range header of a body of `size` bytes."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


class Unsatisfiable(ValueError):
    """A range that begins beyond the end: 416."""


def etag_of(digest: str) -> str:
    """The strong ETag of content."""
    return f'"{digest}"'


def http_date(seconds: float) -> str:
    """A date as headers have it; empty for what is none, such as a file's after the year 9999.

    Spec: RFC 9110, 5.6.7.
    """
    try:
        return formatdate(seconds, usegmt=True) if seconds else ""
    except (ValueError, OverflowError, OSError):
        return ""


def is_match(header: str | None, etag: str) -> bool:
    """Whether If-None-Match names this ETag; weak ones count, and so do the bare digests of old clients."""
    if header is None:
        return False
    named = {item.strip().removeprefix("W/").strip('"') for item in header.split(",")}
    return "*" in named or etag.strip('"') in named


def wanted_range(header: str | None, if_range: str | None, etag: str, size: int) -> ByteRange | None:
    """What a Range header asks of a body of `size` bytes, or None for all of it.

    Several ranges, other units and malformed headers are ignored, and so is a Range whose If-Range is not this ETag.

    Raises:
        Unsatisfiable: the range begins beyond the end.
    """
    found = _RANGE.match(header.strip()) if header else None
    if found is None or (if_range is not None and if_range.strip() != etag):
        return None
    first, last = found.groups()
    if not first:
        return _suffix(last, size)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise Unsatisfiable
    end = min(int(last), size - 1) if last else size - 1
    return ByteRange(int(first), end - int(first) + 1)


def _suffix(last: str, size: int) -> ByteRange | None:
    if not last:
        return None
    length = min(int(last), size)
    if length == 0:
        raise Unsatisfiable
    return ByteRange(size - length, length)
