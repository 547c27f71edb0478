"""zot's configuration, as far as it mirrors: extensions.sync, and where zot keeps and serves it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from ocisync.config.importers.draft import Draft, DraftEntry, Tree
from ocisync.config.importers.foreign_patterns import anchor, keep_usable_patterns
from ocisync.config.importers.foreign_ranges import MASTERMINDS_VERSIONS, require_version
from ocisync.config.importers.foreign_values import Reader, as_text, set_duration
from ocisync.config.yaml_document import Value
from ocisync.errors import InvalidName
from ocisync.model.image_name import parse_host
from ocisync.model.text.outside_json import load_json

_TARGET = "local"
_EVERYTHING = ("**", "/**", "")
_NO_EQUAL = {
    "distSpecVersion": "not needed",
    "log": "see daemon.log_level and daemon.log_format",
    "extensions": "only `sync` has an equal here",
    "http": "access control and TLS are the work of the web server in front",
    "storage": "what zot stored is not read: images are copied anew",
    "scheduler": "see daemon.concurrent_rules and daemon.concurrent_images",
    "cluster": "has no equivalent",
    "credentialsFile": "each of its users and passwords goes to `registries` here, by host",
    "downloadDir": "not needed; see daemon.temporary",
    "onDemand": "images are mirrored before somebody asks for them, not when",
    "retryDelay": "failed rules back off by themselves",
    "maxRetryDelay": "failed rules back off by themselves",
    "manifestCheckInterval": "images are mirrored before somebody asks for them, not when",
    "disableHTTP2": "not needed: HTTP/1.1 is spoken",
    "maxIdleConnsPerHost": "not needed; see concurrency",
    "oauth2CredentialHelper": "name a credential helper: `credential_helper`",
    "certDir": "name the files in it: the authority as `ca`, the client's as `client_cert` and `client_key`",
    "syncTimeout": "a transfer may take as long as it makes progress; see idle_timeout",
    "preserveDigest": "not needed: digests never change",
}
_KEYS = (
    *_NO_EQUAL,
    *("sync", "enable", "registries", "urls", "tlsVerify", "maxRetries", "credentialHelper", "pollInterval", "content"),
    *("onlySigned", "syncLegacyCosignTags", "prefix", "destination", "stripPrefix", "tags", "regex", "excludeRegex"),
    *("reqPerSec", "reqConcurrent", "semver", "storageDriver", "rootDirectory", "address", "port"),
)
_SPELLINGS = {key.lower(): key for key in _KEYS}
_S3 = {"bucket": "bucket", "region": "region", "accesskey": "access_key_id", "secretkey": "secret_access_key"}


def convert_zot(root: Value, folder: Path = Path()) -> Draft:
    """Convert a whole file; `folder` is where it lies."""
    root = _spell_keys(root)
    draft, file, top = Draft("zot"), Reader.of(root), DraftEntry()
    draft.notes.append("zot takes pushes as well; what ocisync keeps here is served read-only.")
    _convert_storage(file.inner("storage"), draft)
    _set_listen(file.inner("http"), draft)
    if "sync" not in Reader.of(Reader.of(root).left.get("extensions")).left:
        draft.lose("there is no extensions.sync: this zot mirrors nothing")
    sync = file.inner("extensions").inner("sync")
    _set_credentials(sync, draft, folder)
    is_on = sync.text("enable") != "false"
    for registry in sync.each("registries"):
        _convert_registry(registry, draft, is_on)
    sync.tell_rest(top, _NO_EQUAL, "sync.")
    file.tell_rest(top, _NO_EQUAL)
    draft.adopt(top)
    return draft


def _spell_keys(value: Value) -> Value:
    """The keys as they are spelled here: zot does not care for case."""
    if isinstance(value, dict):
        return {_SPELLINGS.get(key.lower(), key): _spell_keys(inner) for key, inner in value.items()}
    return [_spell_keys(one) for one in value] if isinstance(value, list) else value


def _set_credentials(sync: Reader, draft: Draft, folder: Path) -> None:
    """Logins of the file that `credentialsFile` names, where it can be read here; by host."""
    if not (name := sync.text("credentialsFile")):
        return
    try:
        document = load_json((folder / name).read_bytes())
    except (OSError, ValueError) as exc:
        draft.lose(f"sync.credentialsFile: {name} cannot be read here ({exc}): add its logins under `registries`")
        return
    for url, login in document.items() if isinstance(document, dict) else ():
        found, host = Reader.of(login), _parse_host(url)
        if host:
            entry = draft.registry_entry(host)
            entry.values |= {key: text for key in ("username", "password") if (text := found.text(key))}


def _convert_storage(found: Reader, draft: Draft) -> None:
    driver = found.inner("storageDriver")
    if driver.text("name") != "s3":
        target = DraftEntry({"type": "static", "path": "./registry"})
        target.note(f"not zot's {found.text('rootDirectory') or 'own folder'}: the format is different")
    else:
        target = DraftEntry({"type": "s3", "prefix": "ocisync"})
        target.values |= {ours: text for key, ours in _S3.items() if (text := driver.text(key))}
        target.note(
            "not zot's own folder in the bucket: the format is different. Clients need the registry at a host's root"
        )
        if endpoint := driver.text("regionendpoint"):
            scheme = "http" if driver.text("secure") == "false" else "https"
            url = endpoint if "://" in endpoint else f"{scheme}://{endpoint}"
            target.values |= {"endpoint": url.rstrip("/"), "path_style": True}
    draft.targets[_TARGET] = target


def _set_listen(found: Reader, draft: Draft) -> None:
    address, port = found.text("address") or "127.0.0.1", found.text("port")
    draft.daemon.values = {"serve": _TARGET}
    if port.isdecimal():
        draft.daemon.values["listen"] = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    for key in found.left:
        draft.daemon.note(f"http.{key}: {_NO_EQUAL['http']}")


def _convert_registry(found: Reader, draft: Draft, is_on: bool) -> None:
    urls = found.texts("urls")
    host = _parse_host(urls[0]) if urls else ""
    if not host:
        draft.lose(f"A registry was left out, as its url is none: {urls[0] if urls else 'it has none'}")
        return
    entry = draft.registry_entry(host)
    if urls[0].startswith("http://"):
        entry.values["plain_http"] = True
    if found.text("tlsVerify") == "false":
        entry.values["insecure_skip_verify"] = True
    for key, ours in (("reqPerSec", "requests_per_second"), ("reqConcurrent", "concurrency")):
        if (number := found.text(key)).isdecimal() and int(number):
            entry.values[ours] = int(number)
    if (retries := found.text("maxRetries")).isdecimal():
        entry.values["retries"] = min(int(retries), 100)
    if found.text("credentialHelper") == "ecr":
        entry.values["ecr"] = {}
    if others := [one for one in dict.fromkeys(map(_parse_host, urls[1:])) if one not in ("", host)]:
        entry.values["mirrors"] = list(others)
        entry.note("urls: lists come from the first, images from the others as long as they have them")
    _convert_contents(found, host, draft, is_on)


def _convert_contents(found: Reader, host: str, draft: Draft, is_on: bool) -> None:
    entry = draft.registry_entry(host)
    interval, contents = found.text("pollInterval"), found.each("content")
    along: dict[str, Tree] = {"referrers": True}
    if found.text("syncLegacyCosignTags") != "false":
        along["digest_tags"] = True
    if found.text("onDemand") == "true":
        entry.lose(f"onDemand: {_NO_EQUAL['onDemand']}")
        if not contents:
            draft.lose(f"{host} is only asked on demand and lists no content, so there is nothing to mirror ahead")
    is_signed = found.text("onlySigned") == "true"
    found.tell_rest(entry, _NO_EQUAL)
    earlier: list[str] = []  # globs: zot takes the first content that fits a repository
    for content in contents:
        prefix = as_text(content.left.get("prefix")).strip("/")
        before = [_translate_glob(one) for one in earlier if _may_overlap(one, prefix)]
        earlier.append(prefix)
        if not _is_glob(prefix) and any(re.fullmatch(one, prefix) for one in before):
            entry.note(f"content: {prefix} is not used a second time: zot takes the first content that fits")
            continue
        rule = _convert_content(content, host, interval, draft, is_on)
        if _is_glob(prefix):
            _set_repositories(rule, prefix, before)
        rule.values |= along
        if is_signed:  # zot only looks whether anybody signed; here somebody must be named
            rule.values["enabled"] = False
            rule.lose(
                "onlySigned: say whose signatures count: a policy with keys or identities under `verify:`, and its "
                "name as this rule's `verify`; then enable it"
            )


def _parse_host(url: str) -> str:
    """The host of a URL; empty when it is none."""
    try:
        parts = urlsplit(url)
        return parse_host(parts.netloc or parts.path.strip("/"))
    except (InvalidName, ValueError):
        return ""


def _convert_content(found: Reader, host: str, interval: str, draft: Draft, is_on: bool) -> DraftEntry:
    prefix, destination = found.text("prefix").strip("/"), found.text("destination").strip("/")
    is_stripped = found.flag("stripPrefix")
    rule = DraftEntry()
    if _is_glob(prefix):
        _set_many(rule, host, prefix, destination, is_stripped)
    else:
        there = (destination or prefix) if is_stripped else "/".join(filter(None, (destination, prefix)))
        rule.values |= {"source": f"{host}/{prefix}", "target": f"{_TARGET}/{there}"}
    _set_tags(found.inner("tags"), rule)
    if interval:
        set_duration(rule, "interval", interval)
    if not interval or not is_on:
        rule.values["enabled"] = False
        rule.lose("zot brought these only when somebody asked; enable the rule to mirror them all, ahead")
    found.tell_rest(rule, _NO_EQUAL)
    draft.add_rule((prefix.replace("*", "").strip("/") or host).rpartition("/")[2], rule)
    return rule


def _set_many(rule: DraftEntry, host: str, prefix: str, destination: str, is_stripped: bool) -> None:
    base = _read_head(prefix)
    base = base[: base.rfind("/") + 1]
    rule.values |= {"type": "registry", "source": host}
    rule.values["target"] = "/".join(filter(None, (_TARGET, destination, "{repository}")))
    if is_stripped and base:
        rule.values["rename"] = {"strip_prefix": base}
    rule.note("a registry that refuses its catalog, as Docker Hub does, needs the repositories one by one")


def _set_repositories(rule: DraftEntry, prefix: str, before: list[str]) -> None:
    """Those that a glob means, without those that an earlier content means."""
    names: dict[str, Tree] = {} if prefix in _EVERYTHING else {"allow": [_translate_glob(prefix)]}
    if before:
        names["deny"] = [*before]
    if names:
        rule.values["repositories"] = names


def _is_glob(prefix: str) -> bool:
    return prefix in _EVERYTHING or _read_head(prefix) != prefix


def _read_head(glob: str) -> str:
    """What stands before everything that is special."""
    return re.split(r"[*?\[{]", glob, maxsplit=1)[0]


def _may_overlap(one: str, other: str) -> bool:
    heads = _read_head(one).rstrip("/"), _read_head(other).rstrip("/")
    return heads[0].startswith(heads[1]) or heads[1].startswith(heads[0])


def _translate_glob(glob: str) -> str:
    """A glob as an expression. `*` stays inside a component; `**` as a component is any number of them, also none.

    Spec: github.com/bmatcuk/doublestar, "Patterns".
    """
    if glob in _EVERYTHING:
        return ".*"
    expression = ""
    components = glob.split("/")
    for at, component in enumerate(components, 1):
        if component != "**":
            expression += _translate_component(component) + ("/" if at < len(components) else "")
        elif at < len(components):
            expression += "(?:[^/]+/)*"
        else:
            expression = expression.removesuffix("/") + "(?:/.*)?"
    return expression


def _translate_component(text: str) -> str:
    found = re.split(r"(\*+|\?|\[[!^]?\w+(?:-\w)?\]|\{[^{}]*\})", text)
    return "".join(map(_translate_term, found))


def _translate_term(term: str) -> str:
    if term.startswith("*"):
        return "[^/]*"
    if term == "?":
        return "[^/]"
    if term.startswith("[") and len(term) > 1:
        return term.replace("!", "^")
    if term.startswith("{") and len(term) > 1:
        return f"(?:{'|'.join(map(_translate_component, term[1:-1].split(',')))})"
    return re.escape(term).replace(r"\-", "-")


def _set_tags(found: Reader, rule: DraftEntry) -> None:
    tags: dict[str, Tree] = {}
    for key, ours in (("regex", "allow"), ("excludeRegex", "deny")):
        if (text := found.text(key)) and (expressions := keep_usable_patterns(rule, f"tags.{key}", [anchor(text)])):
            tags[ours] = list(expressions)
    if found.flag("semver"):
        require_version(rule, tags, MASTERMINDS_VERSIONS)
        rule.note("tags.semver: tags that zot reads as versions, pre-releases among them")
    if tags:
        rule.values["tags"] = tags
    found.tell_rest(rule, _NO_EQUAL, "tags.")


def is_zot(root: dict[str, Value]) -> bool:
    """Whether a file looks like it."""
    file = Reader.of(_spell_keys(root))
    storage, extensions = file.left.get("storage"), Reader.of(file.left.get("extensions")).left
    # docker-registry has a driver's name between them
    has_server = "http" in file.left and "rootDirectory" in Reader.of(storage).left
    return "sync" in extensions or ("storage" in file.left and ("distSpecVersion" in file.left or has_server))
