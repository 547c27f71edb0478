"""Which of a source's tags a rule means, and what they are called at the target. Pure.

First names decide (`list_candidates`), then, where a rule asks for it, when images were made (`select`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ocisync.errors import LimitExceeded
from ocisync.model.digest import Digest, is_digest
from ocisync.model.image_name import is_tag
from ocisync.model.name_mapping import Renaming
from ocisync.model.versions import VersionRange, parse_version

Order = Literal["version", "created", "number", "name"]
ORDER_GROUP = "order"  # what this group of an expression matches is ordered, in place of the whole tag
Dates = Mapping[str, float | None]  # tag -> when its image was made, in seconds since the epoch; None: nobody knows

MAX_SELECTED = 500_000  # tags of one rule
_NO_DATES: Dates = {}
_NUMBER = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)
_SAME_NAMES = Renaming()


@dataclass(frozen=True, slots=True)
class TagSet:
    """Conditions that a tag must meet all of.

    `allow` and `deny` are regular expressions that must match a whole tag; no `allow` allows all.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    versions: VersionRange | None = None
    latest: int = 0  # so many of what meets the other conditions; 0: all
    order: Order = "version"  # of `latest`
    newer_than: float = 0.0  # seconds; 0: of any age

    @property
    def needs_dates(self) -> bool:
        """Whether it depends on when images were made."""
        return bool(self.newer_than) or (bool(self.latest) and self.order == "created")


@dataclass(frozen=True, slots=True)
class TagSelection:
    """Conditions on the source's tags, or exact pairs that need no listing.

    `literal` maps target tags to source references; when given, no conditions are looked at. `pinned` images come
    in addition. The sets are alternatives.
    """

    literal: Mapping[str, str] | None = None
    sets: tuple[TagSet, ...] = (TagSet(),)
    pinned: Mapping[str, Digest] = field(default_factory=dict)  # target tag -> what it always means
    rename: Renaming = field(default_factory=Renaming)  # what the tags of sets are called at the target

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for selections that mean the same."""
        literal = None if self.literal is None else tuple(sorted(self.literal.items()))
        return literal, self.sets, tuple(sorted(self.pinned.items())), self.rename

    def rename_tag(self, tag: str) -> str:
        """What a tag of the sets is called at the target."""
        return self.rename.apply(tag)

    @property
    def needs_listing(self) -> bool:
        """Whether the source's tags must be known."""
        return self.literal is None and bool(self.sets)


@dataclass(frozen=True, slots=True)
class Selected:
    """Target tag -> source reference, and what the user should know."""

    references: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def list_candidates(selection: TagSelection, listed: Collection[str]) -> list[str]:
    """The source's tags whose dates decide, in the order listed."""
    wanted = [one for one in selection.sets if one.needs_dates] if selection.literal is None else []
    if not wanted:
        return []
    return _in_order(listed, [match_names(one, listed) for one in wanted])


def select_tags(selection: TagSelection, listed: Collection[str]) -> dict[str, str]:
    """Target tag -> source reference, by names alone: `latest` and `newer_than` are not asked."""
    if selection.literal is not None:
        return {**selection.literal, **selection.pinned}
    chosen = _in_order(listed, [match_names(one, listed) for one in selection.sets])
    return {**_rename_tags(selection.rename, chosen).references, **selection.pinned}


def select(selection: TagSelection, listed: Collection[str], dates: Dates = _NO_DATES, now: float = 0.0) -> Selected:
    """Every tag that one of the sets means; `dates` are of `list_candidates`, `now` in seconds since the epoch.

    Raises:
        LimitExceeded: more tags than one rule may mean: the memory that a pass takes grows with them.
    """
    if selection.literal is not None:
        return Selected({**selection.literal, **selection.pinned})
    fitting = [_match(one, listed, dates, now) for one in selection.sets]
    if (most := max(map(len, fitting), default=0)) > MAX_SELECTED:
        raise LimitExceeded(
            f"the rule selects {most:,} of the source's {len(listed):,} tags, and one rule may select "
            f"{MAX_SELECTED:,}: narrow it by `tags`, or split it"
        )
    is_in_order = len(fitting) == 1 and not selection.sets[0].latest
    chosen = list(dict.fromkeys(fitting[0])) if is_in_order else _in_order(listed, fitting)
    found = _rename_tags(selection.rename, chosen)
    undated = [tag for tag in list_candidates(selection, listed) if dates.get(tag, 0.0) is None]
    warnings = (*found.warnings, *_warn_undated(undated))
    return Selected({**found.references, **selection.pinned}, warnings)


def _in_order(listed: Iterable[str], fitting: Sequence[Sequence[str]]) -> list[str]:
    """What any of the sets means, each once, in the order listed."""
    chosen = {tag: tag for some in fitting for tag in some}
    return [chosen[tag] for tag in listed if tag in chosen]  # not `tag`: a long list makes it anew each time


def find_origin(selection: TagSelection, tag: str) -> str | None:
    """The source's tag that a target's tag would come from, by names alone; None when the rule follows none with it."""
    if tag in selection.pinned:
        return None
    if selection.literal is not None:
        reference = selection.literal.get(tag)
        return None if is_digest(reference) else reference
    origin = selection.rename.undo(tag)
    return origin if origin and any(match_names(one, [origin]) for one in selection.sets) else None


