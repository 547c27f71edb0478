"""Ranges of versions as other tools read them, written so that the same tags are selected here.

Our ranges let `3.5` stand for every version that begins so, and take suffixes only where one is written; the tools
differ in both. Each of them also reads fewer tags as versions than we do: what it does not read as one is denied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ocisync.config.importers.draft import DraftEntry, Tree
from ocisync.errors import InvalidName
from ocisync.model.versions import parse_range

_IDENTIFIERS = r"-(?:(?!0[0-9]+(?:\.|$))[0-9A-Za-z-]+(?:\.(?!$)|$))+"  # of a suffix, to the tag's end
_LOOSE_SHAPE = rf"v?[0-9]+(?:\.[0-9]+){{0,2}}(?:{_IDENTIFIERS}|$)"  # 1.2-alpine is a version
_TOLERANT_SHAPE = rf"v?[0-9]+(?:(?:\.[0-9]+){{0,2}}$|\.[0-9]+\.[0-9]+{_IDENTIFIERS})"  # 1.2-alpine is none
_FOUR_PARTS = r".*\..*\..*\..*"
_TIGHT_SUFFIX = r"v?[0-9.]+[A-Za-z_].*"  # 3.13rc1, 1.2_3
_REGSYNC_WORD = re.compile(r"(>=|<=|>|<|=|\^|~)?v?([0-9]+(?:\.[0-9]+)*)((?:-[0-9A-Za-z.-]+)?)\Z", re.ASCII)
_BLANG_WORD = re.compile(
    r"\s*(?:(==|=|>=|<=|>|<|!=)\s*|(!))?([0-9]+(?:\.[0-9]+){2}(?:-[0-9A-Za-z.-]+)?|[0-9]+(?:\.[0-9]+)?(?:\.x){1,2})(?:\s+|\Z)",
    re.ASCII,
)
_SHORT_BOUND = re.compile(r"(?<![=<>])(>=|=>|<)\s*v?([0-9]+(?:\.[0-9]+)?)(?=[\s,]|\Z)", re.ASCII)
_SUFFIX = re.compile(r"[0-9xX*]-[0-9A-Za-z]", re.ASCII)


@dataclass(frozen=True, slots=True)
class VersionDialect:
    """How a tool reads versions in tags, and ranges of them."""

    rewrite: Callable[[str], str]  # one alternative of a range, in our words; InvalidName where the tool refuses it
    takes_suffixes: bool  # 1.3.0-alpine is in >=1.2.0
    denied: str  # tags that are versions for us only


def set_versions(entry: DraftEntry, tags: dict[str, Tree], dialect: VersionDialect, ranges: Sequence[str]) -> None:
    """Restrict a set of tags to the versions in one of the ranges, or say why that cannot be done."""
    if not any(ranges):
        return
    try:
        text = " || ".join(dialect.rewrite(one.strip()) for one in ranges if one)
        parse_range(text)
    except InvalidName as exc:
        entry.lose(f"semver: {exc.message}")
        return
    tags["semver"] = text
    if dialect.takes_suffixes:
        tags["semver_suffixes"] = True
    has_suffixes = dialect.takes_suffixes or _SUFFIX.search(text)
    _deny(entry, tags, dialect.denied if has_suffixes else _FOUR_PARTS)


def require_version(entry: DraftEntry, tags: dict[str, Tree], dialect: VersionDialect) -> None:
    """Restrict a set of tags to those that the tool reads as versions."""
    _deny(entry, tags, dialect.denied)


def _deny(entry: DraftEntry, tags: dict[str, Tree], pattern: str) -> None:
    before = tags.get("deny")
    tags["deny"] = [*(before if isinstance(before, list) else ()), pattern]
    entry.note("tags.deny: what the other tool does not read as a version")


def _rewrite_regsync(text: str) -> str:
    """Every version stands for itself, `^` and `~` for two bounds, which also 2.0.0-rc1 is below."""
    bounds = []
    for word in text.split():
        if not (found := _REGSYNC_WORD.match(word)):
            raise InvalidName(f"{text[:100]!r} is not a range that regsync reads")
        parts = _fill([int(part) for part in found[2].split(".")])
        version = ".".join(map(str, parts)) + found[3]
        if found[1] in ("^", "~"):
            bounds += [f">={version}", f"<{'.'.join(map(str, _list_next(parts, found[1])))}"]
        else:
            bounds.append((found[1] or "=") + version)
    return " ".join(bounds)


def _list_next(parts: list[int], operator: str) -> list[int]:
    """The first version after those that `^` or `~` lets change."""
    major, minor, patch = parts[:3]
    if operator == "~":
        return [major, minor + 1, 0]
    if major:
        return [major + 1, 0, 0]
    return [0, minor + 1, 0] if minor else [0, 0, patch + 1]


def _rewrite_blang(text: str) -> str:
    """Versions are written out, or end in `.x`, which stands for two bounds."""
    bounds: list[str] = []
    at = 0
    while at < len(text):
        if not (found := _BLANG_WORD.match(text, at)):
            raise InvalidName(f"{text[:100]!r} is not a range that dregsy reads")
        operator, version = "!=" if found[2] else {"==": "=", None: "="}.get(found[1], found[1]), found[3]
        bounds += _expand_wildcard(operator, version) if version.endswith(".x") else [operator + version]
        at = found.end()
    return " ".join(bounds)


def _expand_wildcard(operator: str, version: str) -> list[str]:
    numbers = [int(part) for part in version.split(".") if part != "x"]
    least, after = _fill(numbers), _fill(numbers)
    after[version.count(".") - 1] += 1  # of 1.x.x this is the second part, too
    first, beyond = (".".join(map(str, one)) for one in (least, after))
    bounds = {">": [f">={beyond}"], ">=": [f">={first}"], "<": [f"<{first}"], "<=": [f"<{beyond}"]}
    if operator == "!=":
        raise InvalidName(f"!={version} fits no version in dregsy; write what is meant")
    return bounds.get(operator, [f">={first}", f"<{beyond}"])


def _rewrite_masterminds(text: str) -> str:
    """Where a bound has a suffix, all versions with one are compared, and short bounds are whole versions."""
    if not _SUFFIX.search(text):
        return text
    return _SHORT_BOUND.sub(lambda one: one[1] + ".".join(map(str, _fill([int(n) for n in one[2].split(".")]))), text)


def _fill(parts: list[int]) -> list[int]:
    return parts + [0] * (3 - len(parts))


REGSYNC_VERSIONS = VersionDialect(_rewrite_regsync, takes_suffixes=True, denied=_TIGHT_SUFFIX)
# github.com/blang/semver: dregsy
BLANG_VERSIONS = VersionDialect(_rewrite_blang, takes_suffixes=True, denied=f"(?!{_TOLERANT_SHAPE}).*")
# github.com/Masterminds/semver: skopeo, zot, flux-mirror
MASTERMINDS_VERSIONS = VersionDialect(_rewrite_masterminds, takes_suffixes=False, denied=f"(?!{_LOOSE_SHAPE}).*")
