"""Where a list goes on: the query of a Link (or of `next` in the document), on the path and host that were asked. Pure.

A registry behind a proxy does not know how it is reached: its Links name an inner host, or http where TLS is spoken.
Their query is all that is needed, so nothing else of them is used, and no Link can lead to another host.
Spec: distribution v1.1, "Listing Tags"; RFC 8288, 3.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from yarl import URL

from ocisync.errors import RegistryError
from ocisync.stores.registry.http.hosts import safe_url

_MAX_LINK = 64 * 1024  # characters
_TARGET = re.compile(r'\s*(?:<([^<>]*)>|([^\s;,<>"]+))\s*')
_PARAMETER = re.compile(r'\s*;\s*([^\s=;,]*)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?\s*')
_SEPARATOR = re.compile(r"[\s,]*")


class Link(NamedTuple):
    """One link of a header: where to, and what that is to the page (`next`, `first` …), None when it does not say."""

    target: str
    relations: frozenset[str] | None


def parse_links(value: str) -> list[Link]:
    """The links of a header's values, joined by commas.

    Raises:
        ValueError: something in it is no link.
    """
    links: list[Link] = []
    at = _skip(value, 0)
    while at < len(value):
        found = _TARGET.match(value, at)
        if found is None:
            raise ValueError(f"{value[at : at + 100]!r} is not a link")
        target = found[1] if found[1] is not None else found[2]
        at, relations = found.end(), None
        while parameter := _PARAMETER.match(value, at):
            name, quoted, bare = parameter.groups()
            if name.lower() == "rel" and relations is None:
                relations = frozenset((quoted if quoted is not None else bare or "").lower().split())
            at = parameter.end()
        if at < len(value) and value[at] != ",":
            raise ValueError(f"{value[at : at + 100]!r} does not belong to a link")
        links.append(Link(target, relations))
        at = _skip(value, at)
    return links


def next_page(asked: URL, link: str | None, member: object = None) -> URL | None:
    """The page that follows the one that was asked for; None at the end of the list.

    `link` is the Link header, `member` what the document says of the next page; the header counts where both are there.

    Raises:
        RegistryError: what is there cannot be understood, so the list may go on nobody knows where.
    """
    if link is not None and link.strip():
        try:
            target = _next_target(parse_links(link[:_MAX_LINK]))
        except ValueError as exc:
            raise _error(asked, f"its Link to the next page cannot be understood: {exc}") from exc
        return None if target is None else _with_query(asked, target)
    if member is None or member == "":
        return None
    if not isinstance(member, str):
        raise _error(asked, "what its document says of the next page is not text")
    return _with_query(asked, member)


def _next_target(links: list[Link]) -> str | None:
    for link in links:
        if link.relations is not None and "next" in link.relations:
            return link.target
    unnamed = [link.target for link in links if link.relations is None]  # some registries leave out what it is
    return unnamed[0] if unnamed else None


def _with_query(asked: URL, target: str) -> URL:
    _, question, query = target.partition("?")
    query = query.partition("#")[0]
    if not question or not query or not query.isprintable() or " " in query:
        raise _error(asked, "its link to the next page has no query that could be followed")
    return URL(f"{asked.with_query(None)}?{query}", encoded=True)


def _skip(value: str, at: int) -> int:
    separator = _SEPARATOR.match(value, at)
    return separator.end() if separator else at


def _error(asked: URL, what: str) -> RegistryError:
    return RegistryError(f"{safe_url(asked)}: {what}; the list may not be whole, so it is not used", host=asked.host)
