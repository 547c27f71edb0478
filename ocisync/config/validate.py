"""Checks that concern several keys.

They read the plain values and not the models, so they also run when a model refused the file: the user sees every
mistake at once. For the same reason no check may rely on a type; each looks before it compares.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ocisync.config.diagnostics import ConfigFinding, KeyPath
from ocisync.config.parsers import glob_as_pattern, is_glob, parse_path, parse_registry_key
from ocisync.config.validate_rules import check_sync, check_trust
from ocisync.config.validation_context import Context, UnknownSecret, resolve_text
from ocisync.config.yaml_document import Value
from ocisync.errors import InvalidName

_MAX_GZIP = 12


def check_together(root: dict[str, Value], context: Context) -> Iterator[ConfigFinding]:
    """Every contradiction between keys."""
    yield from _check_rule_names(root)
    yield from _check_bundles(root)
    yield from _check_shared_bundles(root)
    yield from _check_folders(root, context)
    for check, section in _CHECKS:
        for path, entry in list_entries(root, section):
            yield from check(path, entry)
    for path, entry in list_entries(root, "sync"):
        yield from check_sync(path, entry, context.targets or {})
    for path, entry in list_entries(root, "drop") + list_entries(root, "sync"):
        yield from check_trust(path, entry, root.get("verify"))
    yield from _check_hosts(root)


def find_warnings(root: dict[str, Value]) -> Iterator[ConfigFinding]:
    """What is allowed but unwise."""
    for path, entry in _list_all_entries(root):
        for key in _SECRETS & entry.keys():
            if isinstance(entry[key], str):
                yield (*path, key), "a secret stands in the file as plain text. Use {env: VARIABLE} or {file: PATH}"
        if entry.get("insecure_skip_verify") is True:
            yield (*path, "insecure_skip_verify"), "certificates are not checked. Give the authority's file as `ca`"
    for path, entry in list_entries(root, "sync"):
        yield from _find_globs(path, entry)
    yield from _check_idle(root)


def find_unknown_secrets(root: dict[str, Value], context: Context) -> Iterator[ConfigFinding]:
    """Every `{env: …}` and `{file: …}` that is not known here."""
    for path, entry in _list_all_entries(root):
        for key, value in entry.items():
            if isinstance(value, dict) and len(value) == 1 and value.keys() <= {"env", "file"}:
                try:
                    resolve_text(value, context)
                except UnknownSecret as exc:
                    yield (*path, key), str(exc)
                except ValueError:
                    continue  # told by the model


def list_entries(root: dict[str, Value], section: str) -> list[tuple[KeyPath, dict[str, Value]]]:
    """The mappings of a section with their places, whether it is a mapping of them, a list, or one."""
    found = root.get(section)
    if section in ("daemon", "defaults"):
        return [((section,), found)] if isinstance(found, dict) else []
    pairs = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    return [((section, key), entry) for key, entry in pairs if isinstance(entry, dict)]


def _list_all_entries(root: dict[str, Value]) -> list[tuple[KeyPath, dict[str, Value]]]:
    sections = ("registries", "targets", "webhooks", "notify", "daemon", "bundle")
    found = [entry for section in sections for entry in list_entries(root, section)]
    headers = [((*path, "headers"), entry["headers"]) for path, entry in found if "headers" in entry]
    nested = [
        ((*path, key), entry[key])
        for path, entry in [*found, *list_entries(root, "defaults")]
        for key in ("ecr", "proxy")
        if key in entry
    ]
    return found + [(path, value) for path, value in headers + nested if isinstance(value, dict)]


def _check_idle(root: dict[str, Value]) -> Iterator[ConfigFinding]:
    rules = [one for section in _RULES for one in list_entries(root, section)]
    if not any(entry.get("enabled") is not False for _, entry in rules):
        yield (), "no rule is enabled, so there is nothing to do. Add one under `drop:` or `sync:`"


def _find_globs(path: KeyPath, value: Value) -> Iterator[ConfigFinding]:
    """Expressions that compile, but are globs by their looks."""
    if isinstance(value, dict):
        for key, inner in value.items():
            is_list = key in ("allow", "deny") and isinstance(inner, list)
            for at, text in enumerate(inner) if is_list and isinstance(inner, list) else ():
                if isinstance(text, str) and is_glob(text):
                    told = (
                        f"{text[:60]!r} looks like a glob, but is an expression. Write {glob_as_pattern(text)[:60]!r}"
                    )
                    yield (*path, key, at), told
            if not is_list:
                yield from _find_globs((*path, key), inner)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _find_globs((*path, at), inner)


def _check_rule_names(root: dict[str, Value]) -> Iterator[ConfigFinding]:
    first: dict[str, str] = {}
    for path, entry in [one for section in _RULES for one in list_entries(root, section)]:
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            continue
        if name in first:
            yield (*path, "name"), f'{first[name]} is named "{name[:80]}" too. Give each rule its own name'
        first.setdefault(name, f"{path[0]}[{path[1]}]")


def _check_bundles(root: dict[str, Value]) -> Iterator[ConfigFinding]:
    """Bundles are of sync rules, and a drop rule's go to one target."""
    known = {entry.get("name") for _, entry in list_entries(root, "sync")} | set(derive_names(root).values())
    for path, entry in list_entries(root, "bundle"):
        named = entry.get("rules")
        for at, name in enumerate(named if isinstance(named, list) else []):
            if isinstance(name, str) and name not in known:
                yield (*path, "rules", at), f"no sync rule is named {name[:80]!r}. Write the `name` of one"
        if (entry.get("base") == "receipt") != ("receipts" in entry):
            yield (*path, "base"), "`base: receipt` and `receipts` belong together. Write both, or neither"
    for path, entry in list_entries(root, "drop"):
        targets = entry.get("target")
        if isinstance(entry.get("bundles"), dict) and isinstance(targets, list) and len(targets) > 1:
            yield (*path, "bundles"), "bundles go to one target. Give each target a drop rule of its own"


