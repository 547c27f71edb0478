"""One page of a list of names. Pure.

A registry that pays no attention to `n` sends all names at once: tens of megabytes, of which the JSON parser would make
ten times as much in objects. So long pages are read token by token, and only the names are kept.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from json import loads

from ocisync.model.text.name_list import NameList
from ocisync.stores.registry.http.errors import find_words

_SMALL = 256 * 1024  # bytes that may be parsed as a whole
_TOKEN = re.compile(
    rb"[ \t\r\n]*+(?:"
    rb'("[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+")'  # possessive: a text of any length takes no memory to match
    rb"|([\[\]{}:,])"
    rb"|([-+.0-9A-Za-z]{1,400}+))"
)
_LONGEST = 64 * 1024  # bytes of a key or of `next`
_Token = tuple[bytes, bytes]  # a text with its quotes, or else a sign or a word


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    names: NameList = field(default_factory=NameList)
    link: str | None = None  # the Link header
    next: object = None  # what the document says of the next page


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
    fitting = NameList(name for name in names if isinstance(name, str) and fits(name))
    return Page(fitting, next=document.get("next"))


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
