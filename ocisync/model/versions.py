"""Versions as tags spell them, and ranges of them.

Spec: Semantic Versioning 2.0.0, "precedence", with what tags add to it: a leading v, any number of parts (`20.04`,
`10.0.17763.1`), and numbers inside a suffix counted as numbers (rc10 is after rc9). Ranges are read as npm, regsync and
skopeo read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering

from ocisync.errors import InvalidName

Suffix = tuple[tuple[int, int, str], ...]

_RELEASE = r"v?([0-9]{1,18}(?:\.[0-9]{1,18}){0,7})"
_VERSION = re.compile(_RELEASE + r"(?:[-_+]([A-Za-z0-9._+-]*[A-Za-z0-9]))?\Z", re.ASCII)
# Without a separator only after several parts: 1.2rc1 is a version, the commit 3f2a91c is none.
_TIGHT = re.compile(r"v?([0-9]{1,18}(?:\.[0-9]{1,18}){1,7})([A-Za-z][A-Za-z0-9._-]*)\Z", re.ASCII)
_PIECES = re.compile(r"[0-9]+|[A-Za-z]+", re.ASCII)
_OPERATOR = re.compile(r"(=>|=<|>=|<=|!=|~>|[=><~^])?\s*([^\s,=><~^!|]+)")
_HYPHEN = re.compile(r"(\S+)\s+-\s+(\S+)\Z")
_PATTERN = re.compile(r"v?((?:[0-9]{1,18}|[xX*])(?:\.(?:[0-9]{1,18}|[xX*])){0,7})(?:-([0-9A-Za-z.-]+))?\Z", re.ASCII)
_FULL = 3  # parts of a version that is spelled out: fewer stand for all that begin so
_SPELLINGS = {"=>": ">=", "=<": "<=", "~>": "~", "": "="}


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A version; equal when neither comes before the other (1.2 and v1.2.0)."""

    release: tuple[int, ...]  # without zeros at its end
    suffix: Suffix = ()  # of a pre-release or a variant; empty: the release itself

    @property
    def is_release(self) -> bool:
        """Whether it has no suffix."""
        return not self.suffix

    def begins(self, count: int) -> tuple[int, ...]:
        """The first parts of the release."""
        return (self.release + (0,) * count)[:count]

    def with_suffix(self, suffix: Suffix) -> Version:
        """The same release with a suffix."""
        return Version(self.release, suffix)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and (self.release, self.suffix) == (other.release, other.suffix)

    def __lt__(self, other: Version) -> bool:
        mine, others = (self.release, self.is_release, self.suffix), (other.release, other.is_release, other.suffix)
        return mine < others

    def __hash__(self) -> int:
        return hash((self.release, self.suffix))


def parse_version(text: str) -> Version | None:
    """The version that a tag is, or None when it is none (`latest`, `stable-20240101`)."""
    found = _VERSION.match(text) or _TIGHT.match(text)
    return _make_version(found[1], found[2] or "") if found else None


def _make_version(release: str, suffix: str) -> Version:
    parts = [int(part) for part in release.split(".")]
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    pieces = _PIECES.findall(suffix)
    return Version(tuple(parts), tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in pieces))


@dataclass(frozen=True, slots=True)
class _Comparator:
    operator: str
    parts: tuple[int, ...]  # as many as were written; none for *
    suffix: Suffix = ()

    def admits(self, version: Version, takes_suffixes: bool) -> bool:
        """Whether a version fits, with a suffix only where suffixes are taken."""
        if version.suffix and not takes_suffixes:
            return False
        if self.operator in "^~":
            return (
                version >= self._first_version and version.begins(self._count_fixed) == self.parts[: self._count_fixed]
            )
        order = self._compare(version)
        return {"=": order == 0, "!=": order != 0, ">": order > 0, "<": order < 0, ">=": order >= 0}.get(
            self.operator, order <= 0
        )

    @property
    def _first_version(self) -> Version:
        return _make_version(".".join(map(str, self.parts or (0,))), "").with_suffix(self.suffix)

    @property
    def _count_fixed(self) -> int:
        """How many parts may not change."""
        if self.operator == "~":
            return min(2, len(self.parts))
        return next((at + 1 for at, part in enumerate(self.parts) if part), len(self.parts))

    def _compare(self, version: Version) -> int:
        """Below, in, or above what was written: 3.5 stands for every version that begins so."""
        if len(self.parts) < _FULL and not self.suffix:
            begins = version.begins(len(self.parts))
            return (begins > self.parts) - (begins < self.parts)
        return (version > self._first_version) - (version < self._first_version)


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Alternatives, each of comparators that must all fit. One with a suffix anywhere takes versions with suffixes."""

    text: str
    alternatives: tuple[tuple[_Comparator, ...], ...]
    takes_suffixes: bool = False  # 1.2.3-alpine is in >=1.2.0, and before 1.2.3 as Semantic Versioning orders it

    def __str__(self) -> str:
        return self.text

    def admits(self, version: Version | None) -> bool:
        """Whether a version fits; what is none never does."""
        return version is not None and any(
            all(one.admits(version, self.takes_suffixes or _has_suffix(alternative)) for one in alternative)
            for alternative in self.alternatives
        )


def _has_suffix(alternative: Iterable[_Comparator]) -> bool:
    return any(one.suffix for one in alternative)


def parse_range(text: str) -> VersionRange:
    """Read `>=3.5 <4`, `^1.2`, `~1.2.3`, `1.x`, `1.2 - 1.4`, alternatives separated by `||`.

    Raises:
        InvalidName: not of that form.
    """
    alternatives = tuple(tuple(_parse_alternative(part.strip(), text)) for part in text.split("||"))
    return VersionRange(text, alternatives)


def _parse_alternative(part: str, text: str) -> list[_Comparator]:
    hyphen = _HYPHEN.match(part)
    if hyphen:
        return [_parse_comparator(">=", hyphen[1], text), _parse_comparator("<=", hyphen[2], text)]
    if not part or _OPERATOR.sub("", part).strip(" ,\t"):
        raise _range_error(text)
    return [_parse_comparator(operator, version, text) for operator, version in _OPERATOR.findall(part)]


def _parse_comparator(operator: str, version: str, text: str) -> _Comparator:
    found = _PATTERN.match(version)
    if not found:
        raise _range_error(text)
    written = found[1].split(".")
    numbers = written[: next((at for at, part in enumerate(written) if part in "xX*"), len(written))]
    suffix = _make_version("0", found[2] or "").suffix
    return _Comparator(_SPELLINGS.get(operator, operator), tuple(int(part) for part in numbers), suffix)


def _range_error(text: str) -> InvalidName:
    return InvalidName(
        f"{text[:100]!r} is not a range of versions: write comparisons such as >=3.5 <4, ^1.2, ~1.2.3, 1.x or "
        "1.2 - 1.4, alternatives with || between them"
    )
