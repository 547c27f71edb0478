"""What images are called at their source, and where they go under these names."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

from ocisync.errors import InvalidName
from ocisync.model.digest import is_digest
from ocisync.model.image_name import find_own_repository, is_tag, names_digest_only, parse_image_name
from ocisync.model.locator import (
    SCHEMES,
    ArchiveLocator,
    DockerArchiveLocator,
    ImageFolderLocator,
    LayoutLocator,
    Locator,
    OciArchiveLocator,
    RegistryLocator,
    S3Locator,
    StaticLocator,
    TargetLocator,
    ViewLocator,
    is_path,
    locate_in,
    parse_locator,
)

STANDARD = "-"  # standard input
FILES = (ArchiveLocator, DockerArchiveLocator, ImageFolderLocator, LayoutLocator, OciArchiveLocator)
_BARE = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst")  # names of archives that need no transport before them
KEEPS_NAMES = (DockerArchiveLocator, LayoutLocator, OciArchiveLocator)  # places whose images have full names


def parse_source(text: str) -> Locator:
    """A locator, or a plain path of an archive or a layout with an optional reference: `FILE[:TAG]`.

    Raises:
        InvalidName: neither.
    """
    try:
        return parse_locator(text)
    except InvalidName as exc:
        found = _plain_file(text)
        if found is None and is_path(text):
            kinds = f"docker-archive:{text[:200]} or oci-archive:{text[:200]}, for a layout oci:{text[:200]}"
            raise InvalidName(f"{text[:200]}: there is no such file. To name its kind, write {kinds}") from exc
        if found is None and text.partition(":")[0] not in SCHEMES:
            raise InvalidName(f"no such file, and {exc.message}") from exc
        if found is None:
            raise
        return found


def complete_destination(text: str) -> str:
    """A destination with its transport: the name of an archive without one, such as `app.tar.gz`, is an oci-archive."""
    return f"oci-archive:{text}" if text.partition(":")[0].endswith(_BARE) else text


def _plain_file(text: str) -> ArchiveLocator | LayoutLocator | None:
    """The longest path in the text that exists, for a colon may be part of it; what follows is the reference."""
    if text == STANDARD or text.startswith(f"{STANDARD}:"):
        return ArchiveLocator(STANDARD, text[2:])
    before, at, digest = text.rpartition("@")
    if at and is_digest(digest) and _mode(before) is not None:
        return LayoutLocator(before, digest) if Path(before).is_dir() else ArchiveLocator(before, digest)
    path, reference = text, ""
    while path:
        mode = _mode(path)
        if mode is not None:
            return LayoutLocator(path, reference) if stat.S_ISDIR(mode) else ArchiveLocator(path, reference)
        path, _, last = path.rpartition(":")
        reference = f"{last}:{reference}" if reference else last
    return None


def _mode(path: str) -> int | None:
    """None when nothing is there; 0 where that may not be known, which opening it will say."""
    try:
        return Path(path).stat().st_mode
    except PermissionError:
        return 0
    except (OSError, ValueError):
        return None


def own_name(source: Locator, reference: str) -> str:
    """The full name of an image at its source; empty when that gives it none."""
    match source:
        case ViewLocator(of=inner):
            return own_name(inner, reference)
        case RegistryLocator(image) if not is_digest(reference):
            return f"{image.host}/{image.repository}:{reference}"
        case StaticLocator() | S3Locator() | TargetLocator() if not is_digest(reference):
            return f"{source.repository}:{reference}"
        case _ if isinstance(source, FILES) and not is_digest(reference) and not reference.startswith("@"):
            return reference
    return ""


def places_below(root: str, names: dict[str, str]) -> dict[Locator, dict[str, str]]:
    """Repository below a root -> tag -> the source's reference; a name that is only a tag means the root itself."""
    found: dict[Locator, dict[str, str]] = {}
    for name, reference in names.items():
        if is_tag(name):
            place, tag = parse_locator(root), name
        else:
            image = parse_image_name(name)
            if names_digest_only(image):
                raise InvalidName(f"{name[:200]!r} names a digest only, and an image is published under a tag")
            tag = image.tag or "latest"
            place = _below(root, find_own_repository(name), tag)
        found.setdefault(with_tag(place, "latest"), {})[tag] = reference  # so equal repositories are one job
    return found


def _below(root: str, name: str, tag: str) -> Locator:
    scheme, _, rest = root.partition(":")
    if scheme in ("static", "target") and ("//" in rest or scheme == "target"):
        return parse_locator(f"{root.rstrip('/')}/{name}:{tag}")
    return locate_in(root, name, tag)


def with_tag(place: Locator, tag: str) -> Locator:
    """The same repository with another tag; an archive or a layout stays as it is."""
    match place:
        case RegistryLocator(image):
            return RegistryLocator(replace(image, tag=tag, digest=None))
        case StaticLocator() | S3Locator() | TargetLocator():
            return replace(place, reference=tag)
    return place
