"""regsync.yml of regclient."""

from __future__ import annotations

import re

from ocisync.config.importers.draft import Draft, DraftEntry, Tree, make_label
from ocisync.config.importers.foreign_patterns import bind, keep_usable_patterns
from ocisync.config.importers.foreign_ranges import REGSYNC_VERSIONS, set_versions
from ocisync.config.importers.foreign_values import (
    Reader,
    as_text,
    set_duration,
    set_platforms,
    set_schedule,
)
from ocisync.config.yaml_document import Value
from ocisync.errors import InvalidName
from ocisync.model.image_name import ImageName, parse_host, parse_image_name, parse_name, parse_tag

_OWN_FIELD = re.compile(
    r"\{\{-?\s*(?:index \(split )?\.Sync\.(?P<field>Source|Target|Type)"
    r"(?: \"(?P<separator>[^\"]*)\"\) (?P<number>\d+))?\s*-?\}\}"
)
_LAYOUT = "ocidir://"
_SECRET = re.compile(r"\{\{\s*(env|file)\s+[\"`']([^\"`']+)[\"`']\s*\}\}\Z")
_TAG = re.compile(r"\{\{\s*\.Ref\.Tag\s*\}\}")
# Of `defaults`, what has an equal in a rule; of the rest is told once, at the top.
_DEFAULTS = ("backup", "interval", "schedule", "digestTags", "referrers", "referrerFilters", "includeExternal")
_NO_EQUAL = {
    "hostname": "an address that is not the registry's name has no equivalent",
    "credExpire": "not needed: a helper is asked again whenever its credentials are refused or about to expire",
    "regcert": "write the certificate to a file, and name it here as `ca`",
    "clientCert": "write the certificate to a file, and name it here as `client_cert`",
    "clientKey": "write the key to a file, and name it here as `client_key`",
    "pathPrefix": "stands in the `mirrors` that name this host; elsewhere, write it before the repository in `source`",
    "priority": "the order of `mirrors` is their priority",
    "repoAuth": "not needed: tokens are asked for by repository",
    "blobChunk": "not needed: uploads stream, whatever their size",
    "blobMax": "not needed: uploads stream, whatever their size",
    "apiOpts": "has no equivalent",
    "scheme": "has no equivalent",
    "referrerSource": "referrers come from the image's own repository",
    "referrerTarget": "referrers go to the image's own repository",
    "fastCopy": "not needed: what was verified is trusted for `recheck`",
    "forceRecursive": "`recheck: 0s` looks up all of an image at each run",
    "mediaTypes": "every kind of manifest but docker's schema 1 is copied",
    "hooks": "has no equivalent; ask for `ocisync once --json`, or watch the metrics",
    "repoSets": "of several sets of repositories make several rules",
    "skipDockerConfig": "name an empty `docker_config` under the top-level `defaults`",
    "userAgent": "has no equivalent",
    "cacheCount": "not needed",
    "cacheTime": "not needed",
    "parallel": "see daemon.concurrent_images",
}


def convert_regsync(root: Value) -> Draft:
    """Convert a whole file."""
    draft, file = Draft("regsync"), Reader.of(root)
    file.take("version")
    known = file.each("creds")
    ranks = _rank_mirrors(known)
    for entry in known:
        _convert_registry(entry, ranks, draft)
    defaults = file.inner("defaults")
    given: dict[str, Value] = {key: value for key in _DEFAULTS if (value := defaults.take(key)) is not None}
    if limit := _convert_rate_limit(defaults.inner("ratelimit")):
        draft.defaults["rate_limit"] = limit
    if parallel := defaults.text("parallel"):
        draft.daemon.values["concurrent_images"] = int(parallel) if parallel.isdecimal() else 3
    top = DraftEntry()
    for step in file.each("sync"):
        has_time = not {"interval", "schedule"}.isdisjoint(step.left)
        own = {key: value for key, value in given.items() if not (has_time and key in ("interval", "schedule"))}
        _convert_step(Reader(own | step.left), draft)
    defaults.tell_rest(top, _NO_EQUAL, "defaults.")
    file.tell_rest(top, _NO_EQUAL)
    draft.adopt(top)
    return draft


