"""From another tool's configuration to ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ocisync.config.diagnostics import make_config_error
from ocisync.config.importers.draft import Draft
from ocisync.config.importers.dregsy import convert_dregsy, is_dregsy
from ocisync.config.importers.foreign_values import keep_spelling
from ocisync.config.importers.regsync import convert_regsync, is_regsync
from ocisync.config.importers.skopeo import convert_skopeo, is_skopeo
from ocisync.config.importers.zot import convert_zot, is_zot
from ocisync.config.load import read_text
from ocisync.config.yaml_document import SyntaxProblem, Value, parse_document
from ocisync.errors import ConfigError

Origin = Literal["regsync", "skopeo", "dregsy", "zot"]


@dataclass(frozen=True, slots=True)
class _Format:
    fits: Callable[[dict[str, Value]], bool]
    convert: Callable[[Value], Draft]


_FORMATS: Mapping[Origin, _Format] = {
    "regsync": _Format(is_regsync, convert_regsync),
    "dregsy": _Format(is_dregsy, convert_dregsy),
    "zot": _Format(is_zot, convert_zot),
    "skopeo": _Format(is_skopeo, convert_skopeo),
}


def convert_file(path: Path, origin: Origin | None = None) -> str:
    """The text of our configuration for a file of another tool, by its content or as `origin` says.

    Raises:
        ConfigError: it cannot be read, is no YAML or JSON, or of no known format.
    """
    if not path.exists():
        raise ConfigError(f"{path}: there is no file of this name")
    text = read_text(path)
    try:
        document = parse_document(text)
    except SyntaxProblem as exc:
        raise make_config_error(str(path), [exc.problem]) from exc
    root = keep_spelling(document)
    if not isinstance(root, dict) or not root:
        raise ConfigError(f"{path}: no configuration of another tool: a mapping is expected at the top")
    draft = _FORMATS[origin or _recognise(root, path)].convert(root)
    if not draft.rules:
        raise ConfigError(
            f"{path}: it holds nothing that could be mirrored" + "".join(f"; {one}" for one in draft.notes)
        )
    return draft.render()


def _recognise(root: dict[str, Value], path: Path) -> Origin:
    if "targets" in root:
        raise ConfigError(
            f"{path}: this looks like a configuration of ocisync itself; `ocisync config check` checks it"
        )
    found = next((origin for origin, one in _FORMATS.items() if one.fits(root)), None)
    if found is None:
        raise ConfigError(f"{path}: not recognised. Name the tool it is for: --from {', '.join(_FORMATS)}")
    return found
