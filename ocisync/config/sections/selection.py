"""What a sync rule selects, and what it is called at the target: the sections in it, and their field types."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from ocisync.config.fields import (
    Duration,
    Items,
    Pattern,
    Section,
    parse_name_text,
    text_kind,
)
from ocisync.config.parsers import parse_pattern
from ocisync.config.validation_context import describe
from ocisync.model.digest import Digest, parse_digest
from ocisync.model.image_name import parse_tag
from ocisync.model.name_mapping import Substitution
from ocisync.model.versions import VersionRange, parse_range

PINNED = "digest-"  # begins the tags of images that a rule names by their digests only
_SHOWN_DIGITS = 16  # of a digest, in such a tag


def pinned_tag(digest: Digest) -> str:
    """The tag of an image that has no other name."""
    return PINNED + digest.partition(":")[2][:_SHOWN_DIGITS]


def _parse_substitutions(value: object) -> object:
    if isinstance(value, tuple):
        return value
    if not isinstance(value, dict):
        found = describe(value)
        raise ValueError(f'expected a mapping, found {found}. Write expression: replacement, as in "v(.*)": "\\\\1"')  # noqa: TRY004
    return tuple(_parse_substitution(pattern, replacement) for pattern, replacement in value.items())


def _parse_substitution(pattern: object, replacement: object) -> Substitution:
    if not isinstance(pattern, str) or not isinstance(replacement, str):
        raise ValueError("expected an expression and what becomes of its matches, both in quotes")  # noqa: TRY004
    try:
        re.compile(parse_pattern(pattern)).sub(replacement, "")
    except (re.error, IndexError) as exc:
        raise ValueError(f"{replacement[:100]!r} does not fit the expression {pattern[:100]!r}: {exc}") from exc
    return Substitution(pattern, replacement)


def _parse_digests(value: object) -> object:
    if isinstance(value, list):
        digests = [_parse_digest_entry(one) for one in value]
        return {pinned_tag(digest): digest for digest in digests}
    if isinstance(value, dict):
        return {parse_name_text(parse_tag, str(tag)): _parse_digest_entry(one) for tag, one in value.items()}
    raise ValueError(f"expected digests, found {describe(value)}. Write a list of them, or a mapping of tags to them")


def _parse_digest_entry(value: object) -> Digest:
    if not isinstance(value, str):
        raise ValueError(f"expected a digest such as sha256:…, found {describe(value)}")  # noqa: TRY004
    return parse_name_text(parse_digest, value)


_TEXT = {"type": "string", "minLength": 1}
_DIGESTS_SCHEMA = {"anyOf": [{"type": "array", "items": _TEXT}, {"type": "object", "additionalProperties": _TEXT}]}
_SUBSTITUTIONS_SCHEMA = {"type": "object", "additionalProperties": {"type": "string"}}

Versions = Annotated[VersionRange, text_kind("a range in quotes", parse_range), WithJsonSchema(_TEXT)]
Digests = Annotated[dict[str, Digest], BeforeValidator(_parse_digests), WithJsonSchema(_DIGESTS_SCHEMA)]
Substitutions = Annotated[
    tuple[Substitution, ...], BeforeValidator(_parse_substitutions), WithJsonSchema(_SUBSTITUTIONS_SCHEMA)
]


class TagRules(Section):
    """Conditions that a tag must meet all of. Expressions must match a whole tag; Python's syntax."""

    allow: Items[Pattern] = Field((), description="Only tags that one of these expressions matches. Not given: all.")
    deny: Items[Pattern] = Field((), description="Exclude what one of these matches, even if `allow` matches it.")
    semver: Versions | None = Field(
        None, description="Only tags that are versions in this range, such as `>=3.5 <4`; none with a suffix like -rc1."
    )
    semver_suffixes: bool = Field(
        False,
        description="With `semver`: take versions with a suffix too, such as 1.2.3-alpine, which is before 1.2.3.",
    )
    latest: int | None = Field(None, ge=1, description="Only this many of the tags that meet the other conditions.")
    latest_by: Literal["version", "created", "number", "name"] = Field(
        "version",
        description="Which are the latest: the highest versions, numbers or names of tags, or the images that were "
        "made last. A group `(?P<order>...)` in `allow` says which part of a tag is meant.",
    )
    newer_than: Duration | None = Field(None, description="Only images that were made within this time.")

    @property
    def versions(self) -> VersionRange | None:
        """The range, which takes suffixes or not."""
        return replace(self.semver, takes_suffixes=True) if self.semver and self.semver_suffixes else self.semver

    @field_validator("newer_than")
    @classmethod
    def _check_age(cls, value: float | None) -> float | None:
        if value == 0:
            raise ValueError("no image can be that new. Write a time such as 30d, or remove it")
        return value


class NameRules(Section):
    """Expressions that must match a repository's whole name."""

    allow: Items[Pattern] = Field(
        (), description="Only repositories that one of these expressions matches. Not given: all."
    )
    deny: Items[Pattern] = Field((), description="Exclude what one of these matches, even if `allow` matches it.")


class Rename(Section):
    """New names: the prefix is taken off, then the first expression that matches the whole name is used."""

    strip_prefix: str = Field("", description="A prefix to remove from repositories' names.")
    repositories: Substitutions = Field(
        (), description="Expressions for whole names, and what they become: the first that matches is used."
    )
    tags: Substitutions = Field((), description="The same for tags.")
