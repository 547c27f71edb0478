"""The part of a sync rule that says what goes along with images because it refers to them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from ocisync.config.fields import Section
from ocisync.config.validation_context import describe

_TYPES = "types"
_EXAMPLE = "Write `true`, or `{types: [application/spdx+json]}`"


class ReferrersSection(Section):
    """Which referrers are wanted."""

    types: tuple[str, ...] = ()  # artifact types; empty: all


def _parse_referrers(value: object) -> object:
    if value is False:
        return None
    if value is True:
        return ReferrersSection()
    if not isinstance(value, dict):
        raise ValueError(f"expected true, false or types, found {describe(value)}. {_EXAMPLE}")  # noqa: TRY004
    if unknown := [str(key) for key in value if key != _TYPES]:
        raise ValueError(f'unknown key "{unknown[0][:80]}". {_EXAMPLE}')
    types = value.get(_TYPES)
    if not isinstance(types, list) or not types or not all(isinstance(one, str) and one for one in types):
        raise ValueError(f"`types` needs a list of artifact types. {_EXAMPLE}")
    return ReferrersSection(types=tuple(types))


WantedReferrers = Annotated[
    ReferrersSection | None,
    BeforeValidator(_parse_referrers),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                {
                    "type": "object",
                    "properties": {
                        _TYPES: {
                            "type": "array",
                            "items": {"type": "string", "minLength": 1},
                            "minItems": 1,
                            "description": "Only referrers of these artifact types.",
                        }
                    },
                    "required": [_TYPES],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class ReferrerOptions(Section):
    """What a rule brings along with its images."""

    referrers: WantedReferrers = Field(
        None,
        description="`true`: copy what refers to an image too (OCI 1.1: signatures, SBOMs), and what refers to "
        "that; `{types: […]}`: only these artifact types.",
        json_schema_extra={"default": False},
    )
    digest_tags: bool = Field(
        False, description="Cosign's tags of an image are copied too: `sha256-<hex>.sig`, `.att` and `.sbom`."
    )
    include_external: bool = Field(
        False, description="Copy foreign layers too, from their own URLs where the registry does not have them."
    )