def _rank_mirrors(known: list[Reader]) -> dict[str, tuple[int, str]]:
    """By host, when it comes to be asked among mirrors, and the mirror's place."""
    ranks = {}
    for entry in known:
        host, priority = as_text(entry.left.get("registry")), as_text(entry.left.get("priority"))
        prefix = as_text(entry.left.get("pathPrefix")).strip("/")
        ranks[host] = (-int(priority) if priority.isdecimal() else 0, f"{host}/{prefix}" if prefix else host)
    return ranks


def _convert_registry(found: Reader, ranks: dict[str, tuple[int, str]], draft: Draft) -> None:
    name = found.text("registry")
    try:
        entry = draft.registry_entry(parse_host(name))
    except InvalidName:
        draft.lose(f"creds: {name!r} is not a registry's host; its entry was left out")
        return
    _set_login(found, entry)
    tls = found.text("tls")
    if tls == "disabled":
        entry.values["plain_http"] = True
    elif tls == "insecure":
        entry.values["insecure_skip_verify"] = True
    if found.left.get("hostname") == name:
        found.take("hostname")
    _set_limits(found, entry)
    if mirrors := sorted((ranks.get(host, (0, host)) for host in found.texts("mirrors")), key=lambda rank: rank[0]):
        entry.values["mirrors"] = [place for _, place in mirrors]
    found.tell_rest(entry, _NO_EQUAL)


def _set_login(found: Reader, entry: DraftEntry) -> None:
    for key, ours in (("user", "username"), ("pass", "password")):
        if text := found.text(key):
            entry.values[ours] = _convert_secret(text, entry, key)
    if helper := found.text("credHelper"):
        entry.values["credential_helper"] = make_label(helper.removeprefix("docker-credential-"))


def _convert_secret(text: str, entry: DraftEntry, key: str) -> Tree:
    """`{{env "NAME"}}` and `{{file "PATH"}}` as ours; other text stays."""
    if found := _SECRET.match(text.strip()):
        return {found[1]: found[2]}
    if "{{" in text:
        entry.lose(f"{key}: its template has no equivalent; write {{env: NAME}} or {{file: PATH}}")
    return text


def _set_limits(found: Reader, entry: DraftEntry) -> None:
    for key, ours in (("reqPerSec", "requests_per_second"), ("reqConcurrent", "concurrency")):
        text = found.text(key)
        try:
            number = float(text or 0)
        except ValueError:
            entry.note(f"{key}: {text} is not a number")
            continue
        if number > 0:
            entry.values[ours] = int(number) if number == int(number) else number


def _convert_step(found: Reader, draft: Draft) -> None:
    rule = DraftEntry()
    kind, source, target = found.text("type") or "repository", found.text("source"), found.text("target")
    source = _fill(source, {"Source": source, "Target": target, "Type": kind})
    target = _fill(target, {"Source": source, "Target": target, "Type": kind})
    try:
        place = _convert_target(target, kind, draft)
        name = _set_source(rule, source, kind)
    except InvalidName as exc:
        draft.lose(f"sync: {source} -> {target} was left out: {exc.message}")
        return
    rule.values["target"] = place + _convert_target_tag(found.text("targetTag"), rule)
    _set_tags(found, rule)
    _set_platforms(found, rule)
    _set_referrers(found, rule)
    _set_backup(found, rule)
    _set_timing(found, rule)
    limit = _convert_rate_limit(found.inner("ratelimit"))
    if limit and not source.startswith(_LAYOUT):
        draft.registry_entry(_find_host(source, kind)).values["rate_limit"] = limit
    found.tell_rest(rule, _NO_EQUAL)
    draft.add_rule(name, rule)


