"""flux-mirror's configuration: artifacts, how their signatures are verified, and the hosts' certificates."""

from __future__ import annotations

import re

from ocisync.config.importers.draft import Draft, DraftEntry, Tree
from ocisync.config.importers.foreign_patterns import anchor, keep_usable_patterns, name_group
from ocisync.config.importers.foreign_ranges import MASTERMINDS_VERSIONS, require_version, set_versions
from ocisync.config.importers.foreign_values import (
    Reader,
    as_text,
    set_duration,
)
from ocisync.config.yaml_document import Value
from ocisync.errors import InvalidName
from ocisync.model.image_name import parse_host, parse_image_name

_APIS = ("mirror.plugin.fluxcd.io/", "mirror.fluxcd.io/")
_ONE_TAG = re.compile(r"\^(?:[\w-]|\\.)+\$\Z")  # an expression that only one tag matches
_ONE_GROUP = re.compile(r"\$(?:\{(?=\w+\}\Z))?(?P<name>\w+)\}?\Z", re.ASCII)
_ORDERS = {"numerical": "number", "alphabetical": "name"}
_NO_EQUAL = {
    "credential": "give a login for this host, or a credential helper",
    "maxChunkSize": "see chunk_size",
    "charts": "charts of Helm repositories are not mirrored; those in registries are artifacts like others",
    "apiVersion": "not needed",
    "kind": "not needed",
    "extract": "of an extract only one group is understood, such as `$ts`, and only for orders other than `semver`",
}


def convert_flux_mirror(root: Value) -> Draft:
    """Convert a whole file."""
    draft, file, top = Draft("flux-mirror"), Reader.of(root), DraftEntry()
    for host in file.each("hosts"):
        _convert_host(host, draft)
    for artifact in file.each("artifacts"):
        try:
            _convert_artifact(artifact, draft)
        except InvalidName as exc:
            draft.lose(f"an artifact was left out: {exc.message}")
    file.tell_rest(top, _NO_EQUAL)
    draft.notes.append("flux-mirror copies once; a rule here runs every hour unless it has an `interval`.")
    draft.adopt(top)
    return draft


def _convert_host(found: Reader, draft: Draft) -> None:
    name = found.text("host")
    try:
        entry = draft.registry_entry(parse_host(name))
    except InvalidName as exc:
        draft.lose(f"hosts: {name} was left out: {exc.message}")
        return
    provider, tls = found.text("provider"), found.inner("tls")
    if provider == "ecr":
        entry.values["ecr"] = {}
    elif provider not in ("", "generic"):
        entry.lose(f"provider: {provider} is logged in to by its credential helper: `credential_helper`")
    server, client = tls.inner("serverAuth"), tls.inner("clientAuth")
    if authority := server.text("fromPath"):
        entry.values["ca"] = authority
    for key, ours in (("certificate", "client_cert"), ("key", "client_key")):
        if path := client.inner(key).text("fromPath"):
            entry.values[ours] = path
    for rest in (server, client):
        rest.tell_rest(entry, {}, "tls.")
    if (chunk := found.text("maxChunkSize")).isdecimal() and int(chunk):
        entry.values["chunk_size"] = f"{chunk}KiB"
    found.tell_rest(entry, _NO_EQUAL, "hosts.")


def _convert_artifact(found: Reader, draft: Draft) -> None:
    source, there = parse_image_name(found.text("source")), parse_image_name(found.text("destination"))
    rule = DraftEntry()
    rule.values = {
        "source": f"{source.host}/{source.repository}",
        "target": f"{draft.registry_target(there.host)}/{there.repository}",
    }
    _set_tags(found.inner("selector"), rule)
    if not found.flag("overwrite"):
        rule.values["overwrite"] = "never"
    if found.flag("includeReferrers"):
        rule.values |= {"referrers": True, "digest_tags": True}
    if "verify" in found.left:
        _set_verification(found.inner("verify"), rule, draft)
    found.tell_rest(rule, _NO_EQUAL)
    draft.add_rule(source.repository.rpartition("/")[2], rule)


def _set_tags(found: Reader, rule: DraftEntry) -> None:
    tags: dict[str, Tree] = {}
    regex, sort = found.inner("regex"), found.text("sortBy") or "semver"
    pattern = regex.text("pattern")
    is_extracted = sort in _ORDERS and "semver" not in found.left and _set_order_group(regex, pattern, rule, tags)
    if pattern and not is_extracted:
        tags["allow"] = list(keep_usable_patterns(rule, "selector.regex", [anchor(pattern)]))
    set_versions(rule, tags, MASTERMINDS_VERSIONS, found.text("semver").split("||"))
    if sort == "semver" and "semver" not in tags and "extract" not in regex.left:
        require_version(rule, tags, MASTERMINDS_VERSIONS)  # what is no version is never sorted
    limit = as_text(found.take("limit")) or "1"
    if limit.isdecimal() and int(limit) and not _ONE_TAG.match(pattern):
        tags["latest"] = int(limit)
        if order := _ORDERS.get(sort):
            tags["latest_by"] = order
    elif sort == "numerical":
        rule.lose("selector.sortBy: tags without a number are copied too, because there is no `limit`")
    regex.tell_rest(rule, _NO_EQUAL, "selector.regex.")
    found.tell_rest(rule, _NO_EQUAL, "selector.")
    if tags:
        rule.values["tags"] = tags


def _set_order_group(regex: Reader, pattern: str, rule: DraftEntry, tags: dict[str, Tree]) -> bool:
    """Whether what is extracted is one group, which then is what `latest` puts in order."""
    template = _ONE_GROUP.match(str(regex.left.get("extract", "")))
    named = name_group(pattern, template["name"], "order") if template else ""
    if not named:
        return False
    regex.text("extract")
    tags["allow"] = list(keep_usable_patterns(rule, "selector.regex", [anchor(named, ".*?")]))
    return True


def _set_verification(found: Reader, rule: DraftEntry, draft: Draft) -> None:
    """A policy of identities; without any, nothing could satisfy it, and the rule stays off."""
    identities: list[Tree] = []
    for identity in found.each("matchOIDCIdentity"):
        issuer, subject = identity.text("issuer"), identity.text("subject")
        names = keep_usable_patterns(rule, "verify.subject", [anchor(subject)])
        identities += [{"issuer": issuer.strip("^$").replace("\\", ""), "identity": name} for name in names]
    if found.text("provider") == "cosign" and identities:
        rule.values["verify"] = draft.policy(identities)
    else:
        rule.values["enabled"] = False
        rule.lose(
            "verify: say whose signatures count: a policy under `verify:`, and its name here; then enable the rule"
        )
    if (age := found.text("minAge")) and "verify" in rule.values:
        duration = DraftEntry()
        set_duration(duration, "of", age)
        rule.values["min_age"] = {**duration.values, "by": "log"}
        rule.losses += duration.losses
    found.tell_rest(rule, {}, "verify.")


def is_flux_mirror(root: dict[str, Value]) -> bool:
    """Whether a file looks like it."""
    return str(root.get("apiVersion", "")).startswith(_APIS)
