"""image-syncer's configuration: `auth` and `images`, or a file of images alone."""

from __future__ import annotations

import re

from ocisync.config.importers.draft import Draft, DraftEntry, Tree
from ocisync.config.importers.foreign_patterns import anchor, keep_usable_patterns
from ocisync.config.importers.foreign_values import Reader, as_texts
from ocisync.config.yaml_document import Value
from ocisync.errors import InvalidName
from ocisync.model.image_name import ImageName, parse_host, parse_image_name, parse_name, parse_tag

_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?\Z", re.ASCII)
_REGEX = re.compile(r"(.+?):/(.+)/\Z")


def convert_image_syncer(root: Value) -> Draft:
    """Convert a whole file."""
    draft, file, top = Draft("image-syncer"), Reader.of(root), DraftEntry()
    images = file.inner("images") if "images" in file.left else Reader.of(file.left)
    for place, value in file.inner("auth").left.items():
        _convert_login(place, Reader.of(value), draft)
    for source, value in images.left.items():
        targets = as_texts(value)
        if not targets:
            draft.lose(f"{source} was left out: image-syncer sends it to --registry and --namespace; name its target")
            continue
        for target in targets:
            try:
                _add_rule(source, target, draft)
            except InvalidName as exc:
                draft.lose(f"{source} -> {target} was left out: {exc.message}")
    if "images" in Reader.of(root).left:
        file.tell_rest(top, {})
    draft.notes.append("image-syncer copies once; a rule here runs every hour unless it has an `interval`.")
    draft.adopt(top)
    return draft


def _convert_login(place: str, found: Reader, draft: Draft) -> None:
    host, slash, path = place.partition("/")
    try:
        entry = draft.registry_entry(parse_host(host) + (f"/{parse_name(path)}" if slash else ""))
    except InvalidName as exc:
        draft.lose(f"auth: {place} was left out: {exc.message}")
        return
    for key in ("username", "password"):
        if text := found.text(key):
            variable = _VARIABLE.match(text)
            entry.values[key] = {"env": variable[1]} if variable else text
    if found.flag("insecure"):
        entry.values["plain_http"] = True
    found.tell_rest(entry, {}, "auth.")


def _add_rule(source: str, target: str, draft: Draft) -> None:
    """A rule for one source and one of its targets."""
    rule = DraftEntry()
    name, tags, pattern = _split_source(source)
    there = parse_image_name(target)
    if there.digest or (there.tag and (len(tags) != 1)):
        raise InvalidName("a target has a tag only where the source has one")
    image = parse_image_name(name)
    rule.values = {
        "source": str(ImageName(image.host, image.repository, tags[0] if len(tags) == 1 else "", image.digest)),
        "target": f"{draft.registry_target(there.host)}/{there.repository}" + (f":{there.tag}" if there.tag else ""),
    }
    if image.digest:
        rule.values["type"] = "image"
    allow: list[Tree] = [re.escape(tag).replace(r"\-", "-") for tag in tags] if len(tags) > 1 else []
    if pattern:
        allow = list(keep_usable_patterns(rule, "tags", [anchor(pattern)]))
        if not allow:
            raise InvalidName(f"the expression {pattern} cannot be used")
    if allow:
        rule.values["tags"] = {"allow": allow}
    draft.add_rule(image.repository.rpartition("/")[2], rule)


def _split_source(source: str) -> tuple[str, list[str], str]:
    """The name, with its digest, the tags after it, and the expression in their place."""
    if found := _REGEX.match(source):
        return found[1], [], found[2]
    if "@" in source:
        return source, [], ""
    first, *more = source.split(",")
    name, colon, tag = first.rpartition(":")
    if not colon or "/" in tag:
        if more:
            raise InvalidName(f"{source}: several tags need a first one")
        return source, [], ""
    return name, [parse_tag(one) for one in (tag, *more)], ""


def is_image_syncer(root: dict[str, Value]) -> bool:
    """Whether a file looks like it."""
    images = root.get("images") if "images" in root else root
    pairs = images.items() if isinstance(images, dict) else ()
    return bool(pairs) and all("/" in name and _is_target(value) for name, value in pairs)


def _is_target(value: Value) -> bool:
    listed = value if isinstance(value, list) else [value]
    return all(one is None or isinstance(one, str) for one in listed)
