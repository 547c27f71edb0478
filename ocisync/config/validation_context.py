"""What the values of a configuration depend on: its folder, the environment, the targets it names; and its secrets.

Secrets are resolved while the file is checked, not when they are first used: an unset variable or an unreadable file
is told together with all other mistakes, before anything runs. Every resolved secret is collected here, so that the
logs can mask it wherever it appears (`ocisync.logs.register_secret`). Messages of this module show the kind of a value
and never the value: a password at the wrong place must not end up in a terminal or an issue.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from ocisync.config.parsers import parse_path
from ocisync.model.text.outside_json import make_encodable

MAX_SECRET = 64 * 1024  # bytes of a secret's file


@dataclass(frozen=True, slots=True)
class Context:
    """What validators need to know of the surroundings; `secrets` collects what they resolved."""

    folder: Path = field(default_factory=Path.cwd)  # relative paths start here
    targets: Mapping[str, str] | None = None  # name -> type; None: not checked
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    secrets: list[str] = field(default_factory=list)
    needs_secrets: bool = True  # False: one that is not known here is an error first where it is used


class UnknownSecret(ValueError):
    """The variable of a secret is not set, or its file cannot be read: it may be known elsewhere."""


def describe(value: object) -> str:
    """What a YAML value is, in a word; the value itself is never shown."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return names.get(type(value), type(value).__name__)


def resolve_text(value: object, context: Context) -> str:
    """The text behind `{env: …}`, `{file: …}` or plain text; not remembered as a secret."""
    text = _resolve(value, context)
    if not text:
        raise ValueError("it is empty. Fill it in, or remove the key")
    return text


def resolve_secret(value: object, context: Context) -> str:
    """The text behind `{env: …}`, `{file: …}` or plain text; remembered in the context."""
    text = _resolve(value, context)
    if not text:
        raise ValueError("the secret is empty. Fill it in, or remove the key")
    context.secrets.append(text)
    return text


def is_secret_file(value: object) -> TypeGuard[dict[str, str]]:
    """Whether a secret that could be resolved is `{file: …}`."""
    return isinstance(value, dict) and "file" in value


def _resolve(value: object, context: Context) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) == 1:
        ((kind, name),) = value.items()
        if kind == "env" and isinstance(name, str):
            return _read_environment(name, context)
        if kind == "file" and isinstance(name, str):
            return _read_secret_file(name, context)
    raise ValueError(
        f"expected a secret, found {describe(value)}. Write {{env: VARIABLE}}, {{file: PATH}} or quoted text"
    )


def _read_environment(name: str, context: Context) -> str:
    if name not in context.environ:
        raise UnknownSecret(f"the environment variable {name[:100]} is not set. Set it where ocisync is started")
    text = context.environ[name]
    if make_encodable(text) != text:  # Python's way to hold bytes that are no UTF-8
        raise ValueError(f"the environment variable {name[:100]} is not UTF-8 text. Set it again, or use a file")
    return text


def _read_secret_file(name: str, context: Context) -> str:
    path = parse_path(name, context.folder)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_SECRET + 1)
        text = content.decode("utf-8")
    except OSError as exc:
        raise UnknownSecret(f"cannot read the secret's file {path}: {exc.strerror}. Correct the path") from exc
    except UnicodeDecodeError as exc:
        raise ValueError(f"the secret's file {path} is not UTF-8 text. Write it as text") from exc
    if len(content) > MAX_SECRET:
        raise ValueError(f"the secret's file {path} is larger than {MAX_SECRET} bytes. Is it the right one?")
    return text.rstrip("\r\n")  # editors and `echo` end a file with a newline; no password does
