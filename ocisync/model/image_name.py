"""Names, tags and references to images.

Spec: distribution-spec v1.1, "Pulling manifests": the grammar of <name> and <reference>; docker's short names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ocisync.errors import InvalidName
from ocisync.model.digest import Digest, parse_digest

MAX_NAME = 255  # characters; registries refuse more
DOCKER_HUB = "docker.io"
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z", re.ASCII)
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?\Z", re.ASCII)


def parse_name(text: str) -> str:
    """Check a repository's name.

    Raises:
        InvalidName: it breaks the specification's grammar or is longer than 255 characters.
    """
    if len(text) > MAX_NAME or not _NAME.match(text):
        raise InvalidName(
            f"{text[:100]!r} is not a repository name: use lower-case letters, digits and single . _ - inside "
            f"components that are separated by /, at most {MAX_NAME} characters"
        )
    return text


def parse_tag(text: str) -> str:
    """Check a tag.

    Raises:
        InvalidName: it breaks the specification's grammar.
    """
    if not _TAG.match(text):
        raise InvalidName(
            f"{text[:140]!r} is not a tag: use letters, digits, . _ -, not . or - first, at most 128 characters"
        )
    return text


def is_tag(text: str) -> bool:
    """Whether text fits the grammar of tags."""
    return _TAG.match(text) is not None


def is_name(text: str) -> bool:
    """Whether text fits the grammar of repositories' names."""
    return len(text) <= MAX_NAME and _NAME.match(text) is not None


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image in a registry: host, repository, and a tag or digest (the digest rules when both are given)."""

    host: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def reference(self) -> str:
        """What to ask the registry for: the digest, else the tag, else "latest"."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag}{digest}"


_CRANE_DIGEST = "i-was-a-digest"  # the tag in archives that crane makes of `NAME@sha256:…`


def parse_image_name(text: str) -> ImageName:
    """Read `host[:port]/name[:tag][@digest]` as docker does: no host means docker.io, and `alpine` is `library/alpine`.

    Raises:
        InvalidName: the host, name, tag or digest breaks its grammar.
    """
    rest, at, digest_text = text.partition("@")
    digest = parse_digest(digest_text) if at else None
    first, slash, remainder = rest.partition("/")
    has_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, remainder) if has_host else (DOCKER_HUB, rest)
    repository, tag = split_tag(path)
    host = parse_host(host)
    if host == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return ImageName(host, parse_name(repository), tag, digest)


def parse_host(text: str) -> str:
    """Check a registry's `host[:port]`; Docker Hub's old names become docker.io.

    Raises:
        InvalidName: not a host name or address with an optional port.
    """
    if not _HOST.match(text):
        raise InvalidName(f"{text[:100]!r} is not a registry's host: expected host or host:port, without a scheme")
    return DOCKER_HUB if text in ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com") else text


def split_tag(text: str) -> tuple[str, str]:
    """Split `name[:tag]`; the tag is checked and may be empty.

    Raises:
        InvalidName: what follows the colon is not a tag.
    """
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        return text, ""
    return name, parse_tag(tag)


def parse_tag_or_digest(text: str) -> str:
    """Check what follows `manifests/` in a URL.

    Raises:
        InvalidName: neither a tag nor a digest.
    """
    return parse_digest(text) if ":" in text else parse_tag(text)


def names_digest_only(image: ImageName) -> bool:
    """Whether a name has no tag to publish it under: `ctr` writes `app@sha256:…`, crane a tag that says so."""
    return image.tag == _CRANE_DIGEST or (image.digest is not None and not image.tag)


def find_own_repository(text: str) -> str:
    """The repository that a name means, without its host; a short name stays short: `app:1` is `app`.

    docker means `docker.io/library/app` by it, but whoever saved an image as `app:1` publishes `app`.

    Raises:
        InvalidName: it is no image's name.
    """
    image = parse_image_name(text)
    name = split_tag(text.partition("@")[0])[0].removeprefix(f"{image.host}/")
    return name if image.repository == f"library/{name}" else image.repository
