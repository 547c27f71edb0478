"""Who may have signed images: the section `verify`, and what rules demand of images before they take them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from ocisync.config.fields import Duration, Items, Label, Pattern, Section, context_of, text_kind
from ocisync.config.parsers import parse_path, parse_url
from ocisync.config.validation_context import describe
from ocisync.model.text.outside_json import load_json

_PEM = "-----BEGIN PUBLIC KEY-----"
_MAX_KEY = 64 * 1024  # bytes
_MAX_ROOT = 4 * 1024 * 1024  # bytes
_ROOT_ADVICE = "Write it with `cosign trusted-root create`, or take sigstore's trusted_root.json"
_EXAMPLE = "Write a policy's name, a list of them, or `{any: [NAME], wait: 15m}`"


def _read_key(value: object, info: ValidationInfo) -> object:
    if isinstance(value, dict) and list(value) == ["file"]:
        value = value["file"]
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a public key, found {describe(value)}. Write its file, or the key itself in PEM")
    return _check_key(value if value.lstrip().startswith("-----") else _read_file(value, info))


def _read_file(name: str, info: ValidationInfo) -> str:
    path = parse_path(name, context_of(info).folder)
    try:
        with path.open("rb") as stream:
            return stream.read(_MAX_KEY).decode("ascii", "replace")
    except OSError as exc:
        raise ValueError(f"cannot read the key's file {path}: {exc.strerror}. Correct the path") from exc


def _check_key(pem: str) -> str:
    if _PEM not in pem:
        raise ValueError(f"it is not a public key in PEM ({_PEM}), as `cosign public-key` writes it")
    body = pem.partition(_PEM)[2].partition("-----")[0]
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
    except ValueError:
        der = b""
    if not der.startswith(b"\x30"):  # DER's SEQUENCE; what is in it is seen by `config check`, and when it is used
        raise ValueError("the public key cannot be read. Write it as `cosign public-key` prints it")
    return pem


def _read_root(value: object, info: ValidationInfo) -> object:
    """The path of a trusted root that is one, as far as can be seen without reading its certificates."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected the file of a trusted root, found {describe(value)}")
    path = parse_path(value, context_of(info).folder)
    try:
        with path.open("rb") as stream:
            document = load_json(stream.read(_MAX_ROOT))
    except OSError as exc:
        raise ValueError(f"cannot read {path}: {exc.strerror}. Correct the path") from exc
    except ValueError as exc:
        raise ValueError(f"{path} is not JSON. {_ROOT_ADVICE}") from exc
    if isinstance(document, dict) and "trustedRoot" in document:  # a client's whole trust configuration
        document = document["trustedRoot"]
    lists = ("certificateAuthorities", "tlogs")
    if not (isinstance(document, dict) and any(document.get(name) for name in lists)):
        raise ValueError(f"{path} names neither authorities nor logs, so it is no trusted root. {_ROOT_ADVICE}")
    return path