def _check_shared_bundles(root: dict[str, Value]) -> Iterator[ConfigFinding]:
    """What several daemons need to take bundles: who fills an inbox must not be able to write receipts."""
    engine = root.get("engine")
    if not isinstance(engine, dict) or engine.get("type") != "postgres":
        return
    for path, entry in list_entries(root, "drop"):
        bundles = entry.get("bundles")
        if isinstance(bundles, dict) and "receipts" not in bundles:
            yield (*path, "bundles"), "with `engine` write `receipts`, a folder on a volume of all daemons"


def _check_hosts(root: dict[str, Value]) -> Iterator[ConfigFinding]:
    first: dict[str, str] = {}
    for path, _ in list_entries(root, "registries"):
        written = str(path[-1])
        try:
            host = parse_registry_key(written)
        except (InvalidName, ValueError):
            continue
        if host in first:
            yield path, f"it is the same registry as {first[host]}. Join the two"
        first.setdefault(host, written)


def _check_folders(root: dict[str, Value], context: Context) -> Iterator[ConfigFinding]:
    """Folders that would publish, watch or delete each other's files."""
    targets = [
        ((*path, "path"), real, f"the static registry {path[1]}")
        for path, entry in list_entries(root, "targets")
        if entry.get("type") == "static" and (real := _resolve_real(entry.get("path"), context))
    ]
    drops = _list_folders(root, "drop", ("path",), context, "the drop folder of")
    results = _list_folders(root, "drop", ("done_folder", "failed_folder"), context, "a folder of")
    results += _list_folders(root, "bundle", ("outbox", "receipts"), context, "a folder of")
    state = _list_folders(root, "daemon", ("state", "temporary"), context, "a folder of the")
    for position, (path, folder, _) in enumerate(drops):
        for _, other, what in [*targets, *drops[:position]]:
            if _is_overlap(folder, other):
                yield path, f"{folder} overlaps with {what} ({other}). Give each its own folder"
    for position, (path, folder, _) in enumerate(targets):
        for _, other, what in targets[:position]:
            if _is_overlap(folder, other):
                yield path, f"{folder} overlaps with {what} ({other}). Give each its own folder"
    for path, folder, _ in [*results, *state]:
        for _, other, what in targets:
            if folder == other or other in folder.parents:
                yield path, f"{folder} lies in {what} ({other}) and would be served. Choose a folder outside it"


