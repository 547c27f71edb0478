"""The JSON Schema of the configuration, for editors."""

from __future__ import annotations

import json
from typing import Any

from ocisync.config.models import Config
from ocisync.config.parsers import DURATION_PATTERN, SIZE_PATTERN, format_duration, format_size

SCHEMA = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of a file, JSON Schema 2020-12."""
    schema = _simplify(Config.model_json_schema())
    schema["patternProperties"] = {"^x-": {"description": "Free, for anchors."}}
    return {"$schema": SCHEMA, **schema, "title": "ocisync configuration"}


def schema_text() -> str:
    """The schema as text; the same for the same models."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _simplify(node: Any) -> Any:
    """Defaults as people write them, and no titles that only repeat the key."""
    if isinstance(node, list):
        return [_simplify(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _simplify(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    if "default" in kept:
        default = _format_default(node, kept.pop("default"))
        kept |= {} if default is None else {"default": default}
    return kept


def _format_default(node: dict[str, Any], default: Any) -> Any:
    """A default in the unit that the file uses; None for one that says nothing."""
    if default in (None, "", [], {}) or isinstance(default, dict):
        return None
    patterns = {kind.get("pattern") for kind in (node, *node.get("anyOf", ()))}
    if DURATION_PATTERN in patterns:
        return format_duration(default)
    return format_size(default) if SIZE_PATTERN in patterns else default
