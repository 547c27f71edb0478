"""Tags that are named for a digest: lists of referrers, and what cosign says about an image. The one rule for them.

Two conventions put a digest into a tag, both with a dash where the digest has its colon:

- `sha256-<hex>`: the list of referrers that clients keep where a registry has no API for it. The specification cuts
  the hex digits at 64, so a sha512 digest gives `sha512-` and 64 digits (the whole would be too long for a tag).
- `sha256-<hex>.<suffix>`: cosign's signature (`.sig`), attestation (`.att`) and SBOM (`.sbom`). Other tools add
  suffixes of their own, so every suffix counts: such a tag is never an image that somebody chose a name for.

Whoever selects, keeps, prunes, converts or copies tags asks here: see docs/adr/0023-tags-named-for-a-digest.md.

Spec: distribution-spec v1.1.1, "Referrers Tag Schema"; cosign's specs/SIGNATURE_SPEC.md.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ocisync.model.digest import Digest, algorithm, hex_of

COSIGN_SUFFIXES = {".sig": "cosign signature", ".att": "cosign attestation", ".sbom": "cosign list of parts"}
_HEX_IN_TAG = 64  # digits of a digest that a tag has
_DIGEST_TAG = re.compile(r"(?P<stem>sha(?:256|512)-[0-9a-f]{64})(?P<suffix>\.[A-Za-z0-9._-]+)?\Z", re.ASCII)


class DigestTag(NamedTuple):
    """The two parts of a tag that is named for a digest."""

    stem: str  # the algorithm and the digits: `fallback_tag` of the digest
    suffix: str  # with its dot; empty: the list of referrers


def parse_digest_tag(tag: str) -> DigestTag | None:
    """Split a tag that is named for a digest; None for every other tag."""
    found = _DIGEST_TAG.match(tag)
    return DigestTag(found["stem"], found["suffix"] or "") if found else None


def is_digest_tag(tag: str) -> bool:
    """Whether a tag is named for a digest, with or without a suffix."""
    return _DIGEST_TAG.match(tag) is not None


def is_list_tag(tag: str) -> bool:
    """Whether a tag is that of a list of referrers: named for a digest, without a suffix."""
    found = parse_digest_tag(tag)
    return found is not None and not found.suffix


def fallback_tag(subject: Digest) -> str:
    """The tag of a digest's list of referrers.

    Spec: distribution-spec v1.1.1, "Referrers Tag Schema".
    """
    return f"{algorithm(subject)}-{hex_of(subject)[:_HEX_IN_TAG]}"


def cosign_tags(subject: Digest) -> dict[str, str]:
    """The tags under which cosign keeps what it says about a digest, and what each of them holds."""
    return {fallback_tag(subject) + suffix: kind for suffix, kind in COSIGN_SUFFIXES.items()}
