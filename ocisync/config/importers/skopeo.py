"""The YAML source of `skopeo sync --src yaml`."""

from __future__ import annotations

import re

from ocisync.config.importers.draft import Draft, DraftEntry, Tree
from ocisync.config.importers.foreign_patterns import anchor, keep_usable_patterns
from ocisync.config.importers.foreign_ranges import MASTERMINDS_VERSIONS, set_versions
from ocisync.config.importers.foreign_values import Reader, as_text, as_texts
from ocisync.config.yaml_document import Value
from ocisync.errors import InvalidName
from ocisync.model.digest import is_digest
from ocisync.model.image_name import parse_host, parse_image_name

_LISTS = ("images", "images-by-tag-regex", "images-by-semver")
_TARGET = "mirror"
_NO_EQUAL = {"cert-dir": "name the files in it: the authority as `ca`, the client's as `client_cert` and `client_key`"}
_NOTES = (
    "skopeo's destination stands on its command line: put yours in place of the target below.",
    "Names at the target are those of `skopeo sync` without --scoped: the last part only.",
    "For --scoped, write target: mirror/HOST/{repository}. For --append-suffix=-x, write target: mirror/NAME:{tag}-x.",
    "skopeo copies one platform unless told --all; ocisync copies all, unless a rule has `platforms`.",
)


def convert_skopeo(root: Value) -> Draft:
    """Convert a whole file."""
    draft = Draft("skopeo sync", list(_NOTES))
    draft.targets[_TARGET] = DraftEntry({"type": "static", "path": "./registry"})
    for name, value in Reader.of(root).left.items():
        try:
            host = parse_host(name)
        except InvalidName as exc:
            draft.lose(f"{name} was left out: {exc.message}")
            continue
        _convert_host(host, Reader.of(value), draft)
    return draft


def _convert_host(host: str, found: Reader, draft: Draft) -> None:
    entry, login = draft.registry_entry(host), found.inner("credentials")
    entry.values |= {key: text for key in ("username", "password") if (text := login.text(key))}
    if found.text("tls-verify") == "false":
        entry.values["insecure_skip_verify"] = True
        entry.note("tls-verify: for a registry without TLS write plain_http: true instead")
    for repository, tags in found.inner("images").left.items():
        _add_rule(draft, host, repository, _make_listed_rule(as_texts(tags)))
    for repository, pattern in found.inner("images-by-tag-regex").left.items():
        rule = DraftEntry()
        if expressions := keep_usable_patterns(rule, repository, [anchor(as_text(pattern))]):
            rule.values["tags"] = {"allow": list(expressions)}
        _add_rule(draft, host, repository, rule)
    for repository, constraint in found.inner("images-by-semver").left.items():
        rule, chosen = DraftEntry(), dict[str, Tree]()
        set_versions(rule, chosen, MASTERMINDS_VERSIONS, as_text(constraint).split("||"))
        if chosen:
            rule.values["tags"] = chosen
        _add_rule(draft, host, repository, rule)
    found.tell_rest(entry, _NO_EQUAL)


def _make_listed_rule(references: list[str]) -> DraftEntry:
    """Tags and digests that are named one by one; none are all tags."""
    rule = DraftEntry()
    digests: list[Tree] = [one for one in references if is_digest(one)]
    tags: list[Tree] = [re.escape(one).replace(r"\-", "-") for one in references if not is_digest(one)]
    if tags:
        rule.values["tags"] = {"allow": tags}
    if digests:
        rule.values["digests"] = digests
    return rule


def _add_rule(draft: Draft, host: str, repository: str, rule: DraftEntry) -> None:
    try:
        source = parse_image_name(f"{host}/{repository}")
    except InvalidName as exc:
        draft.lose(f"{host}/{repository} was left out: {exc.message}")
        return
    last = source.repository.rpartition("/")[2]
    place = f"{_TARGET}/{last}"
    if any(one.values["target"] == place and one.values["source"] != str(source) for one in draft.rules):
        place = f"{_TARGET}/{source.host.replace(':', '-')}/{source.repository}"
        rule.lose(
            f"without --scoped skopeo would write it over another image at {last}; here it has a place of its own"
        )
    rule.values = {"source": str(source), "target": place, **rule.values}
    draft.add_rule(last, rule)


def is_skopeo(root: dict[str, Value]) -> bool:
    """Whether a file looks like it."""
    values = list(root.values())
    return bool(values) and all(isinstance(one, dict) and any(key in one for key in _LISTS) for one in values)
