"""The names that repositories and tags get at a target. Pure.

Prune needs the way back, from a tag at the target to one of the source. A template can be undone, a substitution
cannot. So `undo` only says which tag the template alone would have named so; whether the target's tag is still wanted
is decided forwards, by renaming what the source lists (`ocisync.sync.select`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ocisync.errors import InvalidName
from ocisync.model.image_name import parse_name, parse_tag

REPOSITORY, TAG, NAME = "{repository}", "{tag}", "{name}"


class Substitution(NamedTuple):
    """An expression that must match a whole name, and what the name becomes (`\\1` and `\\g<name>` are groups)."""

    pattern: str
    replacement: str

    def apply(self, name: str) -> str | None:
        """The new name; None when the expression does not match."""
        found = re.fullmatch(self.pattern, name)
        return found.expand(self.replacement) if found else None


@dataclass(frozen=True, slots=True)
class Renaming:
    """The first substitution that fits, then the template."""

    substitutions: tuple[Substitution, ...] = ()
    template: str = TAG

    def apply(self, tag: str) -> str:
        """A tag's new name."""
        if not self.substitutions and self.template == TAG:
            return tag
        changed = (new for one in self.substitutions if (new := one.apply(tag)) is not None)
        return self.template.replace(TAG, next(changed, tag))

    def undo(self, tag: str) -> str | None:
        """A tag that would get this new name by the template alone; None when there is none."""
        before, _, after = self.template.partition(TAG)
        old = tag.removeprefix(before).removesuffix(after)
        return old if self.apply(old) == tag else None

    def find_problem(self, tag: str) -> str:
        """Why a tag cannot have its new name; empty when it can."""
        try:
            parse_tag(self.apply(tag))
        except InvalidName:
            return "that is no tag"
        return ""


@dataclass(frozen=True, slots=True)
class Placing:
    """Where a repository goes: its prefix is taken off, the first substitution that fits is made, then the template."""

    template: str = REPOSITORY
    strip: str = ""
    substitutions: tuple[Substitution, ...] = ()

    def apply(self, repository: str) -> str:
        """A repository's name at the target.

        Raises:
            InvalidName: it would be no repository's name.
        """
        name = repository.removeprefix(self.strip) or repository
        name = next((new for one in self.substitutions if (new := one.apply(name)) is not None), name)
        last = name.rpartition("/")[2]
        return parse_name(self.template.replace(REPOSITORY, name).replace(NAME, last))
