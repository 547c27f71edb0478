"""The layout of a static registry: keys, headers, and the bytes that are derived from it. Pure.

Spec: distribution-spec v1.1, "API", read as the names of objects that a plain HTTP server can answer with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from ocisync.content.object_store import ObjectHeaders
from ocisync.errors import InvalidName, OcisyncError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, is_digest
from ocisync.model.image_name import is_tag, parse_name, parse_tag_or_digest
from ocisync.model.manifest import media_type_of
from ocisync.model.text.outside_json import load_json

ROOT = "v2/"
ROOT_INDEX = "v2/index.html"
ROOT_KEYS = (ROOT, ROOT_INDEX)  # REST endpoints ask for the key, website endpoints for the index document
ROOT_BODY = b"{}"
PRIVATE = ".ocisync/"  # below it lies nothing that clients may see
CATALOG_KEY = "v2/_catalog"
COLLECTING = ".collecting-"  # below manifests/, no tag and no digest: content is being removed
SCRATCH = "v2/.scratch-"  # keys that are written to try something out, and removed at once

JSON = "application/json"
IMMUTABLE = "public, max-age=31536000, immutable"
NO_CACHE = "no-cache"

OMITTED = "omitted"  # which images of an index were left out on purpose; no client asks for it
MANIFESTS, BLOBS, TAGS, REFERRERS = KINDS = ("manifests", "blobs", "tags", "referrers")
_FIRST_REFUSED = frozenset({"_catalog", "index.html"})


class Key(NamedTuple):
    """What a key names: a repository, one of KINDS, and a tag, a digest or `list`."""

    name: str
    kind: str
    reference: str

    def __str__(self) -> str:
        return f"{ROOT}{self.name}/{self.kind}/{self.reference}"


def check_name(name: str) -> str:
    """Check a repository's name for a static registry.

    Raises:
        InvalidName: it breaks the grammar, or one of its components collides with the layout.
    """
    first, *rest = name.split("/")
    taken = [part for part in (first, *rest) if part in KINDS or (part is first and part in _FIRST_REFUSED)]
    if taken:
        raise InvalidName(
            f"{name[:100]!r} cannot be a repository of a static registry: {taken[0]!r} has a meaning in its layout; "
            "choose another name at the target"
        )
    return parse_name(name)


def repository_prefix(name: str) -> str:
    """Below it lies everything of a repository, and repositories whose names go on."""
    return f"{ROOT}{check_name(name)}/"


def manifest_key(name: str, reference: str) -> str:
    """The key of a manifest by its tag or digest."""
    return f"{repository_prefix(name)}{MANIFESTS}/{parse_tag_or_digest(reference)}"


def blob_key(name: str, digest: Digest) -> str:
    """The key of a blob."""
    return f"{repository_prefix(name)}{BLOBS}/{digest}"


def content_key(name: str, desc: Descriptor) -> str:
    """The key of a manifest or blob by its digest."""
    return manifest_key(name, desc.digest) if desc.is_manifest else blob_key(name, desc.digest)


def tags_key(name: str) -> str:
    """The key of the list of tags."""
    return f"{repository_prefix(name)}{TAGS}/list"


def referrers_key(name: str, digest: Digest) -> str:
    """The key of the list of what refers to a manifest."""
    return f"{repository_prefix(name)}{REFERRERS}/{digest}"


def omitted_key(name: str, index: Digest) -> str:
    """The key of the list of images that an index names and the repository lacks on purpose."""
    return f"{repository_prefix(name)}{OMITTED}/{index}"


def parse_key(key: str) -> Key | None:
    """What a key names, or None when it is no part of a repository."""
    path, _, reference = key.rpartition("/")
    name, _, kind = path.removeprefix(ROOT).rpartition("/")
    if not path.startswith(ROOT) or not _is_reference(kind, reference):
        return None
    try:
        return Key(check_name(name), kind, reference)
    except InvalidName:
        return None


def _is_reference(kind: str, reference: str) -> bool:
    if kind == TAGS:
        return reference == "list"
    return (kind in KINDS and is_digest(reference)) or (kind == MANIFESTS and is_tag(reference))


def content_headers(desc: Descriptor) -> ObjectHeaders:
    """The headers of content under its digest: it never changes."""
    return ObjectHeaders(desc.media_type if desc.is_manifest else media_types.OCTET_STREAM, IMMUTABLE)


def tag_headers(desc: Descriptor) -> ObjectHeaders:
    """The headers of a manifest under a tag."""
    return ObjectHeaders(desc.media_type, NO_CACHE)


JSON_HEADERS = ObjectHeaders(JSON, NO_CACHE)  # roots, the list of tags, the catalog
BLOB_HEADERS = ObjectHeaders(media_types.OCTET_STREAM, IMMUTABLE)
REFERRERS_HEADERS = ObjectHeaders(media_types.OCI_INDEX, NO_CACHE)


def content_type_of(key: str, body: bytes | None = None) -> str:
    """The content type that the layout gives a key; a manifest's is read from its body. Empty: not known."""
    if key in (*ROOT_KEYS, CATALOG_KEY):
        return JSON
    parsed = parse_key(key)
    if parsed is None or parsed.kind != MANIFESTS:
        types = {BLOBS: media_types.OCTET_STREAM, TAGS: JSON, REFERRERS: media_types.OCI_INDEX}
        return types.get(parsed.kind, "") if parsed else ""
    try:
        return media_type_of(body) if body is not None else ""
    except OcisyncError:
        return ""


def tags_list_body(name: str, tags: Iterable[str], *, as_given: bool = False) -> bytes:
    """The bytes of tags/list; `as_given` keeps the order instead of the lexical one.

    Spec: distribution-spec v1.1.1, "Listing Tags": in lexical order.
    """
    listed = list(tags) if as_given else sorted(tags)
    return json.dumps({"name": name, "tags": listed}, separators=(",", ":")).encode()


def tags_in(body: bytes | None) -> set[str] | None:
    """The tags that tags/list names; None when there is none, or a damaged one."""
    return _names_in(body, "tags")


def catalog_body(names: Iterable[str]) -> bytes:
    """The bytes of the list of repositories."""
    return json.dumps({"repositories": sorted(names)}, separators=(",", ":")).encode()


def names_in(body: bytes | None) -> set[str] | None:
    """The repositories that a catalog names; None when there is none, or a damaged one."""
    return _names_in(body, "repositories")


def _names_in(body: bytes | None, member: str) -> set[str] | None:
    try:
        document = load_json(body) if body is not None else None
    except (ValueError, RecursionError):
        return None
    listed = document.get(member) if isinstance(document, dict) else None
    return {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else None
