"""Digests: the identity of content.

Only sha256 and sha512 are accepted: what cannot be verified is not copied. Upper-case digits are refused, for a digest
becomes a key or a file name, and one content must have one name.

Spec: image-spec v1.1, descriptor.md, "Digests".
"""

from __future__ import annotations

import hashlib
import re
from typing import NewType, Protocol

from ocisync.errors import InvalidName

Digest = NewType("Digest", str)

HEX_LENGTHS = {"sha256": 64, "sha512": 128}
_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?\Z')
_GRAMMAR = re.compile(r"(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z", re.ASCII)


class Hasher(Protocol):
    """What hashlib's objects offer."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> Hasher: ...


def is_digest(text: object) -> bool:
    """Whether text is a digest that ocisync can verify."""
    return isinstance(text, str) and _GRAMMAR.match(text) is not None


def parse_digest(text: object) -> Digest:
    """Check a digest before any path or URL is built from it.

    Raises:
        InvalidName: another algorithm than sha256 or sha512, a wrong length, upper case, or any other character.
    """
    if not isinstance(text, str) or _GRAMMAR.match(text) is None:
        shown = repr(text)[:100]
        raise InvalidName(
            f"{shown} is not a digest: expected sha256: and 64, or sha512: and 128 lower-case hex digits",
            code="digest.invalid",
        )
    return Digest(text)


def algorithm(digest: Digest) -> str:
    """The part before the colon."""
    return digest.partition(":")[0]


def hex_of(digest: Digest) -> str:
    """The part after the colon."""
    return digest.partition(":")[2]


def hasher_for(digest: Digest) -> Hasher:
    """A fresh hash object of the digest's algorithm."""
    return hashlib.new(algorithm(digest))


def sha256(data: bytes) -> Digest:
    """The sha256 digest of small data."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def digest_of(data: bytes, like: Digest) -> Digest:
    """The digest of small data, by the algorithm of another digest."""
    name = algorithm(like)
    return Digest(f"{name}:{hashlib.new(name, data).hexdigest()}")


def md5_of(data: bytes) -> str:
    """The MD5 in hex: what most S3 stores give as the ETag of an object that was sent in one piece."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def md5_in_etag(etag: str) -> str | None:
    """The MD5 that an ETag seems to be; None where it is something else, as that of an object sent in parts.

    It may be none of the content all the same: under KMS an ETag only looks like one.
    """
    found = _MD5_ETAG.match(etag)
    return found[1] if found else None
