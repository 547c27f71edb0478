"""WWW-Authenticate: which credentials a server wants. Pure.

Spec: RFC 9110, 11.6.1, and RFC 6750 as docker's token specification uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))\s*', re.ASCII)
_SCHEME = re.compile(rf"\s*({_TOKEN})(?:\s+|$|(?=,))", re.ASCII)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*\s*(?=,|$)", re.ASCII)
_MAX = 16 * 1024  # characters


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme in lower case, with its parameters."""

    scheme: str
    parameters: Mapping[str, str]
    alternative: Challenge | None = None  # offered beside it


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """Every challenge of the headers' values that can be understood; what cannot is left out."""
    return [found for value in values for found in _parse(value[:_MAX])]


def best_challenge(values: Iterable[str]) -> Challenge | None:
    """The challenge to answer: Bearer with a realm before Basic, None when there is neither."""
    found = parse_challenges(values)
    bearer = next((one for one in found if one.scheme == "bearer" and one.parameters.get("realm")), None)
    basic = next((one for one in found if one.scheme == "basic"), None)
    return replace(bearer, alternative=basic) if bearer else basic


def is_same_server(one: Challenge, other: Challenge | None) -> bool:
    """Whether two challenges want the same scheme of the same token server."""
    return other is not None and _without_scope(one) == _without_scope(other)


def _without_scope(challenge: Challenge) -> tuple[str, str | None, str | None]:
    return challenge.scheme, challenge.parameters.get("realm"), challenge.parameters.get("service")


def _parse(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    parameters: dict[str, str] = {}
    at = 0
    while at < len(text):
        if text[at] in ", \t":
            at += 1
        elif found and (match := _PARAMETER.match(text, at)):
            name, quoted, bare = match.groups()
            parameters.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare)
            at = match.end()
        elif match := _SCHEME.match(text, at):
            parameters = {}
            found.append(Challenge(match[1].lower(), parameters))
            at = _after_token68(text, match.end())
        else:
            at = _after_comma(text, at)
    return found


def _after_token68(text: str, at: int) -> int:
    match = _TOKEN68.match(text, at)
    return match.end() if match else at


def _after_comma(text: str, at: int) -> int:
    comma = text.find(",", at)
    return len(text) if comma < 0 else comma + 1
