"""What a static registry holds, as values: one object with its kind, and what killed writers left behind."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ObjectKind(enum.Enum):
    """What an object of a repository is."""

    TAG = "tag"
    MANIFEST = "manifest"
    BLOB = "blob"
    REFERRERS = "referrers"
    TAGS_LIST = "tags list"
    REGISTRY = "registry"  # an object that belongs to no repository
    OMITTED = "omissions"  # of an index: `model.missing_images`


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object of a repository."""

    kind: ObjectKind
    reference: str  # a tag or a digest
    size: int  # bytes
    etag: str = ""
    modified: float = 0.0  # seconds since the epoch, by the store's clock
    content_type: str = ""  # known from a look, not from a listing


@dataclass(frozen=True, slots=True)
class Abandoned:
    """What writers left that were killed."""

    uploads: int = 0  # in parts, never ended
    scratch: int = 0  # objects that were to be removed at once
