"""Checks of what rules demand of images. They read the plain values, as `validate` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ocisync.config.diagnostics import ConfigFinding, KeyPath, suggest
from ocisync.config.yaml_document import Value


def check_trust(path: KeyPath, entry: Mapping[str, Value], policies: Value) -> Iterator[ConfigFinding]:
    """Every contradiction in one rule; `policies` is the section `verify`."""
    known = [str(name) for name in policies] if isinstance(policies, dict) else []
    for name in _list_names(entry.get("verify")):
        if name not in known:
            told = suggest(name, known) or ". Define it under `verify:` at the top"
            yield (*path, "verify"), f'no policy is named "{name[:80]}"{told}'
    age = entry.get("min_age")
    if isinstance(age, dict) and age.get("by") == "log" and not entry.get("verify"):
        yield (*path, "min_age"), "a log knows of signatures only. Add `verify`, or count the age `by: seen`"


def _list_names(demand: Value) -> Iterator[str]:
    listed = [demand.get("any"), demand.get("all")] if isinstance(demand, dict) else [demand]
    for names in listed:
        for name in names if isinstance(names, list) else [names]:
            if isinstance(name, str):
                yield name
