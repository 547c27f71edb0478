"""The part of a sync rule that says what may become of tags which the target has already."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from ocisync.config.fields import Section
from ocisync.config.validation_context import describe
from ocisync.errors import InvalidName
from ocisync.model.image_name import parse_tag

_HOLE = "{tag}"


def _check_backup(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f"expected a tag with {{tag}} in it, found {describe(value)}. Write bkup-{{tag}}")  # noqa: TRY004
    if value.count(_HOLE) != 1 or value == _HOLE:
        raise ValueError("it needs {tag} once, and something beside it. Write bkup-{tag}")
    try:
        parse_tag(value.replace(_HOLE, "x"))
    except InvalidName as exc:
        raise ValueError(exc.message) from exc
    return value


Backup = Annotated[
    str,
    BeforeValidator(_check_backup),
    WithJsonSchema({"type": "string", "pattern": r"^(.+\{tag\}.*|\{tag\}.+)$"}),
]


class TagPolicy(Section):
    """What a rule may change at its targets."""

    overwrite: Literal["always", "never"] = Field(
        "always", description="`never`: a tag that the target has stays as it is, even if it moved at the source."
    )
    backup: Backup | None = Field(
        None, description="The tag that keeps an image before its own tag moves: `bkup-{tag}`. Not given: none."
    )
    prune: bool = Field(
        False, description="Remove tags of the target that the rule selects and the source no longer has."
    )
    prune_limit: float = Field(
        0.2, gt=0, le=1, description="The largest share of the selected tags that may be removed at one time."
    )