def find_remaining(selection: TagSelection, listed: Iterable[str], tags: Collection[str]) -> set[str]:
    """Those of the target's tags whose origin the source lists."""
    if selection.literal is None:
        renamed = map(selection.rename_tag, listed)
        return set(tags).intersection(renamed)
    there = set(selection.literal.values()).intersection(listed)
    return {tag for tag in tags if selection.literal.get(tag) in there}


def match_names(conditions: TagSet, tags: Iterable[str]) -> list[str]:
    """The tags whose names fit."""
    allow = [re.compile(pattern) for pattern in conditions.allow]
    deny = [re.compile(pattern) for pattern in conditions.deny]
    fitting = list(tags)
    if allow or deny:
        fitting = [tag for tag in fitting if (not allow or _matches(tag, allow)) and not _matches(tag, deny)]
    if conditions.versions is None:
        return fitting
    return [tag for tag in fitting if conditions.versions.admits(parse_version(tag))]


def _matches(tag: str, patterns: list[re.Pattern[str]]) -> bool:
    return any(pattern.fullmatch(tag) for pattern in patterns)


def narrow(selection: TagSelection, tags: Collection[str]) -> TagSelection | None:
    """The selection for some of the source's tags, without a listing; None when it means none of them.

    What depends on other tags or on dates too, such as the newest so many, cannot be narrowed and comes back as it is.
    """
    if selection.literal is not None:
        chosen = {tag: reference for tag, reference in selection.literal.items() if reference in tags}
        return TagSelection(literal=chosen) if chosen else None
    chosen = select_tags(replace(selection, pinned={}), tags)
    if chosen and any(one.latest or one.needs_dates for one in selection.sets):
        return selection
    return TagSelection(literal=chosen) if chosen else None


def _match(conditions: TagSet, tags: Iterable[str], dates: Dates, now: float) -> list[str]:
    fitting = match_names(conditions, tags)
    if conditions.newer_than:
        oldest = now - conditions.newer_than
        fitting = [tag for tag in fitting if (made := dates.get(tag)) is not None and made >= oldest]
    if not conditions.latest:
        return fitting
    return _sort(conditions, fitting, dates)[: conditions.latest]


def _sort(conditions: TagSet, tags: Sequence[str], dates: Dates) -> list[str]:
    if conditions.order == "created":
        return _sort_by_date(tags, dates)
    keys = _find_order_keys(conditions, tags)
    match conditions.order:
        case "name":
            return sorted(tags, key=keys.__getitem__, reverse=True)
        case "number":
            numbers = {tag: (int(match[1]), (match[2] or "").rstrip("0")) for tag, match in _match_numbers(keys)}
            return sorted(numbers, key=numbers.__getitem__, reverse=True)
        case _:
            return _sort_by_version(keys)


def _match_numbers(keys: Mapping[str, str]) -> Iterator[tuple[str, re.Match[str]]]:
    """Those that are numbers, in the order given: what stands before the point, and after it."""
    return ((tag, match) for tag, key in keys.items() if (match := _NUMBER.fullmatch(key)))


def _find_order_keys(conditions: TagSet, tags: Iterable[str]) -> dict[str, str]:
    """Tag -> what is ordered: what the group of the first expression that matches it means, or the whole tag."""
    patterns = [re.compile(pattern) for pattern in conditions.allow]
    if not any(ORDER_GROUP in pattern.groupindex for pattern in patterns):
        return {tag: tag for tag in tags}
    found = ((tag, next(filter(None, (one.fullmatch(tag) for one in patterns)), None)) for tag in tags)
    return {tag: (match.groupdict().get(ORDER_GROUP, tag) or "") if match else tag for tag, match in found}


def _sort_by_version(keys: Mapping[str, str]) -> list[str]:
    """The highest first; tags that are no versions are left out."""
    versions = [(version, tag) for tag, key in keys.items() if (version := parse_version(key)) is not None]
    return [tag for _, tag in sorted(versions, reverse=True)]


def _sort_by_date(tags: Sequence[str], dates: Dates) -> list[str]:
    """The newest first; tags whose date nobody knows are left out."""
    known = [(made, tag) for tag in tags if (made := dates.get(tag)) is not None]
    return [tag for _, tag in sorted(known, reverse=True)]


def _rename_tags(rename: Renaming, tags: Sequence[str]) -> Selected:
    """Tags under their new names; of several that would share one, that which is called so already, else the first."""
    if rename == _SAME_NAMES and all(map(is_tag, tags)):  # what nearly every rule says, and lists may be long
        return Selected({tag: tag for tag in tags})
    found: dict[str, str] = {}
    refused: dict[str, str] = {}
    for tag in sorted(tags, key=lambda tag: rename.apply(tag) != tag):
        new = rename.apply(tag)
        if problem := rename.find_problem(tag) or (f"{found[new]} is called so already" if new in found else ""):
            refused[tag] = f"the tag {tag} cannot become {new!r} at the target: {problem}. It is left out"
        else:
            found[new] = tag
    order = {tag: at for at, tag in enumerate(tags)}
    return Selected(dict(sorted(found.items(), key=lambda pair: order[pair[1]])), tuple(refused.values()))


def _warn_undated(tags: Sequence[str]) -> tuple[str, ...]:
    if not tags:
        return ()
    shown = ", ".join(tags[:5]) + (", …" if len(tags) > 5 else "")
    return (f"the images of {len(tags)} tags do not say when they were made, so they are left out: {shown}",)
