"""Sync rules that write one tag: each would undo the other's work at every run, and clients would see both in turn.

Only what is certain from the file is refused. A tag that a rule names (`app:1.0`, `allow: [stable]`) is looked for in
the selection of the others; a rule without conditions brings every tag, so it meets every other rule. Two rules with
different expressions are left alone, as no file tells which tags their sources have; so are rules for one and the same
source and content, such as one that looks for `latest` more often.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

from ocisync.config.diagnostics import ConfigFinding, KeyPath
from ocisync.config.models import Config, SyncRule, TagRules, TargetReference
from ocisync.config.parsers import list_literals
from ocisync.config.sections.selection import pinned_tag
from ocisync.model.digest import Digest, is_digest
from ocisync.model.name_mapping import TAG, Renaming
from ocisync.model.versions import parse_version

EVERY_TAG = "every tag"


class _Writer(NamedTuple):
    """A rule at one of its targets."""

    path: KeyPath
    place: TargetReference
    content: tuple[object, ...]  # what decides which image a tag of the source becomes
    source: str
    named: Mapping[str, str]  # tags at the target -> references of the source, where the rule names them
    sets: tuple[TagRules, ...]  # conditions for all others
    rename: Renaming

    @property
    def is_unlimited(self) -> bool:
        """Whether every tag of the source is brought under its own name."""
        is_bare = any(not one.model_dump(exclude_defaults=True) for one in self.sets)
        return is_bare and self.rename == Renaming()

    def find_reference(self, tag: str) -> str | None:
        """What the rule brings under a tag of the target, if its source has it; None when it brings nothing there."""
        if tag in self.named:
            return self.named[tag]
        origin = self.rename.undo(tag)
        return origin if origin is not None and any(_admits(one, origin) for one in self.sets) else None


def find_overlaps(config: Config) -> Iterator[ConfigFinding]:
    """Each pair of enabled rules that certainly write one tag, told at the later one."""
    rules = [(at, rule) for at, rule in enumerate(config.sync) if rule.enabled and rule.type != "registry"]
    shared: dict[tuple[str, str], list[_Writer]] = {}  # by target and repository: there may be thousands of rules
    for at, rule in rules:
        for place in rule.places:
            writer = _make_writer(("sync", at, "target"), rule, place)
            shared.setdefault((place.target, place.repository), []).append(writer)
    for first, second in (pair for writers in shared.values() for pair in combinations(writers, 2)):
        if tag := _find_common(first, second):
            where = f"{first.place.target}/{first.place.repository}"
            yield (
                second.path,
                (
                    f"sync[{first.path[1]}] writes {tag} of {where} too, from {first.source}. Give one of them another "
                    "repository, or `deny` there what the other brings"
                ),
            )


def _find_common(one: _Writer, other: _Writer) -> str:
    """A tag that both write with different content; empty when none is certain."""
    is_same_content = one.content == other.content
    for a, b in ((one, other), (other, one)):
        for tag, reference in a.named.items():
            # A name made from a digest is nobody else's tag, and what two rules pin by one digest is the same image.
            is_pinned = is_digest(reference) and tag == pinned_tag(Digest(reference))
            others = b.named.get(tag) if is_pinned else b.find_reference(tag)
            is_same = is_same_content or (is_pinned and a.content[2:] == b.content[2:])
            if others is not None and not (is_same and others == reference):
                return tag
    if is_same_content or one.rename != other.rename:
        return ""
    if (one.is_unlimited and other.sets) or (other.is_unlimited and one.sets):
        return EVERY_TAG if one.is_unlimited and other.is_unlimited else "some tags"
    return ""


def _make_writer(path: KeyPath, rule: SyncRule, place: TargetReference) -> _Writer:
    image, rename = rule.source, Renaming(rule.rename.tags, place.tag or TAG)
    content = (image.host, image.repository, rule.platforms, rule.attestations, rule.format, rule.rewrite_index)
    named: dict[str, str] = dict(rule.digests)
    sets: tuple[TagRules, ...] = ()
    if image.digest:
        named[rename.apply(image.tag or pinned_tag(image.digest))] = image.digest
    elif image.tag:
        named[rename.apply(image.tag)] = image.tag
    else:
        given = (rule.tags,) if "tags" in rule.model_fields_set or not (rule.tag_sets or rule.digests) else ()
        for one in (*given, *rule.tag_sets):
            literals = list_literals(one.allow) if one.model_dump(exclude_defaults=True).keys() == {"allow"} else None
            named |= {rename.apply(tag): tag for tag in literals or ()}
            sets += () if literals is not None else (one,)
    return _Writer(path, place, content, f"{image.host}/{image.repository}", named, sets, rename)


def _admits(conditions: TagRules, tag: str) -> bool:
    """Whether conditions certainly admit a tag: the age and number of images are not in the file."""
    if conditions.latest or conditions.newer_than:
        return False
    if conditions.allow and not any(re.fullmatch(one, tag) for one in conditions.allow):
        return False
    is_denied = any(re.fullmatch(one, tag) for one in conditions.deny)
    return not is_denied and (conditions.versions is None or conditions.versions.admits(parse_version(tag)))
