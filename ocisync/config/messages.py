"""Pydantic's findings in our words: each with its place in the file and what to do.

Pydantic speaks to programmers ("Input should be a valid integer"). Each of its error types that our models can raise
has a function here that says the same to the person who wrote the file. `FOREIGN_NAMES` has the words of other tools:
who comes from regsync and writes `creds` is told of `registries`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ocisync.config.diagnostics import KeyPath, Problem, find_suggestion, suggest
from ocisync.config.models import (
    Config,
    LayoutFolderTarget,
    RegistryTarget,
    S3Target,
    StaticTarget,
    TagRules,
)
from ocisync.config.parsers import format_duration, format_size
from ocisync.config.validation_context import describe
from ocisync.config.yaml_document import Document

TARGET_TYPES: Mapping[str, type[BaseModel]] = {
    "static": StaticTarget, "s3": S3Target, "registry": RegistryTarget, "layout": LayoutFolderTarget,
}  # fmt: skip
ENGINE_TYPES = ("local", "postgres")
SECRET_KEYS = frozenset(
    {
        "password",
        "identity_token",
        "token",
        "secret",
        "access_key_id",
        "secret_access_key",
        "session_token",
        "headers",
        "url",
    }
)
# Names that users of other tools write, and ours.
FOREIGN_NAMES = {
    "creds": "registries", "credentials": "registries", "user": "username", "pass": "password",
    "ratelimit": "rate_limit", "reqPerSec": "requests_per_second", "reqConcurrent": "concurrency",
    "tls_verify": "insecure_skip_verify", "url": "endpoint", "s3ForcePathStyle": "path_style", "period": "interval",
    "cron": "schedule", "timezone": "time_zone", "tz": "time_zone", "from": "source", "to": "target", "folder": "path",
    "dir": "path", "targets": "target", "include": "allow", "exclude": "deny",
    "tagSets": "tag_sets", "platform": "platforms", "semverRange": "semver", "stripPrefix": "strip_prefix",
}  # fmt: skip
_DURATIONS = frozenset({"interval", "rescan", "idle_timeout", "connect_timeout"})  # those with a limit
_QUOTE = 'Put it in quotes: "{text}"'


class ValidationFinding(NamedTuple):
    """What pydantic found, where in the file, and the file."""

    error: ErrorDetails
    path: KeyPath
    document: Document


def explain(errors: Iterable[ErrorDetails], document: Document) -> Iterator[Problem]:
    """One problem for each finding."""
    for error in errors:
        path = _find_path(error["loc"])
        yield Problem(document.line_of(path), path, _write_message(ValidationFinding(error, path, document)))


def _find_path(loc: KeyPath) -> KeyPath:
    """Where a finding is in the file: without the tags that pydantic adds for unions and keys."""
    path = tuple(key for key in loc if key != "[key]")
    if path[:1] == ("targets",) and len(path) > 2 and path[2] in TARGET_TYPES:
        path = path[:2] + path[3:]
    if path[:1] == ("engine",) and len(path) > 2:
        path = path[:1] + path[2:]
    return path


def _write_message(found: ValidationFinding) -> str:
    tell = _TELLERS.get(found.error["type"])
    if tell:
        return tell(found)
    return f"{found.error['msg'][:1].lower()}{found.error['msg'][1:]}. Correct it"


def _tell_own(found: ValidationFinding) -> str:
    text = str(found.error.get("ctx", {}).get("error", found.error["msg"]))
    written = found.document.texts.get(found.path)
    is_number = isinstance(found.error["input"], (int, float, bool))
    if text.startswith("expected") and is_number and written and not SECRET_KEYS & set(found.path):
        return f"{text}. {_QUOTE.format(text=written)}"
    return f"{text}. Put it in quotes" if text.startswith("expected") and ". " not in text else text


def _tell_unknown_key(found: ValidationFinding) -> str:
    key = str(found.path[-1])
    return f'unknown key "{key[:80]}"{_find_hint(key, found.path, found.error["loc"])}'


def _find_hint(key: str, path: KeyPath, loc: KeyPath) -> str:
    known = [field.alias or name for name, field in find_model(loc[:-1]).model_fields.items()]
    if find_suggestion(key, known) is None:
        if path[:1] == ("sync",) and key in TagRules.model_fields:
            return ": it belongs under `tags:`. Move it there"
        if FOREIGN_NAMES.get(key) in known:
            return f': did you mean "{FOREIGN_NAMES[key]}"?'
    return suggest(key, known)


def find_model(loc: KeyPath) -> type[BaseModel]:
    """The model that rules at a place of pydantic's: found on the way there, so that no section can be forgotten."""
    kind: Any = Config
    for step in loc:
        kind = next(_enter(kind, step), kind)  # what leads nowhere names a validator or a member of a union
    return next(_list_models(kind), Config)


