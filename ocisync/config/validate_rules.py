"""Checks of keys of a rule that depend on each other. They read the plain values, as `validate` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ocisync.config.diagnostics import ConfigFinding, KeyPath, suggest
from ocisync.config.parsers import parse_source
from ocisync.config.yaml_document import Value
from ocisync.errors import InvalidName
from ocisync.model.image_name import ImageName
from ocisync.model.name_mapping import NAME, REPOSITORY, TAG

Entry = Mapping[str, Value]


def check_sync(path: KeyPath, entry: Entry, targets: Mapping[str, str]) -> Iterator[ConfigFinding]:
    """Every contradiction in one sync rule; `targets` are the types of the configured ones, by name."""
    kind = entry.get("type", "repository")
    image = _parse_image(entry) if kind != "registry" else None
    yield from _check_conditions(path, entry)
    yield from _check_kind(path, entry, kind)
    if image is not None:
        yield from _check_image(path, entry, kind, image)
    yield from _check_places(path, entry, kind, has_one_tag=image is not None and bool(image.tag or image.digest))
    yield from _check_indexes(path, entry, targets)
    yield from _check_referrers(path, entry)


def _parse_image(entry: Entry) -> ImageName | None:
    source = entry.get("source")
    try:
        return parse_source(source, digests=True) if isinstance(source, str) else None
    except (ValueError, InvalidName):
        return None


def _check_conditions(path: KeyPath, entry: Entry) -> Iterator[ConfigFinding]:
    sets = entry.get("tag_sets")
    numbered = enumerate(sets) if isinstance(sets, list) else ()
    for place, tags in ((("tags",), entry.get("tags")), *((("tag_sets", at), one) for at, one in numbered)):
        if isinstance(tags, dict) and "latest_by" in tags and "latest" not in tags:
            yield (*path, *place, "latest_by"), "without `latest` there is nothing to order. Add it, or remove this"


def _check_kind(path: KeyPath, entry: Entry, kind: Value) -> Iterator[ConfigFinding]:
    if kind != "registry" and entry.get("repositories"):
        yield (*path, "repositories"), "it selects among all repositories of a registry. Add `type: registry`"
    if kind == "registry" and entry.get("digests"):
        yield (*path, "digests"), "a digest is in one repository. Write a rule for that repository"
    if kind == "image":
        for key in ("tags", "tag_sets", "digests"):
            if entry.get(key):
                yield (*path, key), "`type: image` means the one image that the source names. Remove one of the two"


def _check_image(path: KeyPath, entry: Entry, kind: Value, image: ImageName) -> Iterator[ConfigFinding]:
    if kind == "image" and not (image.tag or image.digest):
        yield (*path, "source"), "an image needs a tag or a digest: write `name:tag`, or `type: repository`"
    for key in ("tags", "tag_sets"):
        if kind == "repository" and image.tag and entry.get(key):
            yield (*path, key), f"the source names the one tag {image.tag} already. Remove it there, or remove `{key}`"


def _check_places(path: KeyPath, entry: Entry, kind: Value, *, has_one_tag: bool) -> Iterator[ConfigFinding]:
    for place, written in _list_targets(path, entry):
        repository, colon, tag = written.partition("/")[2].partition(":")
        if kind == "registry" and repository and not any(one in repository for one in (REPOSITORY, NAME)):
            yield place, f"all repositories would become one. Write {written.partition('/')[0]}/{REPOSITORY}"
        elif colon and TAG not in tag and not has_one_tag:
            yield place, f"all tags would become one. Write {TAG} where a tag's name goes"


def _check_indexes(path: KeyPath, entry: Entry, targets: Mapping[str, str]) -> Iterator[ConfigFinding]:
    narrows = bool(entry.get("platforms")) or entry.get("attestations") == "none"
    if not narrows:
        if entry.get("rewrite_index") is not None:
            yield (*path, "rewrite_index"), "without `platforms` every index stays whole. Remove it, or add them"
        return
    if entry.get("rewrite_index") is not None or entry.get("format") is not None:
        return
    for place, written in _list_targets(path, entry):
        name = written.partition("/")[0]
        if targets.get(name) == "registry":
            yield (
                place,
                (
                    f"{name} is a registry: most refuse an index of which they lack images, so the source's cannot be "
                    "kept there. Write `rewrite_index: true` for a new index, with another digest, or `false` to try it"
                ),
            )


def _check_referrers(path: KeyPath, entry: Entry) -> Iterator[ConfigFinding]:
    for key in ("referrers", "digest_tags"):
        if entry.get(key) and "format" in entry:
            told = "what refers to an image no longer fits once `format` changed its digest. Keep one"
            yield (*path, key), told


def _list_targets(path: KeyPath, entry: Entry) -> Iterator[tuple[KeyPath, str]]:
    target = entry.get("target")
    if isinstance(target, str):
        yield (*path, "target"), target
    elif isinstance(target, list):
        yield from (((*path, "target", at), one) for at, one in enumerate(target) if isinstance(one, str))


def check_trust(path: KeyPath, entry: Mapping[str, Value], policies: Value) -> Iterator[ConfigFinding]:
    """Every contradiction in what a rule demands of images; `policies` is the section `verify`."""
    known = [str(name) for name in policies] if isinstance(policies, dict) else []
    for name in _list_policies(entry.get("verify")):
        if name not in known:
            told = suggest(name, known) or ". Define it under `verify:` at the top"
            yield (*path, "verify"), f'no policy is named "{name[:80]}"{told}'
    age, demand = entry.get("min_age"), entry.get("verify")
    if not isinstance(age, dict) or age.get("by") != "log":
        return
    if not demand:
        yield (*path, "min_age"), "a log knows of signatures only. Add `verify`, or count the age `by: seen`"
        return
    names = list(_list_policies(demand))
    needs_all = isinstance(demand, dict) and bool(demand.get("all"))
    untimed = [name for name in names if _has_no_time(policies, name)]
    if untimed and (needs_all or len(untimed) == len(names)):
        told = f'the policy "{untimed[0][:80]}" has keys only, so nobody tells when they signed'
        yield (*path, "min_age"), f"{told}. Give it the `trusted_root` of a log, or count the age `by: seen`"


def _has_no_time(policies: Value, name: str) -> bool:
    policy = policies.get(name) if isinstance(policies, dict) else None
    return isinstance(policy, dict) and not (policy.get("keyless") or policy.get("trusted_root"))


def _list_policies(demand: Value) -> Iterator[str]:
    listed = [demand.get("any"), demand.get("all")] if isinstance(demand, dict) else [demand]
    for names in listed:
        for name in names if isinstance(names, list) else [names]:
            if isinstance(name, str):
                yield name