TrustedRootFile = Annotated[
    Path, BeforeValidator(_read_root), WithJsonSchema({"type": "string", "minLength": 1, "description": "A file."})
]
PublicKeyText = Annotated[
    str,
    BeforeValidator(_read_key),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "description": "A file, or the key itself in PEM."},
                {
                    "type": "object",
                    "properties": {"file": {"type": "string", "minLength": 1}},
                    "required": ["file"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
Issuer = Annotated[str, text_kind("a URL", parse_url), WithJsonSchema({"type": "string", "pattern": "^https?://"})]


class KeylessSigner(Section):
    """Who may sign without a key."""

    issuer: Issuer = Field(
        description="The issuer that confirms the identity, such as https://token.actions.githubusercontent.com"
    )
    identity: Pattern = Field(
        description="An expression that must match all of the signer's name: an address, or the URL of a workflow."
    )


class VerifyPolicy(Section):
    """Keys and identities, of which one must have signed an image."""

    keys: Items[PublicKeyText] = Field((), description="Public keys: files, or keys in PEM.")
    keyless: Items[KeylessSigner] = Field((), description="Identities, for signatures that are made without a key.")
    trusted_root: TrustedRootFile | None = Field(
        None,
        description="sigstore's trusted_root.json. With `keyless`: whom to believe about identities; not given: "
        "sigstore's public one, which the extra `ocisync[sigstore]` keeps up to date. With `keys`: the logs to believe "
        "about the time of a signature.",
    )
    signed_as: Items[Pattern] = Field(
        (),
        description="Expressions for the repositories that a signature under a .sig tag may name, such as "
        "`ghcr\\.io/acme/.*`. Not given: the one that is copied from.",
    )
    predicates: Items[str] = Field(
        (), description="Kinds of signed statements that count too, such as https://slsa.dev/provenance/v1."
    )

    @model_validator(mode="after")
    def _check_signers(self) -> VerifyPolicy:
        if not (self.keys or self.keyless):
            raise ValueError("nothing could satisfy it. Add `keys` or `keyless`")
        return self


class Demand(Section):
    """Which policies a rule demands."""

    any: Items[Label] = Field((), description="One of these policies must hold.")
    all: Items[Label] = Field((), description="Each of these policies must hold.")
    otherwise: Literal["refuse", "warn"] = Field("refuse", alias="else")
    wait: Duration = 0.0
    each: Literal["platform"] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The policies."""
        return self.any or self.all

    @model_validator(mode="after")
    def _check_names(self) -> Demand:
        if bool(self.any) == bool(self.all):
            raise ValueError(f"it needs `any` or `all`, one of the two. {_EXAMPLE}")
        return self


class MinAge(Section):
    """How old images must be."""

    of: Duration
    by: Literal["seen", "created", "log"] = "seen"


def _parse_demand(value: object) -> object:
    """A name, or a list of them, is `any`."""
    if isinstance(value, str):
        return {"any": [value]}
    return {"any": value} if isinstance(value, list) else value


def _parse_age(value: object) -> object:
    return {"of": value} if isinstance(value, str) else value


_NAMES = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
_DEMAND_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        _NAMES,
        {
            "type": "object",
            "properties": {
                "any": {**_NAMES, "description": "One of these policies must hold."},
                "all": {**_NAMES, "description": "Each of these policies must hold."},
                "else": {"enum": ["refuse", "warn"], "description": "What becomes of images for which none holds."},
                "wait": {
                    "type": "string",
                    "description": "How long after an image was first seen its signature may still come.",
                },
                "each": {
                    "const": "platform",
                    "description": "Signatures of all images of an index count in place of one of the index.",
                },
            },
            "additionalProperties": False,
        },
    ]
}
_AGE_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "properties": {
                "of": {"type": "string", "description": "How old, such as 3d."},
                "by": {
                    "enum": ["seen", "created", "log"],
                    "description": "Since ocisync first saw it, since it says it was made, or since a log took note of "
                    "its signature.",
                },
            },
            "required": ["of"],
            "additionalProperties": False,
        },
    ]
}
VerifyDemand = Annotated[Demand | None, BeforeValidator(_parse_demand), WithJsonSchema(_DEMAND_SCHEMA)]
AgeDemand = Annotated[MinAge | None, BeforeValidator(_parse_age), WithJsonSchema(_AGE_SCHEMA)]


class VerifyOption(Section):
    """What signatures a rule demands."""

    verify: VerifyDemand = Field(
        None,
        description="Policies of which one must hold for an image, or it is not copied. "
        "`{any: […]}` or `{all: […]}` with `else`, `wait` and `each` says more.",
    )


class TrustOptions(VerifyOption):
    """What a sync rule demands of images, and what it need not ask about them."""

    min_age: AgeDemand = Field(
        None,
        description="Copy images only when they are this old: `3d` since they were first seen here; "
        "`{of: 3d, by: log}` since they were signed, `by: created` since they say they were made.",
    )
    immutable: Items[Pattern] = Field(
        (),
        description="Tags that never move: once verified at the target, they are not looked up again until `recheck`.",
    )
