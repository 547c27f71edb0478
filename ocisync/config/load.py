"""The way from a file to a checked configuration: text, values, models.

A user who corrects one mistake and is then told of the next gives up at the third. So every check runs over every file:
the models check each value (pydantic collects all errors), `validate` checks what concerns several keys, and because
it reads the plain values it also runs when a model refused the file. Their findings become one error, sorted by line.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from ocisync.config.diagnostics import Problem, make_config_error
from ocisync.config.messages import explain
from ocisync.config.models import Config
from ocisync.config.overlaps import find_overlaps
from ocisync.config.validate import check_together, derive_names, find_unknown_secrets, find_warnings, list_entries
from ocisync.config.validation_context import Context
from ocisync.config.yaml_document import Document, SyntaxProblem, Value, parse_document
from ocisync.errors import ConfigError

DEFAULT_FILE = "ocisync.yaml"
MAX_FILE = 1 << 20  # bytes


def load_config(path: Path, *, environ: Mapping[str, str] | None = None, needs_secrets: bool = True) -> Config:
    """Load a file; relative paths in it start at its folder.

    Without `needs_secrets` a secret that is not known here is a warning, and an error where it is used.

    Raises:
        ConfigError: the file is missing, unreadable or wrong; the message has a line for every problem.
    """
    text = read_text(path)
    return parse_config(text, folder=path.parent, file=str(path), environ=environ, needs_secrets=needs_secrets)


def read_text(path: Path) -> str:
    """A configuration's text; at most 1 MiB of UTF-8.

    Raises:
        ConfigError: the file is missing or unreadable, or not that.
    """
    return _decode(_read_file(path), path)


def parse_config(
    text: str,
    *,
    folder: Path,
    file: str = DEFAULT_FILE,
    environ: Mapping[str, str] | None = None,
    needs_secrets: bool = True,
) -> Config:
    """Check a configuration's text; `file` is what errors call it.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        document = parse_document(text)
    except SyntaxProblem as exc:
        raise make_config_error(file, [exc.problem]) from exc
    root = _check_root(document, file)
    known = os.environ if environ is None else environ
    context = Context(folder.absolute(), _list_target_types(root), known, needs_secrets=needs_secrets)
    config = _validate(root, document, context, file)
    config._file = file
    config._secrets = tuple(dict.fromkeys(context.secrets))
    warnings = [*find_warnings(root), *(() if needs_secrets else find_unknown_secrets(root, context))]
    config._warnings = tuple(Problem(document.line_of(place), place, message) for place, message in warnings)
    return config


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE + 1)
    except FileNotFoundError as exc:
        raise ConfigError(
            f"{path}: there is no configuration. `ocisync init` writes one to start from; --config names another file",
            code="config.missing",
        ) from exc
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}. Name a file that this user may read") from exc
    if len(content) > MAX_FILE:
        raise ConfigError(f"{path}: larger than {MAX_FILE} bytes. Is it the right file?")
    return content


def _decode(content: bytes, path: Path) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"{path}:1: the file is UTF-16. Save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text (byte {exc.start}). Save the file as UTF-8") from exc


def _check_root(document: Document, file: str) -> dict[str, Value]:
    root = document.value
    if root is None:
        message = "the configuration is empty. `ocisync init` writes one to start from"
        raise make_config_error(file, [Problem(1, (), message)])
    if not isinstance(root, dict):
        message = "expected a mapping at the top. Begin with `version: 1`, and see `ocisync init`"
        raise make_config_error(file, [Problem(document.line_of(()), (), message)])
    # `sync:` with nothing after it is what is left when the last rule was commented out: not an error.
    empty = {key for key, value in root.items() if value is None and key in Config.model_fields}
    return {key: value for key, value in root.items() if key not in empty and not key.startswith("x-")}


def _list_target_types(root: dict[str, Value]) -> dict[str, str]:
    found = root.get("targets")
    names = found if isinstance(found, dict) else {}
    return dict.fromkeys(names, "") | {
        str(path[1]): str(entry.get("type")) for path, entry in list_entries(root, "targets")
    }


def _validate(root: dict[str, Value], document: Document, context: Context, file: str) -> Config:
    problems = list(document.problems)
    problems += [Problem(document.line_of(place), place, message) for place, message in check_together(root, context)]
    try:
        config = Config.model_validate(root, context=context)
    except ValidationError as exc:
        problems += explain(exc.errors(include_url=False), document)
        raise make_config_error(file, problems) from None  # its cause would show the input, secrets among it
    if len(config.sync) > 1:
        problems += [Problem(document.line_of(place), place, message) for place, message in find_overlaps(config)]
    if problems:
        raise make_config_error(file, problems)
    return _give_names(config, derive_names(root))


def _give_names(config: Config, names: Mapping[tuple[str | int, ...], str]) -> Config:
    drop = (rule.model_copy(update=_name_update(names, "drop", at, rule.name)) for at, rule in enumerate(config.drop))
    sync = (rule.model_copy(update=_name_update(names, "sync", at, rule.name)) for at, rule in enumerate(config.sync))
    return config.model_copy(update={"drop": tuple(drop), "sync": tuple(sync)})


def _name_update(names: Mapping[tuple[str | int, ...], str], section: str, at: int, own: str) -> dict[str, str]:
    return {"name": names.get((section, at), own)}
