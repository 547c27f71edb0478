"""Which of a source's tags a rule means. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class TagSelection:
    """Patterns over the source's tags, or exact pairs that need no listing.

    `literal` maps target tags to source references; when given, the patterns are not looked at.
    `allow` and `deny` are regular expressions that must match a whole tag; no `allow` allows all.
    """

    literal: Mapping[str, str] | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = field(default=())


def select_tags(selection: TagSelection, listed: Iterable[str]) -> dict[str, str]:
    """Target tag -> source reference, in the order listed."""
    if selection.literal is not None:
        return dict(selection.literal)
    allow = [re.compile(pattern) for pattern in selection.allow]
    deny = [re.compile(pattern) for pattern in selection.deny]
    return {tag: tag for tag in listed if _allowed(tag, allow) and not _matches(tag, deny)}


def _allowed(tag: str, allow: list[re.Pattern[str]]) -> bool:
    return not allow or _matches(tag, allow)


def _matches(tag: str, patterns: list[re.Pattern[str]]) -> bool:
    return any(pattern.fullmatch(tag) for pattern in patterns)


def narrowed(selection: TagSelection, tags: Collection[str]) -> TagSelection | None:
    """The selection for some of the source's tags, without a listing; None when it means none of them.

    What depends on other tags too, such as the newest so many, cannot be narrowed and comes back as it is.
    """
    if replace(selection, literal=None, allow=(), deny=()) != TagSelection():
        return selection
    if selection.literal is None:
        chosen = select_tags(selection, tags)
    else:
        chosen = {tag: reference for tag, reference in selection.literal.items() if reference in tags}
    return TagSelection(literal=chosen) if chosen else None