def _set_source(rule: DraftEntry, source: str, kind: str) -> str:
    """Set type and source; the rule's name comes back."""
    _refuse_template(source)
    if source.startswith(_LAYOUT):
        return _set_layout_source(rule, source.removeprefix(_LAYOUT), kind)
    if kind == "registry":
        rule.values |= {"type": "registry", "source": parse_host(source)}
        return source
    named = parse_image_name(source)
    if kind == "image":
        rule.values["type"] = "image"
        named = named if named.tag or named.digest else ImageName(named.host, named.repository, "latest")
    else:
        named = ImageName(named.host, named.repository)  # regsync lists the tags, whatever tag the source names
    rule.values["source"] = str(named)
    return named.repository.rpartition("/")[2]


def _set_layout_source(rule: DraftEntry, place: str, kind: str) -> str:
    path, tag = _split_layout(place)
    if kind == "registry":
        raise InvalidName(f"{place} is a layout, which holds one repository; `type: registry` needs a registry")
    if kind == "image":
        rule.values["type"] = "image"
    rule.values["source"] = f"oci:{path}" + (f":{tag or 'latest'}" if kind == "image" else "")
    return path.rstrip("/").rpartition("/")[2]


def _split_layout(place: str) -> tuple[str, str]:
    """The folder of a layout and the tag of `PATH[:TAG]`."""
    path, colon, tag = place.rpartition(":")
    return (path, parse_tag(tag)) if colon and "/" not in tag else (place, "")


def _find_host(source: str, kind: str) -> str:
    return parse_host(source) if kind == "registry" else parse_image_name(source).host


def _fill(text: str, sync: dict[str, str]) -> str:
    """Fill in what a template says of its own step: `{{ .Sync.Source }}`, `{{ index (split .Sync.Source "/") 1 }}`.

    Others are left as they are, and refused by whoever needs the text.
    """

    def value(found: re.Match[str]) -> str:
        own = sync[found["field"]]
        if "{{" in own:
            return found[0]
        if found["separator"] is None:
            return own
        parts, number = own.split(found["separator"]) if found["separator"] else list(own), int(found["number"])
        return parts[number] if number < len(parts) else found[0]

    return _OWN_FIELD.sub(value, text)


def _refuse_template(text: str) -> None:
    if "{{" in text:
        raise InvalidName(f"{text} is a template; write the name that it stands for")


def _convert_rate_limit(found: Reader) -> dict[str, Tree]:
    """Pulls that are left for others, and how often to look whether there are more."""
    limit = DraftEntry()
    if (least := found.text("min")).isdecimal():
        limit.values["min"] = int(least)
    if retry := found.text("retry"):
        set_duration(limit, "retry", retry)
    return limit.values


def _convert_target(target: str, kind: str, draft: Draft) -> str:
    if target.startswith(_LAYOUT):
        return _convert_layout_target(target, kind, draft)
    if kind == "registry":
        host, _, path = target.partition("/")
        prefix = f"{parse_name(path.strip('/'))}/" if path.strip("/") else ""
        return f"{draft.registry_target(parse_host(host))}/{prefix}{{repository}}"
    _refuse_template(target)
    named = parse_image_name(target)
    tag = f":{named.tag}" if kind == "image" and named.tag else ""
    return f"{draft.registry_target(named.host)}/{named.repository}{tag}"


def _convert_layout_target(target: str, kind: str, draft: Draft) -> str:
    """The last part of a layout's path becomes its repository's name."""
    _refuse_template(target)
    path, tag = _split_layout(target.removeprefix(_LAYOUT).rstrip("/"))
    if kind == "registry":
        return f"{draft.layout_target(path)}/{{repository}}"
    folder, slash, name = path.rpartition("/")
    repository = parse_name(name)
    place = f"{draft.layout_target(folder or ('/' if slash else '.'))}/{repository}"
    return f"{place}:{tag}" if kind == "image" and tag else place


