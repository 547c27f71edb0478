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
    if not isinstance(age, dict) or age.get("by") != "log":
        return
    if not entry.get("verify"):
        yield (*path, "min_age"), "a log knows of signatures only. Add `verify`, or count the age `by: seen`"
        return
    demand = entry["verify"]
    needs_all = isinstance(demand, dict) and bool(demand.get("all"))
    untimed = [name for name in _list_names(demand) if _has_no_time(policies, name)]
    if untimed and (needs_all or len(untimed) == len([*_list_names(demand)])):
        told = f'the policy "{untimed[0][:80]}" has keys only, so nobody tells when they signed'
        yield (*path, "min_age"), f"{told}. Give it the `trusted_root` of a log, or count the age `by: seen`"


def _has_no_time(policies: Value, name: str) -> bool:
    policy = policies.get(name) if isinstance(policies, dict) else None
    return isinstance(policy, dict) and not (policy.get("keyless") or policy.get("trusted_root"))


def _list_names(demand: Value) -> Iterator[str]:
    listed = [demand.get("any"), demand.get("all")] if isinstance(demand, dict) else [demand]
    for names in listed:
        for name in names if isinstance(names, list) else [names]:
            if isinstance(name, str):
                yield name
