"""The file of `oc image mirror -f`: a line for each copy, `SOURCE=TARGET` or `SOURCE TARGET...`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ocisync.config.importers.draft import Draft, DraftEntry
from ocisync.errors import InvalidName
from ocisync.model.image_name import ImageName, parse_image_name, split_tag

_NOTES = (
    "oc image mirror copies once; a rule here runs every hour, unless it has an `interval`.",
    "It copies one platform unless told --filter-by-os; a rule copies all, unless it has `platforms`.",
)


def convert_oc_mirror(text: str) -> Draft:
    """Convert a whole file."""
    draft = Draft("oc image mirror", list(_NOTES))
    for source, target in _list_pairs(text):
        try:
            _add_rule(source, target, draft)
        except InvalidName as exc:
            draft.lose(f"{source} -> {target} was left out: {exc.message}")
    return draft


def is_oc_mirror(text: str) -> bool:
    """Whether every line names two images."""
    lines = list(_list_lines(text))
    return (
        bool(lines)
        and all("/" in word for line in lines for word in line.replace("=", " ").split())
        and all(("=" in line or len(line.split()) > 1) and ": " not in line for line in lines)
    )


def _list_lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if bare := line.partition("#")[0].strip():
            yield bare


def _list_pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in _list_lines(text):
        if "=" in line:
            yield from ((source, target) for source, _, target in (word.partition("=") for word in line.split()))
        else:
            source, *targets = line.split()
            yield from ((source, target) for target in targets)


def _add_rule(source: str, target: str, draft: Draft) -> None:
    for place in (source, target):
        if "://" in place:
            raise InvalidName(f"{place} is not a registry; `ocisync copy` reads and writes archives and buckets")
    rule, pattern = DraftEntry(), ""
    if "*" in source:
        source, _, pattern = source.rpartition(":")
    image, there = parse_image_name(source), parse_image_name(target)
    if not (image.tag or image.digest or pattern):
        raise InvalidName("the source has neither a tag nor a digest; add one, or write a rule for all its tags")
    name = ImageName(image.host, image.repository, image.tag, image.digest)
    place = f"{draft.registry_target(there.host)}/{there.repository}"
    rule.values = {"source": str(name), "target": place + (f":{there.tag}" if there.tag and not pattern else "")}
    if pattern:
        split_tag(f"x:{pattern.replace('*', 'x')}")
        allowed = re.escape(pattern).replace(r"\*", ".*").replace(r"\-", "-")
        rule.values["tags"] = {"allow": [allowed]}
    else:
        rule.values["type"] = "image"
    if image.digest and not (image.tag or there.tag):
        rule.note("pushed without a tag by oc; here it gets one that begins with digest-, so that gc keeps it")
    draft.add_rule(image.repository.rpartition("/")[2], rule)
