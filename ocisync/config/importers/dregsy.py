"""dregsy's configuration."""

from __future__ import annotations

import base64
import binascii
import re

from ocisync.config.importers.draft import Draft, DraftEntry, Tree
from ocisync.config.importers.foreign_patterns import anchor, keep_usable_patterns
from ocisync.config.importers.foreign_ranges import BLANG_VERSIONS, set_versions
from ocisync.config.importers.foreign_values import Reader, set_duration, set_platforms
from ocisync.config.sections.selection import PINNED
from ocisync.config.yaml_document import Value
from ocisync.errors import InvalidName
from ocisync.model.digest import is_digest
from ocisync.model.image_name import parse_host, parse_image_name
from ocisync.model.text.outside_json import load_json
from ocisync.model.versions import parse_version

_REGEX, _SEMVER, _KEEP = "regex:", "semver:", "keep:"
_LATEST = re.compile(r"latest\s+([1-9][0-9]*)\Z")
_DIGEST = re.compile(r"(?:(.+)@)?(sha256:.*)\Z")
_GROUP = re.compile(r"\$\{?([0-9]+)\}?")
_NO_EQUAL = {
    "relay": "not needed: ocisync copies by itself",
    "skopeo": "not needed, but for the certificates below certs-dir: name them as `ca`, `client_cert` and `client_key`",
    "docker": "not needed: ocisync copies by itself",
    "lister": "repositories are found through the registry's catalog at every run; where it refuses that, name them",
    "watch": "say `daemon.watch_config: true`: a changed configuration is read",
    "verbose": "see daemon.log_level",
    "preserve-digests": "not needed: digests never change",
}


def convert_dregsy(root: Value) -> Draft:
    """Convert a whole file."""
    draft, file, top = Draft("dregsy"), Reader.of(root), DraftEntry()
    is_by_docker = file.text("relay") in ("docker", "")
    for task in file.each("tasks"):
        _convert_task(task, draft, is_by_docker)
    file.tell_rest(top, _NO_EQUAL)
    draft.adopt(top)
    return draft


def _convert_task(task: Reader, draft: Draft, is_by_docker: bool) -> None:
    name, interval = task.text("name"), task.text("interval")
    try:
        source, target = _convert_location(task.inner("source"), draft), _convert_location(task.inner("target"), draft)
    except InvalidName as exc:
        draft.lose(f"The task {name} was left out: {exc.message}")
        return
    about = DraftEntry()
    mappings = task.each("mappings")
    task.tell_rest(about, _NO_EQUAL)
    for mapping in mappings:
        rule = DraftEntry(notes=list(about.notes))
        try:
            _convert_mapping(mapping, rule, source, draft.registry_target(target))
            _set_tags(mapping, rule, is_by_docker)
            mapping.tell_rest(rule, _NO_EQUAL)
        except InvalidName as exc:
            draft.lose(f"A mapping of the task {name} was left out: {exc.message}")
            continue
        _set_timing(interval, rule)
        draft.add_rule(name, rule)


def _convert_location(found: Reader, draft: Draft) -> str:
    """The host, its registry's entry filled in."""
    host = parse_host(found.text("registry"))
    entry = draft.registry_entry(host)
    if refresh := found.text("auth-refresh"):
        entry.values.setdefault("ecr", {})
        entry.note(f"auth-refresh: {refresh} is not needed: ECR's passwords are renewed before they expire")
        found.take("auth")
    if (auth := found.text("auth")) and auth != "none":
        _set_login(auth, entry)
    if found.flag("skip-tls-verify"):
        entry.values["insecure_skip_verify"] = True
    found.tell_rest(entry, _NO_EQUAL)
    return host


def _set_login(auth: str, entry: DraftEntry) -> None:
    """The base64 of {"username": …, "password": …}."""
    try:
        login = load_json(base64.b64decode(auth))
    except (binascii.Error, ValueError):
        login = None
    if isinstance(login, dict) and {"username", "password"} <= login.keys():
        entry.values |= {"username": str(login["username"]), "password": str(login["password"])}
    else:
        entry.lose("auth: it holds no user and password; write `username` and `password`")


def _convert_mapping(found: Reader, rule: DraftEntry, host: str, target: str) -> None:
    origin, place = found.text("from"), found.text("to")
    if origin.startswith(_REGEX):
        _set_many(rule, host, origin.removeprefix(_REGEX), place, target)
    else:
        source = parse_image_name(f"{host}/{origin.strip('/')}")
        there = _move_path(origin.strip("/"), place) if place else origin.strip("/")
        rule.values |= {"source": str(source), "target": f"{target}/{there}"}
    platform = found.text("platform")
    if platform and platform != "all":
        set_platforms(rule, [platform], is_registry=True)
    elif not platform:
        rule.note(
            "dregsy copies one platform unless told `platform: all`; ocisync copies all, unless given `platforms`"
        )


def _set_many(rule: DraftEntry, host: str, pattern: str, place: str, target: str) -> None:
    rule.values |= {"type": "registry", "source": host, "target": f"{target}/{{repository}}"}
    if expressions := keep_usable_patterns(rule, "from", [_bound(pattern.removeprefix("/"))]):
        rule.values["repositories"] = {"allow": list(expressions)}
    rule.note("a registry that refuses its catalog, as Docker Hub does, needs the repositories one by one")
    if place.startswith(_REGEX):
        expression, replacement = _parse_substitution(place)
        whole = f"(.*?){expression}(.*)"
        if keep_usable_patterns(rule, "to", [whole]):
            groups = re.compile(whole).groups
            shifted = _GROUP.sub(lambda one: f"\\{int(one[1]) + 1}", replacement)
            rule.values["rename"] = {"repositories": {whole: f"\\1{shifted}\\{groups}"}}
    elif place:
        rule.values["target"] = f"{target}/{place.strip('/')}/{{repository}}"


