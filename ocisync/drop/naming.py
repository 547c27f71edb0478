"""What a path in a drop folder says: a member of a set, a single archive, or nothing of ours. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from ocisync.errors import InputError, InvalidName
from ocisync.model.image_name import parse_name, parse_tag
from ocisync.model.platform import Platform, normalize, platform_from_labels

DEFAULT_LAYOUT = "{name}/{tag}/{os}.{arch}"
SUFFIXES = (".tar.gz", ".tgz", ".tar", ".tar.zst", ".tzst", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tbz")
TEMPORARY_SUFFIXES = ("~", ".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".swp")
SYSTEMS = frozenset(
    {"aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd", "openbsd", "plan9"}
    | {"solaris", "wasip1", "windows"}
)  # the names that Go, and so the image specification, gives to operating systems

_PLACEHOLDERS = {
    "name": r"(?P<name>.+)",
    "tag": r"(?P<tag>[^/]+)",
    "os": r"(?P<os>[A-Za-z0-9]+)",
    "arch": r"(?P<arch>[A-Za-z0-9_-]+?)",
    "variant": r"(?P<variant>[0-9]+(?:\.[0-9]+)+|[A-Za-z0-9_-]+)",  # 10.0.17763 is a version of Windows
}
_ARCHITECTURES = (
    "386|amd64|arm|armv[5-8]l?|arm32v[5-7]|arm64|arm64v8|armhf|aarch64|i386|i686|loong64|mips|mips64|mips64le|mipsle"
    "|ppc64|ppc64le|riscv64|s390x|wasm|x86_64|x86-64"
)
_SLIP = re.compile(
    rf"(?:.+[-_. ])?(?:(?P<os>{'|'.join(sorted(SYSTEMS))})[-_. /]|^)(?P<arch>{_ARCHITECTURES})"
    r"(?:[-_. /](?P<variant>v[0-9]+|ltsc[0-9]{4}|[0-9]+(?:\.[0-9]+)+))?",
    re.IGNORECASE | re.ASCII,
)
_JOINED = {"arm64v8": ("arm64", "v8")} | {
    f"{arm}v{number}{end}": ("arm", f"v{number}") for arm in ("arm", "arm32") for number in "5678" for end in ("", "l")
}  # docker's library and uname write architecture and variant as one word


class SetMemberPath(NamedTuple):
    """One platform's archive of a set."""

    name: str
    tag: str
    platform: Platform


class SingleArchive(NamedTuple):
    """An archive that is published under the names inside it, else under these (not yet checked, may be empty)."""

    default_name: str
    default_tag: str


def is_temporary(component: str) -> bool:
    """Whether a file or folder of this name is somebody's work in progress."""
    return component.startswith(".") or component.lower().endswith(TEMPORARY_SUFFIXES)


def stem_of(path: str) -> str | None:
    """The path without its archive suffix, or None when it has none."""
    suffix = max((known for known in SUFFIXES if path.lower().endswith(known)), key=len, default="")
    stem = path[: -len(suffix)] if suffix else ""
    return stem if stem.rpartition("/")[2] else None


def is_image_folder(names: Iterable[str]) -> bool:
    """Whether a folder with these files is an image: an OCI layout, or one as skopeo's `dir:` writes it."""
    found = set(names)
    return "oci-layout" in found or {"version", "manifest.json"} <= found


def classify(relative: str, layout: str, *, is_folder: bool = False) -> SetMemberPath | SingleArchive | None:
    """What a path below a drop folder means; None for names that are no archive's.

    `is_folder`: it is an OCI layout or a `dir:` image, which has no suffix.

    Raises:
        InvalidName: it has the form of a set's member, but its name or tag breaks the grammar.
    """
    stem = relative if is_folder else stem_of(relative)
    if stem is None:
        return None
    match = layout_pattern(layout).fullmatch(stem)
    if match and match["os"].lower() in SYSTEMS:
        return _parse_member(relative, match.groupdict())
    name, _, tag = stem.rpartition("/")
    if is_folder and ":" in tag:  # team/app:1.0, as `skopeo sync --dest dir` names it
        last, _, tag = tag.rpartition(":")
        name = f"{name}/{last}" if name else last
    return SingleArchive(name, tag if name else "")


def check_name(relative: str, found: SingleArchive) -> tuple[str, str]:
    """The name and tag that a single archive's path gives.

    Raises:
        InputError: `name.missing`: it lies directly in the drop folder.
        InvalidName: the path breaks the grammar.
    """
    if not found.default_name:
        raise InputError(
            f"{relative}: nothing names this image: save it with a name (`docker save NAME:TAG`), or put it under "
            "<name>/<tag>.tar",
            code="name.missing",
        )
    return _check_names(relative, found.default_name, found.default_tag)


def find_slip(relative: str, layout: str) -> str:
    """How a file should be called that looks like a set's member but is none by the layout; empty: it does not.

    `linux-amd64.tar.gz`, `app_linux_amd64.tar`, `NAME/TAG/arm64.tar`, `linux.amd64.tar` in the wrong folder.
    """
    stem = stem_of(relative)
    folder, _, base = (stem or "").rpartition("/")
    match = _SLIP.fullmatch(base)
    if match is None or (match["os"] is None and "/" not in folder):  # wasm.tar may be an image of that name
        return ""
    name, _, tag = folder.rpartition("/")
    joined = match["arch"].lower()
    architecture, variant = _JOINED.get(joined, (joined, (match["variant"] or "").lower()))
    values = {"name": name or "NAME", "tag": tag or "TAG", "os": (match["os"] or "linux").lower(), "arch": architecture}
    wanted = layout.format(**values, variant=variant)
    has_own_place = "{variant}" in layout or not variant
    return (wanted if has_own_place else f"{wanted}.{variant}") + relative[len(stem or "") :]


@lru_cache(maxsize=64)
def layout_pattern(layout: str) -> re.Pattern[str]:
    """A regular expression over paths without suffix; a variant may follow the architecture."""
    parts = re.split(r"\{(\w+)\}", layout)
    text = "".join(
        _PLACEHOLDERS[part] + _optional_variant(part, parts) if index % 2 else re.escape(part)
        for index, part in enumerate(parts)
    )
    return re.compile(text, re.ASCII | re.DOTALL)


def _optional_variant(placeholder: str, parts: list[str]) -> str:
    if placeholder != "arch" or "variant" in parts:
        return ""
    between = parts[parts.index("arch") - 1]
    separator = re.escape(between if between and "/" not in between else ".")
    return f"(?:{separator}{_PLACEHOLDERS['variant']})?"


def _parse_member(relative: str, found: dict[str, str | None]) -> SetMemberPath:
    name, tag = _check_names(relative, found["name"] or "", found["tag"] or "")
    platform = platform_from_labels(found["os"] or "", found["arch"] or "", found.get("variant") or "")
    return SetMemberPath(name, tag, normalize(platform))


def _check_names(relative: str, name: str, tag: str) -> tuple[str, str]:
    try:
        return parse_name(name), parse_tag(tag)
    except InvalidName as exc:
        raise InvalidName(f"{relative[:300]}: {exc.message}; rename the file or folder") from exc
