"""Listing tags and repositories page by page, from registries that follow the specification more or less.

Spec: distribution v1.1, "Listing Tags"; Link as of RFC 5988.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import loads

import structlog
from anyio import to_thread
from yarl import URL

from ocisync.errors import LimitExceeded, NotFound, RateLimited, RedirectRefused, RegistryError
from ocisync.model.image_name import is_name, is_tag
from ocisync.stores.registry.auth.scopes import Grant
from ocisync.stores.registry.http.hosts import safe_url, same_origin
from ocisync.stores.registry.http.policy import resolve_location
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.transport import Request, Transport

log = structlog.get_logger(__name__)
PAGE = 1000  # names asked for at a time
MAX_PAGES = 10_000
_MAX_EMPTY = 100  # pages without any name in a row
_MAX_BODY = 64 * 1024 * 1024  # bytes of one page: registries that ignore `n` send everything
_THREAD_WORTHY = 256 * 1024  # bytes
_LINK = re.compile(r"<([^<>]*)>\s*((?:;[^,]*)?)")
_NEXT = re.compile(r';\s*rel\s*=\s*"?next"?\s*(?:;|$)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Listing:
    """One kind of list."""

    what: str  # for messages
    member: str  # of the JSON document
    fits: Callable[[str], bool]  # what breaks the grammar is left out
    most: int  # entries of the longest that there is


TAGS = Listing("tags", "tags", is_tag, 5_000_000)
REPOSITORIES = Listing("repositories", "repositories", is_name, 1_000_000)


async def list_tags(transport: Transport, grant: Grant) -> list[str]:
    """Every tag, each once, in lexical order; names that break the grammar are left out.

    Raises:
        NotFound: there is no such repository.
        RegistryError: a page is not a list of tags, or leads to another host: what was listed may not be all.
        LimitExceeded: more pages or tags than any repository has.
    """
    url = transport.origin.with_path(f"/v2/{grant.repository}/tags/list").with_query(n=PAGE)
    return await _list_all(TAGS, transport, grant, url)


async def list_repositories(transport: Transport) -> list[str]:
    """Every repository that the registry's catalog names, each once, in lexical order.

    Raises:
        RegistryError: it shows no catalog (many hosted registries do not), or what was listed may not be all.
        LimitExceeded: more pages or names than any registry has.
    Spec: distribution's API, "Listing Repositories"; no part of distribution-spec.
    """
    url = transport.origin.with_path("/v2/_catalog").with_query(n=PAGE)
    try:
        return await _list_all(REPOSITORIES, transport, Grant(""), url)
    except (RateLimited, LimitExceeded):
        raise
    except (NotFound, RegistryError) as exc:
        raise RegistryError(
            f"{transport.host} does not show its catalog: {exc.message}. Name the repositories one by one in "
            "`repositories: {allow: [...]}`, without expressions, or in rules of their own",
            code=exc.code,
            handling=exc.handling,
        ) from exc


async def _list_all(listing: Listing, transport: Transport, grant: Grant, first: URL) -> list[str]:
    url: URL | None = first
    names: set[str] = set()
    visited: set[URL] = set()
    empty = 0
    while url is not None and url not in visited:
        visited.add(url)
        found, link = await _read_page(listing, transport, grant, url)
        grown = not names.issuperset(found)
        names.update(found)
        empty = 0 if found else empty + 1
        if len(visited) >= MAX_PAGES or len(names) > listing.most or empty > _MAX_EMPTY:
            counts = f"{len(visited)} pages, {len(names)} {listing.what}"
            raise LimitExceeded(f"{safe_url(first)}: the list of {listing.what} does not end ({counts})")
        url = next_page(url, found, link) if grown or not found else None
    return sorted(names)


async def has_tags(transport: Transport, grant: Grant) -> bool:
    """Whether there is any tag, by one request."""
    url = transport.origin.with_path(f"/v2/{grant.repository}/tags/list").with_query(n=1)
    try:
        found, _ = await _read_page(TAGS, transport, grant, url)
    except NotFound:
        return False
    return bool(found)


def next_page(url: URL, found: list[str], link: str | None) -> URL | None:
    """Where the list goes on; None at its end.

    A registry that cut the page at what was asked for, and sends no Link, is asked again from the last tag on.

    Raises:
        RegistryError: the Link leads to another origin.
    """
    target = next_link(link)
    if target is None:
        full = len(found) == PAGE and link is None
        return url.with_query(n=PAGE, last=found[-1]) if full else None
    return follow_link(url, target)


def follow_link(url: URL, target: str) -> URL:
    """Where a Link to the next page leads.

    Raises:
        RegistryError: to another origin.
    """
    try:
        following = resolve_location(url, target)
    except RedirectRefused as exc:
        raise RegistryError(f"{safe_url(url)}: the Link to the next page cannot be followed: {exc.message}") from exc
    if not same_origin(following, url):
        raise RegistryError(f"{safe_url(url)}: the Link to the next page leads to another host, {following.host}")
    return following


def next_link(value: str | None) -> str | None:
    """The target of a Link header's rel="next"."""
    for target, parameters in _LINK.findall((value or "")[:65536]):
        if _NEXT.search(parameters.strip()):
            return str(target)
    return None


def parse_page(raw: bytes, listing: Listing = TAGS) -> list[str]:
    """The names of one page, as the registry spells and orders them; `tags: null` is none.

    Raises:
        ValueError: not such a document.
    """
    document = loads(raw)
    if not isinstance(document, Mapping):
        raise ValueError("not an object")  # noqa: TRY004  # it is a value's content, not a caller's type
    names = document.get(listing.member)
    if names is None:
        return []
    if not isinstance(names, list):
        raise ValueError(f"{listing.member} is not a list")  # noqa: TRY004
    return [name for name in names if isinstance(name, str) and listing.fits(name)]


async def _read_page(listing: Listing, transport: Transport, grant: Grant, url: URL) -> tuple[list[str], str | None]:
    async def take(answer: Response) -> tuple[bytes, list[str]]:
        return await answer.read(_MAX_BODY, f"the list of {listing.what}"), answer.headers.getall("Link", [])

    raw, links = await transport.read(Request("GET", url, grant), take)
    try:
        is_small = len(raw) < _THREAD_WORTHY
        names = parse_page(raw, listing) if is_small else await to_thread.run_sync(parse_page, raw, listing)
    except (ValueError, RecursionError) as exc:
        raise RegistryError(f"{safe_url(url)}: the answer is not a list of {listing.what}: {exc}") from exc
    return names, ", ".join(links) if links else None