def _enter(kind: Any, step: int | str) -> Iterator[Any]:
    """What may stand behind a key, a number in a list or the name of a member of a union."""
    arguments = get_args(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if step in kind.model_fields:
            yield kind.model_fields[str(step)].annotation
    elif isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping):
        yield arguments[-1]
    elif isinstance(get_origin(kind), type) and isinstance(step, int):
        yield arguments[0]
    else:
        yield from (one for one in _list_models(kind) if _is_named(one, step))
        for one in arguments:
            yield from _enter(one, step)


def _list_models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for one in get_args(kind):
        yield from _list_models(one)


def _is_named(model: type[BaseModel], step: int | str) -> bool:
    """Whether a step of a place means this member of a union: by its name, or by its `type`."""
    kind = model.model_fields.get("type")
    return step == model.__name__ or (kind is not None and step in get_args(kind.annotation))


def _tell_missing(found: ValidationFinding) -> str:
    if found.path == ("version",):
        return "the required key is missing. Begin the file with `version: 1`"
    field = find_model(found.error["loc"][:-1]).model_fields.get(str(found.path[-1]))
    description = (field.description if field else "") or f"`{found.path[-1]}`"
    return f"the required key is missing. Add it: {description[:1].lower()}{description[1:].rstrip('.')}"


def _teller_of_wrong_kind(kind: str, remedy: str) -> Callable[[ValidationFinding], str]:
    def tell(found: ValidationFinding) -> str:
        return f"expected {kind}, found {describe(found.error['input'])}. {remedy}"

    return tell


def _tell_not_text(found: ValidationFinding) -> str:
    written = found.document.texts.get(found.path)
    remedy = _QUOTE.format(text=written) if written and not SECRET_KEYS & set(found.path) else "Put it in quotes"
    return f"expected text, found {describe(found.error['input'])}. {remedy}"


def _tell_choice(found: ValidationFinding) -> str:
    expected = str(found.error["ctx"]["expected"]).replace("'", '"')
    if found.path == ("version",):
        return "expected 1, the only version of this format so far. Write `version: 1`"
    return f"expected {expected}, found {_show(found.error['input'])}. Write one of these"


def _tell_type_tag(found: ValidationFinding) -> str:
    tag = found.error["ctx"].get("tag")
    is_engine = found.path[:1] == ("engine",)
    if tag is None and is_engine:
        return "the engine needs a type. Add `type: postgres`, or `type: local`"
    if tag is None:
        return "a target needs a type. Add `type: static`, `type: s3`, `type: registry` or `type: layout`"
    return f'unknown type "{str(tag)[:40]}"{suggest(str(tag), ENGINE_TYPES if is_engine else TARGET_TYPES)}'


def _teller_of_bound(word: str, name: str) -> Callable[[ValidationFinding], str]:
    def tell(found: ValidationFinding) -> str:
        written = found.document.texts.get(found.path) or _show(found.error["input"])
        return f"{written[:40]} is out of range. Write {word} {_format_limit(found.path, found.error['ctx'][name])}"

    return tell


def _format_limit(path: KeyPath, limit: float) -> str:
    if path[-1] in ("part_size", "bandwidth"):
        return format_size(int(limit))
    return format_duration(limit) if path[-1] in _DURATIONS else f"{limit:g}"


def _tell_pattern(found: ValidationFinding) -> str:
    return f"{_show(found.error['input'])} is not allowed here. It must match {found.error['ctx']['pattern']}"


def _show(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value[:60]}"'
    return str(value)[:60] if isinstance(value, (int, float)) else describe(value)


_MAPPING = _teller_of_wrong_kind("a mapping", "Write `key: value` lines, indented under it")
_TELLERS: Mapping[str, Callable[[ValidationFinding], str]] = {
    "value_error": _tell_own,
    "extra_forbidden": _tell_unknown_key,
    "missing": _tell_missing,
    "string_type": _tell_not_text,
    "string_too_short": lambda _: "it is empty. Fill it in, or remove the key",
    "string_pattern_mismatch": _tell_pattern,
    "literal_error": _tell_choice,
    "union_tag_not_found": _tell_type_tag,
    "union_tag_invalid": _tell_type_tag,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dict_type": _MAPPING,
    "tuple_type": _teller_of_wrong_kind("a list", "Write `- item` lines under it, or [item, item]"),
    "bool_type": _teller_of_wrong_kind("true or false", "Write true or false, without quotes"),
    "int_type": _teller_of_wrong_kind("a whole number", "Write digits only, without quotes"),
    "float_type": _teller_of_wrong_kind("a number", "Write a number such as 5 or 0.5, without quotes"),
    "greater_than_equal": _teller_of_bound("at least", "ge"),
    "greater_than": _teller_of_bound("more than", "gt"),
    "less_than_equal": _teller_of_bound("at most", "le"),
}