def _move_path(path: str, place: str) -> str:
    """The path at the target of one repository."""
    if not place.startswith(_REGEX):
        return place.strip("/")
    expression, _, replacement = place.removeprefix(_REGEX).partition(",")
    try:
        return re.sub(expression, _GROUP.sub(r"\\g<\1>", replacement), f"/{path}").strip("/")
    except (re.error, IndexError) as exc:
        raise InvalidName(f"to: {place} cannot be used: {exc}") from exc


def _parse_substitution(place: str) -> tuple[str, str]:
    expression, _, replacement = place.removeprefix(_REGEX).strip().partition(",")
    return expression.removeprefix("^").removeprefix("/"), replacement.strip().removeprefix("/")


def _set_tags(found: Reader, rule: DraftEntry, is_by_docker: bool) -> None:
    """Items are alternatives; `keep:` holds for all but the tags that are named, `keep: latest N` for versions."""
    digests, items = _split_digests(found.texts("tags"), rule, is_by_docker)
    if digests:
        rule.values["digests"] = digests
    kept = [item.removeprefix(_KEEP).strip() for item in items if item.startswith(_KEEP)]
    sets = _make_tag_sets([item for item in items if not item.startswith(_KEEP)], rule)
    if kept and not sets and not digests:
        sets = [{}]  # without other items all tags are meant, and `keep:` holds for them
    named = [item for item in items if not item.startswith((_REGEX, _SEMVER, _KEEP))]
    matched = sets[1:] if named else sets
    for condition in kept:
        if latest := _LATEST.match(condition):
            _keep_latest(int(latest[1]), sets if any(map(parse_version, named)) else matched, rule)
        else:
            _apply_keep(condition, matched, rule)
    if len(sets) == 1:
        rule.values["tags"] = sets[0]
    elif sets:
        rule.values["tag_sets"] = list(sets)


def _split_digests(items: list[str], rule: DraftEntry, is_by_docker: bool) -> tuple[dict[str, Tree], list[str]]:
    """The images that are named by digest, by their tag at the target, and the other items.

    For those without a tag docker makes one, skopeo pushes no tag at all.
    """
    digests: dict[str, Tree] = {}
    others = []
    for item in items:
        if not (found := _DIGEST.match(item)):
            others.append(item)
        elif not is_digest(found[2]):
            rule.lose(f"tags: {item} was left out: it is not a digest")
        else:
            name = found[2].partition(":")[2]
            digests[found[1] or (f"dregsy-{name}" if is_by_docker else f"{PINNED}{name[:16]}")] = found[2]
    return digests, others


def _make_tag_sets(items: list[str], rule: DraftEntry) -> list[dict[str, Tree]]:
    literal = [re.escape(one).replace(r"\-", "-") for one in items if not one.startswith((_REGEX, _SEMVER))]
    sets: list[dict[str, Tree]] = [{"allow": list(literal)}] if literal else []
    for item in items:
        if item.startswith(_SEMVER):
            versions: dict[str, Tree] = {}
            set_versions(rule, versions, BLANG_VERSIONS, item.removeprefix(_SEMVER).split("||"))
            if versions:
                sets.append(versions)
        elif item.startswith(_REGEX):
            expression, key = _parse_expression(item.removeprefix(_REGEX))
            if usable := keep_usable_patterns(rule, "tags", [expression]):
                sets.append({key: list(usable)})
    return sets


def _parse_expression(text: str) -> tuple[str, str]:
    """An expression for whole tags, and whether tags that match it are allowed or denied.

    dregsy puts `^` before an expression and `$` after it where they are not, and then searches: `a|b` means what begins
    with a, or ends with b.
    """
    bare = text.strip()
    key = "deny" if bare.startswith("!") else "allow"
    return _bound(bare.removeprefix("!")), key


def _bound(text: str) -> str:
    return anchor(("" if text.startswith("^") else "^") + text + ("" if text.endswith("$") else "$"))


def _keep_latest(count: int, sets: list[dict[str, Tree]], rule: DraftEntry) -> None:
    if len(sets) > 1:
        rule.lose(f"keep: latest {count} holds for all items together in dregsy, and for each of them here")
    elif any("semver" not in one for one in sets):
        rule.lose(
            f"keep: latest {count} holds for versions in dregsy, which takes all other tags, too; here none of these"
        )
    for one in sets:
        one["latest"] = count


def _apply_keep(condition: str, sets: list[dict[str, Tree]], rule: DraftEntry) -> None:
    expression, key = _parse_expression(condition)
    if not keep_usable_patterns(rule, "keep", [expression]):
        return
    for one in sets:
        before = one.get(key)
        if key == "allow" and isinstance(before, list):
            one[key] = [f"(?=(?:{expression})\\Z)(?:{text})" for text in before]
        else:
            one[key] = [*(before if isinstance(before, list) else ()), expression]


def _set_timing(interval: str, rule: DraftEntry) -> None:
    if interval.isdecimal() and int(interval) > 0:
        set_duration(rule, "interval", f"{interval}s")
    else:
        rule.values["enabled"] = False
        rule.note("dregsy ran this task once, at its start; `ocisync once` with the rule's name does that")


def is_dregsy(root: dict[str, Value]) -> bool:
    """Whether a file looks like it."""
    tasks = root.get("tasks")
    return isinstance(tasks, list) and any("mappings" in one for one in tasks if isinstance(one, dict))
