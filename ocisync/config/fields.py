"""Field types of the models: text checked and turned into values, each with what the JSON Schema says of it.

Validators raise ValueError with the remedy; `ocisync.config.messages` adds the file, line and key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
)

from ocisync.config.diagnostics import suggest
from ocisync.config.parsers import (
    DURATION_PATTERN,
    FOREVER,
    LABEL_PATTERN,
    SIZE_PATTERN,
    Address,
    parse_address,
    parse_duration,
    parse_header_name,
    parse_label,
    parse_layout,
    parse_mail_server,
    parse_mirror,
    parse_path,
    parse_pattern,
    parse_prefix,
    parse_proxy,
    parse_registry_key,
    parse_retention,
    parse_size,
    parse_url,
)
from ocisync.config.validation_context import (
    Context,
    UnknownSecret,
    describe,
    is_secret_file,
    resolve_secret,
    resolve_text,
)
from ocisync.errors import InvalidName, MissingSecret
from ocisync.model.cron import parse_cron, parse_zone
from ocisync.model.image_name import parse_host, parse_name
from ocisync.model.platform import Platform, parse_platform

_T = TypeVar("_T")
# As shells, compose files and templates write a variable; a password that looks like one can be given by {env: …}.
_LIKE_A_VARIABLE = re.compile(
    r"""\$\{([A-Za-z_][A-Za-z0-9_]*)[^}]*\}\Z|\$([A-Z_][A-Z0-9_]{2,})\Z|\{\{.*?([A-Za-z_][A-Za-z0-9_]*)["'`]?\s*\}\}\Z""",
    re.ASCII,
)
MIN_SHARED_SECRET = 16  # characters of what strangers may try to guess


@dataclass(frozen=True, slots=True)
class TargetReference:
    """A target's name, a repository path there and a tag ("" when none was given)."""

    target: str
    repository: str = ""
    tag: str = ""

    def __str__(self) -> str:
        place = f"{self.target}/{self.repository}" if self.repository else self.target
        return f"{place}:{self.tag}" if self.tag else place


class Section(BaseModel):
    """The base of all sections: strict, frozen, unknown keys refused.

    Strict, for `"5"` where a number belongs is more often a mistake than a wish. `hide_input_in_errors`, for pydantic
    would show the whole input in an error, and there are secrets in it.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True
    )


def text_kind(kind: str, parse: Callable[[str], _T]) -> BeforeValidator:
    """Run `parse` on text, let values of other types that are already parsed through, refuse numbers and lists."""

    def check(value: object) -> object:
        if isinstance(value, (bool, int, float, list, dict, type(None))):
            raise ValueError(f"expected {kind}, found {describe(value)}")  # noqa: TRY004 -- pydantic wants ValueError
        return parse_name_text(parse, value) if isinstance(value, str) else value

    return BeforeValidator(check)


def parse_name_text(parse: Callable[[str], _T], text: str) -> _T:
    """Parse text; what breaks a name's grammar becomes a ValueError as pydantic wants it."""
    try:
        return parse(text)
    except InvalidName as exc:
        raise ValueError(exc.message) from exc


def check_duration(value: object, parse: Callable[[str], float] = parse_duration) -> float:
    """Seconds of a duration as it is written; a number without a unit is refused."""
    if isinstance(value, str):
        return parse(value)
    if value == 0 and not isinstance(value, bool):
        return 0.0
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f"{value} has no unit. Write {value}s for seconds or {value}m for minutes")  # noqa: TRY004
    raise ValueError(f"expected a duration such as 10s or 60m, found {describe(value)}. Write one, with its unit")


def _duration_validator(parse: Callable[[str], float]) -> BeforeValidator:
    return BeforeValidator(lambda value: check_duration(value, parse))


def _check_size(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected a size such as 16MiB, found {describe(value)}")  # noqa: TRY004
    return parse_size(value)


def _resolve_path(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not value or "\0" in value:
        found = "an empty one" if value == "" else describe(value)
        raise ValueError(f"expected a path, found {found}. Write a file or folder, in quotes if need be")
    return parse_path(value, context_of(info).folder)


def _resolve_file(value: object, info: ValidationInfo) -> object:
    path = _resolve_path(value, info)
    if isinstance(path, Path) and not path.is_file():
        raise ValueError(f"there is no file {path}. Create it, or correct the path")
    return path


def _resolve_certificates(value: object, info: ValidationInfo) -> object:
    path = _resolve_file(value, info)
    if isinstance(path, Path):
        _check_certificates(path)
    return path


def _check_certificates(path: Path) -> None:
    """Refuse what TLS would refuse at the first request: a key, a DER file, a page that a download brought instead."""
    import ssl  # late: most configurations have no such file

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise ValueError(
            f"{path} holds no certificate that can be read. Write one or several in PEM: -----BEGIN CERTIFICATE-----"
        ) from None
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc.strerror}. Let the user that runs ocisync read it") from exc


def _parse_plain_references(value: object, info: ValidationInfo) -> object:
    return parse_references(value, info, _parse_plain_place)


def parse_references(
    value: object, info: ValidationInfo, place: Callable[[str, str], TargetReference]
) -> tuple[TargetReference, ...]:
    """One target or a list of them; `place` reads what follows a target's name."""
    if isinstance(value, tuple):
        return value
    written = value if isinstance(value, list) else [value]
    if not written:
        raise ValueError("the list is empty. Name at least one target")
    references = tuple(_parse_reference(item, info, place) for item in written)
    twice = next((one for one in references if references.count(one) > 1), None)
    if twice:
        raise ValueError(f"{str(twice)!r} appears twice. Remove one")
    return references


def _parse_reference(
    value: object, info: ValidationInfo, place: Callable[[str, str], TargetReference]
) -> TargetReference:
    if not isinstance(value, str):
        raise ValueError(f"expected a target's name, found {describe(value)}. Write a name from `targets:`")  # noqa: TRY004
    name, slash, rest = value.partition("/")
    if not slash:
        return TargetReference(check_target(name, info))
    if not rest:
        raise ValueError(f"{value[:100]!r}: there is nothing after the slash. Write target or target/repository")
    return place(check_target(name, info), rest)


def _parse_plain_place(name: str, rest: str) -> TargetReference:
    if ":" in rest:
        raise ValueError(f"{f'{name}/{rest}'[:100]!r}: a target takes no tag or digest. Write target/repository")
    return TargetReference(name, parse_name_text(parse_name, rest))


def check_target(name: str, info: ValidationInfo) -> str:
    """Check that `targets:` defines the name."""
    targets = context_of(info).targets
    if targets is not None and name not in targets:
        known = suggest(name, targets) or ". Define it under `targets:`"
        raise ValueError(f'no target is named "{name[:80]}"{known}')
    return name


def _check_served(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        raise ValueError(f"expected a target's name, found {describe(value)}. Write a name from `targets:`")  # noqa: TRY004
    kind = (context_of(info).targets or {}).get(check_target(value, info))
    if kind == "registry":
        raise ValueError(f'"{value}" is a registry, which serves itself. Name a target of type static or s3')
    if kind == "layout":
        raise ValueError(f'"{value}" holds layouts, which no client can pull from. Name a target of type static or s3')
    return value


class FileSecret(SecretStr):
    """A secret from a file.

    The path is kept, because the file may come to hold another secret while the process runs (a rotated password in a
    mounted volume): the registry client reads it again after a refusal, without a restart.
    """

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self.path = path


class UnsetSecret(SecretStr):
    """A secret that is not known here: a command that does not need it goes on without.

    An operator's shell has not the variables of the service, and must be able to ask for its status all the same.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("")
        self._reason = reason

    def get_secret_value(self) -> str:
        """Raise the reason.

        Raises:
            MissingSecret: always.
        """
        raise MissingSecret(f"a secret of the configuration is needed, and {self._reason}")


def _resolve_secret_field(value: object, info: ValidationInfo) -> object:
    if isinstance(value, SecretStr):
        return value
    context = context_of(info)
    if isinstance(value, str) and (found := _LIKE_A_VARIABLE.match(value)):
        name = found[found.lastindex or 0]
        raise ValueError(
            f"it looks like the variable {name}, and would be used as the secret itself. Write {{env: {name}}}"
        )
    try:
        text = resolve_secret(value, context)
    except UnknownSecret as exc:
        if context.needs_secrets:
            raise
        return UnsetSecret(str(exc))
    return FileSecret(text, parse_path(value["file"], context.folder)) if is_secret_file(value) else SecretStr(text)


def _resolve_login_name(value: object, info: ValidationInfo) -> object:
    """A user's name, which may stand elsewhere, but is no secret."""
    if not isinstance(value, dict):
        return value
    context = context_of(info)
    try:
        return resolve_text(value, context)
    except UnknownSecret:
        if context.needs_secrets:
            raise
        return "unknown"  # its password, from the same place, tells who asks for it


def _check_length(value: SecretStr) -> SecretStr:
    if not isinstance(value, UnsetSecret) and len(value.get_secret_value()) < MIN_SHARED_SECRET:
        raise ValueError(
            f"the secret can be guessed: it is too short. Make one of at least {MIN_SHARED_SECRET} characters"
        )
    return value


def context_of(info: ValidationInfo) -> Context:
    """The loader's context, or one of the current folder."""
    return info.context if isinstance(info.context, Context) else Context()


def _schema(kind: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


_SECRET_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1, "writeOnly": True},
        *(
            {
                "type": "object",
                "properties": {kind: {"type": "string", "minLength": 1, "description": what}},
                "required": [kind],
                "additionalProperties": False,
            }
            for kind, what in (("env", "An environment variable's name."), ("file", "A file that holds the secret."))
        ),
    ]
}

Duration = Annotated[float, _duration_validator(parse_duration), _schema("string", pattern=DURATION_PATTERN)]
Retention = Annotated[
    float,
    _duration_validator(parse_retention),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"const": FOREVER}]}),
]
CronFields = Annotated[str, text_kind("a cron expression in quotes", parse_cron), _schema("string", minLength=1)]
TimeZone = Annotated[
    tzinfo, text_kind("a time zone's name", parse_zone), PlainSerializer(str), _schema("string", minLength=1)
]
Size = Annotated[
    int,
    BeforeValidator(_check_size),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": SIZE_PATTERN}]}),
]
Pattern = Annotated[str, text_kind("an expression in quotes", parse_pattern), _schema("string", format="regex")]
Host = Annotated[str, text_kind("a registry's host", parse_host), _schema("string", minLength=1)]
Label = Annotated[str, text_kind("a name", parse_label), _schema("string", pattern=LABEL_PATTERN)]
PlatformName = Annotated[
    Platform,
    text_kind("a platform such as linux/amd64", parse_platform),
    _schema("string", pattern="^[^/]+/[^/]+(/[^/]+)?$"),
]
ListenAddress = Annotated[Address, text_kind("an address such as 127.0.0.1:8080", parse_address), _schema("string")]
MailServer = Annotated[
    Address, text_kind("a mail server such as smtp.example.com:587", parse_mail_server), _schema("string", minLength=1)
]
FolderPath = Annotated[Path, BeforeValidator(_resolve_path), _schema("string", minLength=1)]
FilePath = Annotated[Path, BeforeValidator(_resolve_file), _schema("string", minLength=1)]
Certificates = Annotated[Path, BeforeValidator(_resolve_certificates), _schema("string", minLength=1)]
Targets = Annotated[
    tuple[TargetReference, ...],
    BeforeValidator(_parse_plain_references),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
            ]
        }
    ),
]
ServedTarget = Annotated[str, BeforeValidator(_check_served), _schema("string", minLength=1)]
HttpUrl = Annotated[str, text_kind("a URL", parse_url), _schema("string", pattern="^https?://[^@?#]+$")]
RegistryKey = Annotated[
    str, text_kind("a registry's host, or a host and a path", parse_registry_key), _schema("string", minLength=1)
]
MirrorPlace = Annotated[str, text_kind("a registry's host", parse_mirror), _schema("string", minLength=1)]
ProxyUrl = Annotated[
    str, text_kind("a proxy's URL", parse_proxy), _schema("string", pattern="^(https?://[^@?#/]+/?|direct)$")
]
Prefix = Annotated[str, text_kind("a folder's name", parse_prefix), _schema("string")]
Layout = Annotated[str, text_kind("a layout in quotes", parse_layout), _schema("string")]
HeaderName = Annotated[str, text_kind("a header's name", parse_header_name), _schema("string")]
Secret = Annotated[SecretStr, BeforeValidator(_resolve_secret_field), WithJsonSchema(_SECRET_SCHEMA)]
LoginName = Annotated[str, BeforeValidator(_resolve_login_name), WithJsonSchema(_SECRET_SCHEMA)]
SharedSecret = Annotated[
    SecretStr, BeforeValidator(_resolve_secret_field), AfterValidator(_check_length), WithJsonSchema(_SECRET_SCHEMA)
]
Items: TypeAlias = Annotated[tuple[_T, ...], Field(strict=False)]
