"""Names of images in archives: which two mean the same, which can be published, and how messages show them.

A name in an archive is text from outside. containerd, nerdctl and `ctr export` write digests into names
(`app@sha256:…`, `overlayfs@sha256:…`), and docker writes a short name in one place and the full one in another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ocisync.errors import InvalidName
from ocisync.model.image_name import is_tag, names_digest_only, parse_image_name

_SHOWN = 500  # characters of a list of names in a message

_HARMLESS = re.compile(r"[A-Za-z0-9._/:@+-]+\Z")

NameKey = tuple[str, str, str]


def name_key(name: str) -> NameKey | None:
    """Host, repository and reference: equal for two spellings of one name; None for what is no image's name."""
    try:
        image = parse_image_name(name)
    except InvalidName:
        return None
    return image.host, image.repository, image.reference


def is_same_name(one: str, other: str) -> bool:
    """Whether two names are the same text, or two spellings of one name."""
    return one == other or ((key := name_key(one)) is not None and key == name_key(other))


def is_publishable(name: str) -> bool:
    """Whether a name has a tag, or may have one: neither a digest alone nor something that is no name."""
    if is_tag(name):
        return True
    try:
        image = parse_image_name(name)
    except InvalidName:
        return False
    return not names_digest_only(image)


def best_name(names: Sequence[str]) -> str:
    """The first name that can be published, else the first; empty when there is none."""
    return next((name for name in names if is_publishable(name)), names[0] if names else "")


def image_number(reference: str) -> int | None:
    """N of `@N`, the N-th image of an archive, counted from 0; None for other references."""
    digits = reference[1:]
    return int(digits) if reference.startswith("@") and digits.isascii() and digits.isdigit() else None


def show_name(name: str) -> str:
    """A name for messages: as it is when it is made of a name's characters, else quoted and escaped."""
    return name[:200] if _HARMLESS.match(name) else repr(name[:200])


def show_choices(images: Iterable[tuple[int, Sequence[str]]]) -> str:
    """What can be chosen instead, for a message: names, and `@N` where an image has no name of its own."""
    listed = list(images)
    counts: dict[str, int] = {}
    for _, names in listed:
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    texts = []
    for number, names in listed:
        own = [show_name(name) for name in names if counts[name] == 1]
        shared = f" ({show_name(names[0])})" if names else ""
        texts += own or [f"@{number}{shared}"]
    text = ", ".join(texts)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
