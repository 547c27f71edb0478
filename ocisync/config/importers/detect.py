"""From another tool's configuration to ours."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ocisync.config.diagnostics import InvalidConfig, make_config_error
from ocisync.config.importers.draft import Draft
from ocisync.config.importers.dregsy import convert_dregsy, is_dregsy
from ocisync.config.importers.flux_mirror import convert_flux_mirror, is_flux_mirror
from ocisync.config.importers.foreign_values import keep_spelling
from ocisync.config.importers.image_syncer import convert_image_syncer, is_image_syncer
from ocisync.config.importers.oc_mirror import convert_oc_mirror, is_oc_mirror
from ocisync.config.importers.regsync import convert_regsync, is_regsync
from ocisync.config.importers.skopeo import convert_skopeo, is_skopeo
from ocisync.config.importers.zot import convert_zot, is_zot
from ocisync.config.load import parse_config, read_text
from ocisync.config.yaml_document import SyntaxProblem, Value, parse_document
from ocisync.errors import ConfigError

Origin = Literal["regsync", "skopeo", "dregsy", "zot", "image-syncer", "oc-mirror", "flux-mirror"]
_BETWEEN = re.compile(r"(?m)^---[ \t]*(?:#.*)?$")
_SECRET_PROBLEM = "cannot read the secret's file"


@dataclass(frozen=True, slots=True)
class ForeignImport:
    """Our configuration in place of another tool's, and what of that is left out."""

    text: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Format:
    fits: Callable[[dict[str, Value]], bool]
    convert: Callable[[Value, Path], Draft]


_FORMATS: Mapping[Origin, _Format] = {
    "regsync": _Format(is_regsync, lambda root, _: convert_regsync(root)),
    "dregsy": _Format(is_dregsy, lambda root, _: convert_dregsy(root)),
    "zot": _Format(is_zot, convert_zot),
    "skopeo": _Format(is_skopeo, lambda root, _: convert_skopeo(root)),
    "image-syncer": _Format(is_image_syncer, lambda root, _: convert_image_syncer(root)),
    "flux-mirror": _Format(is_flux_mirror, lambda root, _: convert_flux_mirror(root)),
}
_NAMES = (*_FORMATS, "oc-mirror")


def convert_file(path: Path, origin: Origin | None = None) -> ForeignImport:
    """Our configuration for a file of another tool, by its content or as `origin` says.

    What comes out passes `config check`: a rule that would not is left out, and told.

    Raises:
        ConfigError: it cannot be read, is no YAML or JSON, or of no known format.
    """
    if not os.path.exists(path):  # noqa: PTH110 (Path.exists raises for a name that is too long)
        raise ConfigError(f"{str(path)[:200]}: there is no file of this name")
    text = read_text(path)
    draft = _convert_text(text, path, origin)
    losses = draft.list_losses()
    while draft.rules and (wrong := _find_wrong_rules(draft, path.parent)):
        for number in sorted(wrong, reverse=True):
            rule = draft.rules.pop(number)
            losses.append(f"rule {rule.values['name']} was left out: {wrong[number]}")
            draft.lose(losses[-1])
    if not draft.rules:
        raise ConfigError(f"{path}: it holds nothing that could be mirrored" + "".join(f"; {one}" for one in losses))
    return ForeignImport(draft.render(), tuple(dict.fromkeys(losses)))


def _convert_text(text: str, path: Path, origin: Origin | None) -> Draft:
    if origin == "oc-mirror" or (origin is None and is_oc_mirror(text)):
        return convert_oc_mirror(text)
    text = _pick_document(text)
    try:
        document = parse_document(text)
    except SyntaxProblem as exc:
        raise make_config_error(str(path), [exc.problem]) from exc
    root = keep_spelling(document)
    if not isinstance(root, dict) or not root:
        raise ConfigError(f"{path}: no configuration of another tool: a mapping is expected at the top")
    if root.get("kind") in ("ConfigMap", "Secret") and "apiVersion" in root:
        return _convert_text(_unwrap(root, path), path, origin)
    return _FORMATS[origin or _recognise(root, path)].convert(root, path.parent)


def _pick_document(text: str) -> str:
    """Of several documents, such as the manifests of a deployment, the one that holds a configuration.

    The text comes back whole where that is none or several: what is wrong with it is then told.
    """
    meant: list[str] = []
    for part in _BETWEEN.split(text):
        try:
            root = parse_document(part).value
        except SyntaxProblem:
            return text
        if isinstance(root, dict) and _holds_configuration(root):
            meant.append(part)
    return meant[0] if len(meant) == 1 else text


def _holds_configuration(root: dict[str, Value]) -> bool:
    if root.get("kind") not in ("ConfigMap", "Secret") or "apiVersion" not in root:
        return any(one.fits(root) for one in _FORMATS.values())
    try:
        inner = parse_document(_unwrap(root, Path("manifest"))).value
    except (SyntaxProblem, ConfigError):
        return False
    return isinstance(inner, dict) and any(one.fits(inner) for one in _FORMATS.values())


def _unwrap(root: dict[str, Value], path: Path) -> str:
    """The one file in a ConfigMap or Secret of Kubernetes."""
    plain, encoded = (root.get(key) for key in ("data", "stringData"))
    files = {**(plain if isinstance(plain, dict) else {}), **(encoded if isinstance(encoded, dict) else {})}
    texts = [text for text in files.values() if isinstance(text, str)]
    if len(texts) != 1:
        raise ConfigError(f"{path}: a {root['kind']} with {len(texts)} files; import the one that is meant by itself")
    if root["kind"] == "Secret" and isinstance(plain, dict):
        try:
            return base64.b64decode(texts[0], validate=True).decode()
        except ValueError as exc:
            raise ConfigError(f"{path}: the Secret's data is not base64 of a text") from exc
    return texts[0]


def _find_wrong_rules(draft: Draft, folder: Path) -> dict[int, str]:
    """The rules that `config check` would refuse, each with the reason.

    Variables and files of secrets belong to the machine where ocisync will run, so that they are missing here is no
    mistake of the import.
    """
    try:
        parse_config(draft.render(), folder=folder, environ=_AnyVariable())
    except InvalidConfig as exc:
        wrong = [problem for problem in exc.problems if not problem.message.startswith(_SECRET_PROBLEM)]
        rules = {
            problem.path[1]: problem.message
            for problem in wrong
            if problem.path[:1] == ("sync",) and len(problem.path) > 1 and isinstance(problem.path[1], int)
        }
        if len(wrong) > sum(problem.path[:1] == ("sync",) for problem in wrong):
            raise ConfigError(f"the import would not pass `config check`: {exc.message}") from exc
        return rules
    return {}


class _AnyVariable(dict[str, str]):
    """An environment in which every variable is set."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "a value that stands for what is set later"


def _recognise(root: dict[str, Value], path: Path) -> Origin:
    if "targets" in root:
        raise ConfigError(
            f"{path}: this looks like a configuration of ocisync itself; `ocisync config check` checks it"
        )
    found = next((origin for origin, one in _FORMATS.items() if one.fits(root)), None)
    if found is None:
        raise ConfigError(f"{path}: not recognised. Name the tool it is for: --from {', '.join(_NAMES)}")
    return found
