"""Go's regular expressions, as other tools apply them, written for Python and for whole names."""

from __future__ import annotations

import re

from ocisync.config.importers.draft import DraftEntry
from ocisync.config.parsers import parse_pattern

_FLAGS = re.compile(r"(\^?)\(\?([ims]+)\)")
_LAST_BOUND = re.compile(r"(?<!\\)(?:\\\\)*\$\Z")
_POSIX_CLASS = re.compile(r"\[:([a-z]+):\]")
_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "digit": "0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "word": r"\w",
    "xdigit": "0-9A-Fa-f",
}


# An escaped character, a class of characters, or the beginning of a group that is counted; Go writes (?<x> too.
_GROUPS = re.compile(r"\\.|\[\^?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\]|(?P<open>\((?!\?)|\(\?P?<(?P<name>\w+)>)")


def keep_usable_patterns(entry: DraftEntry, key: str, found: list[str]) -> list[str]:
    """Expressions that Python understands as well; of others a comment tells."""
    usable = []
    for text in found:
        try:
            usable.append(parse_pattern(_translate(text)))
        except ValueError as exc:
            entry.lose(f"{key}: {exc}")
    return usable


def anchor(pattern: str, before: str = ".*") -> str:
    """An expression that may match anywhere, as one that matches the whole; `before` stands for what it leaves out."""
    flags, bare = _split_flags(pattern)
    if bare.startswith("^") and _ends_bound(bare) and not has_alternatives(bare):
        return _set_flags(flags, bare[1:-1])
    return f"{before}{_set_flags(flags, f'(?:{bare})')}.*"


def name_group(pattern: str, wanted: str, name: str) -> str:
    """An expression in which a group, wanted by its name or number, has another name; empty without such a group."""
    number = 0
    for found in _GROUPS.finditer(pattern):
        if found["open"] is None:
            continue
        number += 1
        if wanted in (found["name"], str(number)):
            return f"{pattern[: found.start()]}(?P<{name}>{pattern[found.end() :]}"
    return ""


def bind(pattern: str) -> str:
    """An expression that its tool puts between `^` and `$`, as one that matches the whole.

    `a|b` means what begins with a, or ends with b.
    """
    flags, bare = _split_flags(pattern)
    return _set_flags(flags, anchor(f"^{bare}$") if has_alternatives(bare) else bare)


def has_alternatives(pattern: str) -> bool:
    """Whether it has a `|` outside of groups."""
    depth, is_in_class = 0, False
    for char in re.sub(r"\\.", "", pattern):
        if is_in_class:
            is_in_class = char != "]"
        elif char == "[":
            is_in_class = True
        elif char == "|" and not depth:
            return True
        else:
            depth += (char == "(") - (char == ")")
    return False


def _ends_bound(pattern: str) -> bool:
    return _LAST_BOUND.search(pattern) is not None


def _split_flags(pattern: str) -> tuple[str, str]:
    """The flags at an expression's begin, which Python wants at a group."""
    found = _FLAGS.match(pattern)
    return (found[2], found[1] + pattern[found.end() :]) if found else ("", pattern)


def _set_flags(flags: str, pattern: str) -> str:
    return f"(?{flags}:{pattern})" if flags else pattern


def _translate(pattern: str) -> str:
    """What Go spells in another way."""
    spelled = _POSIX_CLASS.sub(lambda one: _POSIX.get(one[1], one[0]), pattern)
    return spelled.replace(r"\z", r"\Z")
