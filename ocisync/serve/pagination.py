"""Lists, page by page. Pure.

Spec: distribution v1.1.1, "Listing Tags"; RFC 5988 for Link.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from ocisync.serve.errors import ApiError, ErrorCode

MAX_PAGE = 1_000_000  # entries; a larger n means the same as none


@dataclass(frozen=True, slots=True)
class ListPage:
    """Some entries of a list, and the relative Link to the next ones when there are more."""

    entries: Sequence[str]
    link: str | None = None


def page_of(entries: Sequence[str], query: Mapping[str, str], path: str) -> ListPage:
    """The entries after `last`, at most `n`; `entries` are sorted and `path` is the list's own.

    Raises:
        Refusal: 400, `n` is not a number.
    """
    limit = _limit(query.get("n"))
    start = bisect_right(entries, query["last"]) if query.get("last") else 0
    if limit is None or start + limit >= len(entries):
        return ListPage(entries[start:])
    page = entries[start : start + limit]
    if not page:
        return ListPage(())
    following = urlencode({"n": limit, "last": page[-1]}, safe="/")
    return ListPage(page, f'<{path}?{following}>; rel="next"')


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        message = f"n={text[:40]!r} is not a number of entries"
        raise ApiError(400, ErrorCode.UNSUPPORTED, message)
    return min(int(text), MAX_PAGE)