def _list_folders(
    root: dict[str, Value], section: str, keys: tuple[str, ...], context: Context, what: str
) -> list[tuple[KeyPath, Path, str]]:
    return [
        ((*path, key), real, f"{what} {section}" + (f"[{path[1]}]" if len(path) > 1 else ""))
        for path, entry in list_entries(root, section)
        for key in keys
        if (real := _resolve_real(entry.get(key), context))
    ]


def _resolve_real(value: Value, context: Context) -> Path | None:
    if not isinstance(value, str) or not value or "\0" in value:
        return None
    return Path(os.path.realpath(parse_path(value, context.folder)))


def _is_overlap(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents


def _check_login(path: KeyPath, entry: dict[str, Value]) -> Iterator[ConfigFinding]:
    if "username" in entry and "password" not in entry:
        yield (*path, "username"), "a username needs a password. Add `password: {env: VARIABLE}`"
    if "password" in entry and "username" not in entry:
        yield (*path, "password"), "a password needs a username. Add `username`"
    ways = [key for key in ("username", "identity_token", "credential_helper", "ecr") if key in entry]
    if len(ways) > 1:
        yield (*path, ways[1]), f"{' and '.join(ways)} are different ways to log in. Keep one"


def _check_mirrors(path: KeyPath, entry: dict[str, Value]) -> Iterator[ConfigFinding]:
    mirrors = entry.get("mirrors")
    named = [str(one).rstrip("/") for one in mirrors] if isinstance(mirrors, list) else []
    for position, mirror in enumerate(named):
        if mirror == str(path[-1]):
            yield (*path, "mirrors", position), "a registry is no mirror of itself. Remove it; it is asked last anyway"
        elif mirror in named[:position]:
            yield (*path, "mirrors", position), f"{mirror[:100]} stands here twice. Remove one"


def _check_certificates(path: KeyPath, entry: dict[str, Value]) -> Iterator[ConfigFinding]:
    if "client_key" in entry and "client_cert" not in entry:
        yield (*path, "client_key"), "a key needs its certificate. Add `client_cert`, or remove it"
    if entry.get("plain_http") is True and "client_cert" in entry:
        yield (*path, "client_cert"), "without TLS no certificate is shown. Remove it, or remove plain_http"


def _check_proxy_login(path: KeyPath, entry: dict[str, Value]) -> Iterator[ConfigFinding]:
    proxy = entry.get("proxy")
    if isinstance(proxy, dict):
        yield from _check_pair((*path, "proxy"), proxy, "username", "password")


def _check_ecr_keys(path: KeyPath, entry: dict[str, Value]) -> Iterator[ConfigFinding]:
    ecr = entry.get("ecr")
    if isinstance(ecr, dict):
        yield from _check_aws_keys((*path, "ecr"), ecr)


def _check_pair(path: KeyPath, entry: dict[str, Value], one: str, other: str) -> Iterator[ConfigFinding]:
    if (one in entry) != (other in entry):
        given, lacking = (one, other) if one in entry else (other, one)
        yield (*path, given), f"it needs {lacking}. Add `{lacking}`, or remove both"


def _check_s3_keys(path: KeyPath, entry: dict[str, Value]) -> Iterator[ConfigFinding]:
    if entry.get("type") == "s3":
        yield from _check_aws_keys(path, entry)


def _check_aws_keys(path: KeyPath, entry: dict[str, Value]) -> Iterator[ConfigFinding]:
    if ("access_key_id" in entry) != ("secret_access_key" in entry):
        given, other = ("access_key_id", "secret_access_key")[:: 1 if "access_key_id" in entry else -1]
        yield (*path, given), f"it needs {other}. Add `{other}: {{env: VARIABLE}}`, or remove both"
    if "session_token" in entry and "access_key_id" not in entry:
        yield (*path, "session_token"), "it needs access_key_id and secret_access_key. Add them, or remove it"
    if "profile" in entry and "access_key_id" in entry:
        yield (*path, "profile"), "profile and access_key_id are different ways to log in. Keep one"


def _check_keep(path: KeyPath, entry: dict[str, Value]) -> Iterator[ConfigFinding]:
    keep = entry.get("keep")
    if isinstance(keep, dict) and not any(keep.get(key) for key in ("newest", "newer_than", "tags")):
        yield (*path, "keep"), "it would remove every tag. Add newest, newer_than or tags"


def _check_compression(path: KeyPath, entry: dict[str, Value]) -> Iterator[ConfigFinding]:
    kind, level = entry.get("compression", "gzip"), entry.get("level")
    if kind == "zstd" and entry.get("format") == "docker":
        yield (*path, "compression"), "docker's media types know no zstd. Write `format: oci`, or gzip"
    if kind == "none" and level is not None:
        yield (*path, "level"), "there is no level without compression. Remove it"
    if kind == "gzip" and isinstance(level, int) and level > _MAX_GZIP:
        yield (*path, "level"), f"{level} is out of range for gzip. Write 1 to {_MAX_GZIP}"


def _check_incomplete(path: KeyPath, entry: dict[str, Value]) -> Iterator[ConfigFinding]:
    if entry.get("incomplete") and not entry.get("platforms"):
        yield (*path, "incomplete"), "without `platforms` no set is incomplete. Declare them, or remove it"


def _check_signatures(path: KeyPath, entry: dict[str, Value]) -> Iterator[ConfigFinding]:
    if entry.get("drop_signatures") is True and "format" not in entry:
        yield (*path, "drop_signatures"), "signatures are only dropped by a conversion. Add `format`, or remove it"


def _check_timing(path: KeyPath, entry: dict[str, Value]) -> Iterator[ConfigFinding]:
    if "schedule" in entry:
        for key in ("interval", "jitter"):
            if key in entry:
                yield (*path, key), f"`schedule` says when the rule runs. Remove `{key}`, or remove `schedule`"
    elif "time_zone" in entry:
        yield (*path, "time_zone"), "it only matters to a `schedule`. Add one, or remove it"


def derive_names(root: dict[str, Value]) -> dict[KeyPath, str]:
    """A name for each rule that has none: from its source or folder, made unique in the order of the file."""
    rules = list_entries(root, "drop") + list_entries(root, "sync")
    taken = {str(entry["name"]) for _, entry in rules if entry.get("name")}
    derived: dict[KeyPath, str] = {}
    for path, entry in rules:
        if not entry.get("name"):
            derived[path] = _make_unique(_derive_stem(entry), taken)
            taken.add(derived[path])
    return derived


def _derive_stem(entry: dict[str, Value]) -> str:
    written = str(entry.get("source") or entry.get("path") or "")
    last = written.partition("@")[0].rstrip("/").rpartition("/")[2]
    if "source" in entry:
        last = last.partition(":")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._")[:50] or "rule"


def _make_unique(stem: str, taken: set[str]) -> str:
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name


_RULES = ("drop", "sync", "bundle")
_SECRETS = {"key_password", "password", "identity_token", "token", "secret", "secret_access_key", "session_token"}
_CHECKS: tuple[tuple[Callable[[KeyPath, dict[str, Value]], Iterator[ConfigFinding]], str], ...] = (
    (_check_login, "registries"),
    (_check_certificates, "registries"),
    (_check_mirrors, "registries"),
    (_check_ecr_keys, "registries"),
    (_check_proxy_login, "registries"),
    (_check_proxy_login, "defaults"),
    (_check_s3_keys, "targets"),
    (_check_keep, "targets"),
    (_check_compression, "drop"),
    (_check_incomplete, "drop"),
    (_check_timing, "sync"),
    (_check_timing, "bundle"),
    (_check_signatures, "sync"),
)
