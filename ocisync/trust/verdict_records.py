"""Verdicts as the ledger keeps them: JSON, under the image's digest and what the verdict depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic_core import from_json

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
    return json.dumps(
        {
            "valid": verdict.is_valid,
            "code": verdict.code,
            "reason": verdict.reason,
            "policy": verdict.policy,
            "signer": verdict.signer,
            "at": verdict.signed_at,
            "signatures": {digest: _format_set(found) for digest, found in verdict.signatures.items()},
            "seen": stored.seen,
        }
    )


def parse_verdict(text: str) -> StoredVerdict | None:
    """A verdict from text that `format_verdict` wrote; None for any other, so that the image is checked again."""
    try:
        said = from_json(text)  # of the libraries that are loaded anyway, the one that is quick with short texts
        signatures = {parse_digest(digest): _parse_set(found) for digest, found in said["signatures"].items()}
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
