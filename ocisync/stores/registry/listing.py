"""Listing tags and repositories page by page, from registries that follow the specification more or less.

A registry that pays no attention to `n` sends all names at once: tens of megabytes, of which the JSON parser would make
ten times as much in objects. So long pages are read token by token, and only the names are kept.

Spec: distribution v1.1, "Listing Tags".
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from json import loads
from typing import NamedTuple

import structlog
from anyio import to_thread
from yarl import URL

from ocisync.errors import LimitExceeded, NotFound, RateLimited, RegistryError
from ocisync.model.image_name import is_name, is_tag
from ocisync.model.text.name_list import NameList, SortedNames, merge_names
from ocisync.stores.registry.auth.scopes import Grant
from ocisync.stores.registry.http.errors import find_words
from ocisync.stores.registry.http.hosts import safe_url
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.transport import Request, Transport
from ocisync.stores.registry.paging import next_page

log = structlog.get_logger(__name__)
_NOT_FOR_SIZE = re.compile(r"\((?:DENIED|UNAUTHORIZED|NAME_INVALID|NAME_UNKNOWN)\b")  # codes about something else
PAGE = 1000  # names asked for at a time
MAX_PAGES = 10_000
_MAX_EMPTY = 100  # pages without any name in a row
_MAX_NAMES = 1_000_000
_MAX_TEXT = 32 * 1024 * 1024  # bytes of all names
_MAX_BODY = 32 * 1024 * 1024  # bytes of one page: registries that ignore `n` send everything
_THREAD_WORTHY = 256 * 1024  # bytes
_SMALLER = (100, 10)  # names asked for at a time when a registry refuses more
_SMALL = 256 * 1024  # bytes that may be parsed as a whole
_TOKEN = re.compile(
    rb"[ \t\r\n]*+(?:"
    rb'("[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+")'  # possessive: a text of any length takes no memory to match
    rb"|([\[\]{}:,])"
    rb"|([-+.0-9A-Za-z]{1,400}+))"
)
_LONGEST = 64 * 1024  # bytes of a key or of `next`
_Token = tuple[bytes, bytes]  # a text with its quotes, or else a sign or a word
_SIZE_REFUSED = frozenset({400, 413, 416, 422})  # that may be for the size of the page


class Listing(NamedTuple):
    """One kind of list."""

    what: str  # for messages
    member: str  # of the JSON document
    fits: Callable[[str], bool]  # what breaks the grammar is left out


TAGS = Listing("tags", "tags", is_tag)
REPOSITORIES = Listing("repositories", "repositories", is_name)


async def list_tags(transport: Transport, grant: Grant) -> SortedNames:
    """Every tag, each once, in lexical order; names that break the grammar are left out.

    Raises:
        NotFound: there is no such repository.
        RegistryError: a page is not a list of tags, or it cannot be understood where the list goes on.
        LimitExceeded: more pages or tags than any repository has, or more text than is kept of a list.
    """
    return await _list_all(TAGS, transport, grant, transport.origin.with_path(f"/v2/{grant.repository}/tags/list"))


async def list_repositories(transport: Transport) -> SortedNames:
    """Every repository that the registry's catalog names, each once, in lexical order.

    Raises:
        RegistryError: it shows no catalog (many hosted registries do not), or what was listed may not be all.
        LimitExceeded: more pages or names than any registry has.
    Spec: distribution's API, "Listing Repositories"; no part of distribution-spec.
    """
    try:
        return await _list_all(REPOSITORIES, transport, Grant(""), transport.origin.with_path("/v2/_catalog"))
    except (RateLimited, LimitExceeded):
        raise
    except (NotFound, RegistryError) as exc:
        raise RegistryError(
            f"{transport.host} does not show its catalog: {exc.message}. Name the repositories one by one in "
            "`repositories: {allow: [...]}`, without expressions, or in rules of their own",
            code=exc.code,
            handling=exc.handling,
        ) from exc


async def _list_all(listing: Listing, transport: Transport, grant: Grant, base: URL) -> SortedNames:
    """All pages, kept as they come, and put in order at the end.

    A list ends with a page that does not say where it goes on, that was asked for before, or that repeats another:
    some registries send the same page whatever is asked for. Where that was cut at `n`, the list is asked for without.
    """
    url, page = await _read_first_page(listing, transport, grant, base)
    pages: list[NameList] = []
    hashes: set[int] = set()
    visited = {url}
    names = text = empty = 0
    while True:
        is_new = bool(page.names) and hash(page.names) not in hashes
        if is_new:
            hashes.add(hash(page.names))
            pages.append(page.names)
            names += len(page.names)
            text += page.names.size
        empty = 0 if page.names else empty + 1
        if names > _MAX_NAMES or text > _MAX_TEXT:
            raise LimitExceeded(
                f"{safe_url(base)}: the list of {listing.what} is longer than {_MAX_NAMES:,} names or "
                f"{_MAX_TEXT >> 20} MiB, the most that is kept of one. Name the {listing.what} that you want one by "
                "one, without expressions: then no list is asked for"
            )
        if len(visited) >= MAX_PAGES or empty > _MAX_EMPTY:
            counts = f"{len(visited)} pages, {names} {listing.what}"
            raise LimitExceeded(f"{safe_url(base)}: the list of {listing.what} does not end ({counts})")
        following = find_next_page(url, page) if is_new or not page.names else None
        is_circle = following in visited or (bool(page.names) and not is_new)
        if is_circle and _is_cut(url, page) and base not in visited:
            following = base  # it heeds `n` and not where to go on: without `n` it may send everything
        if following is None or following in visited:
            return await to_thread.run_sync(merge_names, pages) if names > 10 * PAGE else merge_names(pages)
        url = following
        visited.add(url)
        page = await _read_page(listing, transport, grant, url, page)


async def has_tags(transport: Transport, grant: Grant) -> bool:
    """Whether there is any tag, by one request."""
    base = transport.origin.with_path(f"/v2/{grant.repository}/tags/list")
    try:
        _, page = await _read_first_page(TAGS, transport, grant, base, size=1)
    except NotFound:
        return False
    return bool(page.names)


async def _read_first_page(
    listing: Listing, transport: Transport, grant: Grant, base: URL, size: int = PAGE
) -> tuple[URL, Page]:
    """The first page, and how it was asked for.

    A registry may refuse pages of the size that is asked for (docker-registry with `catalog.maxentries`). Then it is
    asked for pages of the size that it likes, and if it does not take that either, for smaller ones. What it took is
    remembered for its other lists.
    """
    known = transport.facts.page_size
    sizes = (size, 0, *_SMALLER) if known is None else (min(size, known),)
    refused: RegistryError | None = None
    for asked in sizes:
        url = base.with_query(n=asked) if asked else base
        try:
            page = await _read_page(listing, transport, grant, url)
        except RegistryError as exc:
            refused = refused or exc
            if exc.facts.get("status") not in _SIZE_REFUSED or _NOT_FOR_SIZE.search(exc.message):
                break
        else:
            if asked != size:
                transport.facts.page_size = asked
            return url, page
    raise refused or AssertionError("there is always a size to ask for")


def find_next_page(url: URL, page: Page) -> URL | None:
    """Where the list goes on; None at its end.

    A registry that cut the page at what was asked for, and does not say where it goes on, is asked again from the last
    name on.

    Raises:
        RegistryError: where it goes on cannot be understood.
    """
    if page.link is not None or page.next not in (None, ""):
        following = next_page(url, page.link, page.next)
        if following is not None or page.link is not None:
            return following
    return url.with_query(n=url.query["n"], last=page.names[-1]) if _is_cut(url, page) else None


def _is_cut(url: URL, page: Page) -> bool:
    """Whether a page has as many names as were asked for, so that there may be more."""
    asked = url.query.get("n", "")
    return asked.isdigit() and int(asked) == len(page.names) > 1


async def _read_page(
    listing: Listing, transport: Transport, grant: Grant, url: URL, before: Page | None = None
) -> Page:
    """One page; where it is the one `before` once more, as registries send it that ignore the query, it is that."""

    async def take(answer: Response) -> tuple[bytes, list[str]]:
        raw = await answer.read_document(_MAX_BODY, f"the list of {listing.what}")
        return raw, answer.headers.getall("Link", [])

    raw, links = await transport.read(Request("GET", url, grant), take)
    try:
        is_small = len(raw) < _THREAD_WORTHY
        args = raw, listing.member, listing.fits
        if before is not None and raw == before.raw:
            page = before
        else:
            page = parse_page(*args) if is_small else await to_thread.run_sync(parse_page, *args)
    except (ValueError, RecursionError) as exc:
        raise RegistryError(f"{safe_url(url)}: the answer is not a list of {listing.what}: {exc}") from exc
    return replace(page, link=", ".join(links) if links else None, raw=raw if is_small else None)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    names: NameList = field(default_factory=NameList)
    link: str | None = None  # the Link header
    next: object = None  # what the document says of the next page
    raw: bytes | None = field(default=None, compare=False)  # the document, where it is small


def parse_page(raw: bytes, member: str, fits: Callable[[str], bool]) -> Page:
    """One page, its names as the registry spells and orders them; those that do not fit are left out, `null` is none.

    Raises:
        ValueError: not such a document.
    """
    raw = raw.removeprefix(BOM_UTF8)
    if len(raw) > _SMALL:
        return _parse_long_page(raw, member, fits)
    document = loads(raw)
    if not isinstance(document, Mapping):
        raise ValueError("not an object")  # noqa: TRY004  # it is a value's content, not a caller's type
    names = document.get(member)
    if names is None and (document.get("errors") or document.get("error")):  # with a status that says all is well
        raise ValueError(f"it tells of an error: {find_words(raw)}")
    if names is None:
        names = []
    if not isinstance(names, list):
        raise ValueError(f"{member} is not a list")  # noqa: TRY004
    fitting = [name for name in names if isinstance(name, str) and fits(name)]
    return Page(NameList(fitting), next=document.get("next"))


def _parse_long_page(raw: bytes, member: str, fits: Callable[[str], bool]) -> Page:
    tokens = _split(raw)
    names, following = NameList(), None
    for key, (text, value) in _read_members(tokens):
        if key == member:
            if value not in (b"[", b"null"):
                raise ValueError(f"{member} is not a list")
            names = NameList(filter(fits, _read_list(tokens))) if value == b"[" else NameList()
        elif value in (b"[", b"{"):
            _skip(tokens)
        elif key == "next" and len(text or value) < _LONGEST:
            following = loads(text or value)
    if next(tokens, None) is not None:
        raise ValueError("more after its end")
    return Page(names, next=following)


def _read_members(tokens: Iterator[_Token]) -> Iterator[tuple[str, _Token]]:
    """Each key of the document with the first token of its value; whoever asks for the next has read the rest of it."""
    if _take(tokens) != (b"", b"{"):
        raise ValueError("not an object")
    key, sign = _take(tokens)
    while key:
        if _take(tokens)[1] != b":":
            raise ValueError("a key without a value")
        yield loads(key) if len(key) < _LONGEST else "", _take(tokens)
        _, sign = _take(tokens)
        if sign != b",":
            break
        key, sign = _take(tokens)
    if sign != b"}":
        raise ValueError(f"{sign[:20]!r} in place of its end")


def _take(tokens: Iterator[_Token]) -> _Token:
    for token in tokens:
        return token
    raise ValueError("it ends too early")


def _split(raw: bytes) -> Iterator[_Token]:
    """The tokens, one by one."""
    at, match = 0, _TOKEN.match
    while found := match(raw, at):
        at = found.end()
        yield found[1] or b"", found[2] or found[3] or b""
    if raw[at:].strip(b" \t\r\n"):
        raise ValueError(f"{raw[at : at + 20]!r} at byte {at}")


def _read_list(tokens: Iterator[_Token]) -> Iterator[str]:
    """The texts of a list whose bracket has been read; other values in it are passed over."""
    for text, sign in tokens:
        if text:
            yield loads(text) if b"\\" in text else text[1:-1].decode()
        elif sign == b"]":
            return
        elif sign in (b"[", b"{"):
            _skip(tokens)
    raise ValueError("it ends inside of a list")


def _skip(tokens: Iterator[_Token]) -> None:
    """Pass over a list or object whose bracket has been read."""
    depth = 1
    for text, sign in tokens:
        if not text:
            depth += (sign in (b"[", b"{")) - (sign in (b"]", b"}"))
        if depth == 0:
            return
    raise ValueError("it ends inside of a value")
