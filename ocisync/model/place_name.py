"""The source of a rule that is no repository of a registry: a static registry, a bucket, a layout or an archive."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePath

from ocisync.errors import InvalidName
from ocisync.model.digest import Digest, is_digest
from ocisync.model.image_name import ImageName, is_tag, split_tag
from ocisync.model.locator import (
    DockerArchiveLocator,
    LayoutLocator,
    Locator,
    OciArchiveLocator,
    S3Locator,
    StaticLocator,
    TargetLocator,
    parse_locator,
)

FILE_KINDS = (DockerArchiveLocator, LayoutLocator, OciArchiveLocator)  # their images may have names before the tags
PLACES = ("static:", "s3:", "target:", "oci:", "oci-archive:", "docker-archive:")  # how such a source begins


@dataclass(frozen=True, slots=True)
class PlaceName(ImageName):
    """What a rule needs of any source, as of an image's name; the host is the place itself, which no registry is."""

    place: Locator | None = None
    name: str = ""  # of the images that are meant, in an archive or layout; empty: all that have a tag

    def __str__(self) -> str:
        return str(self.place)


def parse_place(text: str, absolute: Callable[[str], str]) -> PlaceName:
    """Read a place as the command line writes it; `absolute` completes paths.

    Raises:
        InvalidName: it breaks its form.
    """
    place = parse_locator(text)
    name = ""
    match place:
        case StaticLocator():
            place, repository = replace(place, directory=absolute(place.directory)), place.repository
            reference = _explicit(text.rpartition("//")[2], place.reference)
        case S3Locator() | TargetLocator():
            repository, reference = place.repository, _explicit(text.partition("?")[0], place.reference)
        case DockerArchiveLocator() | LayoutLocator() | OciArchiveLocator():
            place = replace(place, path=absolute(place.path))
            repository = _repository_of(place.path)
            name, reference = _split_reference(place.reference)
            place = replace(place, reference="")
        case _:
            raise InvalidName(f"{text[:200]!r} cannot be the source of a rule")
    digest = Digest(reference) if is_digest(reference) else None
    return PlaceName(str(place), repository, "" if digest else reference, digest, place, name)


def _explicit(text: str, reference: str) -> str:
    """The tag or digest that was written out; "latest" is only meant where it stands."""
    return reference if is_digest(reference) or split_tag(text)[1] else ""


def _split_reference(reference: str) -> tuple[str, str]:
    """The name and the tag of `NAME:TAG`, `NAME` or `TAG`: what has a slash is a name."""
    if not reference or is_digest(reference):
        return "", reference
    if "/" not in reference and ":" not in reference and is_tag(reference):
        return "", reference
    return split_tag(reference)


def _repository_of(path: str) -> str:
    """A repository's name made of a file's or folder's."""
    stem = PurePath(path).name.lower().removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-") or "image"
