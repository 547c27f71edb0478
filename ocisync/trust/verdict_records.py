"""Verdicts as the ledger keeps them, under the image's digest and what the verdict depends on.

A record has three lines: the fingerprint of the signatures that convinced, what is said of them, and their descriptors;
the latter two are JSON. Of an image that is at the target with these signatures already nobody needs the descriptors,
and what is said is mostly the same for all images of a repository: then little of a record is parsed. Earlier
versions wrote one JSON object instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json  # of the libraries that are loaded anyway, quick with short texts

from ocisync.errors import OcisyncError
from ocisync.model.descriptor import Descriptor, descriptor_from_json, descriptor_to_json
from ocisync.model.digest import parse_digest
from ocisync.sync.judging.acceptance import SignatureVerdict
from ocisync.sync.referrers.referrer_set import ReferrerSet

_RULES = 1  # of checking: another number when they get stricter, so that no old verdict counts


class StoredVerdict(NamedTuple):
    """A verdict; of a refusal also a fingerprint of what was looked at. Empty: it is always looked at again."""

    verdict: SignatureVerdict
    seen: str = ""


def policies_kind(policies: Mapping[str, str], repository: str, demands: Sequence[bool]) -> str:
    """The kind of fact under which the ledger keeps verdicts: another one when anything changes that they depend on.

    `policies`: fingerprints by name; `demands`: what else the rule wants of signatures.
    """
    said = [_RULES, list(policies.items()), repository, demands]
    return "signatures " + hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def format_verdict(stored: StoredVerdict) -> str:
    """A verdict as text."""
    verdict = stored.verdict
    said = {
        "valid": verdict.is_valid,
        "code": verdict.code,
        "reason": verdict.reason,
        "policy": verdict.policy,
        "signer": verdict.signer,
        "at": verdict.signed_at,
        "seen": stored.seen,
    }
    signatures = {digest: _format_set(found) for digest, found in verdict.signatures.items()}
    return "\n".join((verdict.fingerprint, json.dumps(said), json.dumps(signatures)))


def parse_verdict(text: str) -> StoredVerdict | None:
    """A verdict from text that `format_verdict` wrote; None for any other, so that the image is checked again."""
    if is_old(text):
        return _parse_old(text)
    try:
        _, said, signatures = text.split("\n")
        return _parse(from_json(said), from_json(signatures))
    except ValueError:
        return None


def is_old(text: str) -> bool:
    """Whether an earlier version wrote a record, so that it can only be parsed as a whole."""
    return "\n" not in text


def find_said(text: str, fingerprint: str) -> str:
    """What a record says of the signatures, as text, where just those with this fingerprint convinced; else nothing."""
    line = fingerprint + "\n"
    if not text.startswith(line):
        return ""
    end = text.find("\n", len(line))
    return text[len(line) : end] if end > 0 else ""


def parse_said(text: str) -> SignatureVerdict | None:
    """The verdict of which a record says this, without its signatures; None where that is no acceptance."""
    try:
        stored = _parse(from_json(text), {})
    except ValueError:
        return None
    return stored.verdict if stored is not None and stored.verdict.is_valid else None


def _parse_old(text: str) -> StoredVerdict | None:
    try:
        said = from_json(text)
        return _parse(said, said["signatures"])
    except (ValueError, KeyError, TypeError):
        return None


def _parse(said: Mapping[str, Any], carried: Mapping[str, Any]) -> StoredVerdict | None:
    """A verdict from two objects of a record; None where they are others."""
    try:
        signatures = {parse_digest(digest): _parse_set(found) for digest, found in carried.items()}
        verdict = SignatureVerdict(
            said["valid"] is True, said["code"], said["reason"], said["policy"], said["signer"], said["at"], signatures
        )
        return StoredVerdict(verdict, said["seen"])
    except (ValueError, KeyError, TypeError, AttributeError, OcisyncError):
        return None


def _format_set(found: ReferrerSet) -> Mapping[str, object]:
    return {
        "referrers": [descriptor_to_json(desc) for desc in found.referrers],
        "tags": {name: descriptor_to_json(desc) for name, desc in found.tags.items()},
    }


def _parse_set(said: Mapping[str, Mapping[str, object]]) -> ReferrerSet:
    referrers: tuple[Descriptor, ...] = tuple(descriptor_from_json(one) for one in said["referrers"])
    return ReferrerSet(referrers, {name: descriptor_from_json(one) for name, one in said["tags"].items()})