def _convert_target_tag(text: str, rule: DraftEntry) -> str:
    """The tag at the target, after a colon; empty when it is the source's, or has no equivalent."""
    ours = _TAG.sub("{tag}", text)
    if not text:
        return ""
    if "{{" in ours or rule.values.get("type") == "registry":
        rule.lose(
            f"targetTag: {text} has no equivalent; tags keep their names. See `rename`, and "
            "`target: NAME/PATH:{tag}-x`"
        )
        return ""
    return f":{ours}"


def _set_tags(found: Reader, rule: DraftEntry) -> None:
    if (tags := _convert_tag_set(found.inner("tags"), rule)) or not rule.values:
        rule.values["tags"] = tags
    sets: list[Tree] = [one for each in found.each("tagSets") if (one := _convert_tag_set(each, rule))]
    if sets:
        rule.values["tag_sets"] = sets
    sets_of_names = found.each("repoSets")
    repositories = found.inner("repos") if "repos" in found.left or len(sets_of_names) != 1 else sets_of_names[0]
    if len(sets_of_names) > 1:
        rule.lose(f"repoSets: {_NO_EQUAL['repoSets']}")
    names: dict[str, Tree] = {
        key: list(expressions)
        for key in ("allow", "deny")
        if (expressions := keep_usable_patterns(rule, f"repos.{key}", [*map(bind, repositories.texts(key))]))
    }
    if names:
        rule.values["repositories"] = names


def _convert_tag_set(found: Reader, rule: DraftEntry) -> dict[str, Tree]:
    tags: dict[str, Tree] = {}
    for key in ("allow", "deny"):
        if expressions := keep_usable_patterns(rule, f"tags.{key}", [*map(bind, found.texts(key))]):
            tags[key] = list(expressions)
    set_versions(rule, tags, REGSYNC_VERSIONS, found.texts("semverRange"))
    found.tell_rest(rule, _NO_EQUAL, "tags.")
    return tags


def _set_platforms(found: Reader, rule: DraftEntry) -> None:
    platforms = [*found.texts("platform"), *found.texts("platforms")]
    if platforms:
        set_platforms(rule, platforms, is_registry=True)


def _set_referrers(found: Reader, rule: DraftEntry) -> None:
    for key, ours in (("digestTags", "digest_tags"), ("includeExternal", "include_external")):
        if found.flag(key):
            rule.values[ours] = True
    filters, is_wanted = found.each("referrerFilters"), found.flag("referrers")
    if not is_wanted:
        return
    types: list[Tree] = [kind for one in filters if (kind := one.text("artifactType"))]
    for one in filters:
        one.tell_rest(rule, {"annotations": "referrers are chosen by their type only"}, "referrerFilters.")
    rule.values["referrers"] = {"types": types} if types and len(types) == len(filters) else True


def _set_backup(found: Reader, rule: DraftEntry) -> None:
    text = found.text("backup")
    ours = _TAG.sub("{tag}", text)
    if not text:
        return
    if "{{" in ours or "/" in ours or ours.count("{tag}") != 1 or ours == "{tag}":
        rule.lose(f"backup: {text} has no equivalent; a tag with {{tag}} in it has, such as bkup-{{tag}}")
    else:
        rule.values["backup"] = ours


def _set_timing(found: Reader, rule: DraftEntry) -> None:
    interval, schedule = found.text("interval"), found.text("schedule")
    if schedule:
        set_schedule(rule, schedule)
        if interval:
            rule.note(f"interval: {interval} is not used: regsync lets a schedule win")
    elif interval:
        set_duration(rule, "interval", interval)
    else:
        rule.note("`regsync server` leaves a step without interval and schedule alone; here the rule runs every hour")


def is_regsync(root: dict[str, Value]) -> bool:
    """Whether a file looks like it."""
    steps = root.get("sync")
    return (
        isinstance(steps, list)
        and "targets" not in root
        and any(as_text(Reader.of(one).take("source")) for one in steps)
    )
