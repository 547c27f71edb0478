"""Policies: who may have signed an image, and what of a signature must fit. No I/O; what is slow is the arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ocisync.errors import SignatureError
from ocisync.model.digest import Digest
from ocisync.trust.keys import PAYLOAD, UNTRUSTED, PublicKey, decode_base64, verify
from ocisync.trust.log_entries import ENTRY, RecordKind, find_log_time, parse_annotation, parse_bundled
from ocisync.trust.statements import (
    SIGN_PREDICATE,
    SIGNATURE,
    Bundle,
    SimpleSigning,
    parse_bundle,
    parse_simple_signing,
    parse_statement,
)

if TYPE_CHECKING:  # only policies with identities need certificates
    from ocisync.trust.keyless import TrustedRoot

_DOCKER_HOSTS = ("index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who may sign without a key: whoever a provider of identities knew by such a name."""

    issuer: str  # the provider's URL
    name: str  # an expression that must match all of it: an address, or the URL of a workflow


@dataclass(frozen=True, slots=True)
class Policy:
    """Keys and identities, of which one must have signed."""

    name: str
    keys: tuple[PublicKey, ...] = ()
    identities: tuple[Identity, ...] = ()
    root: TrustedRoot | None = None  # whom to believe about identities and times; None: keys only, without times
    signed_as: tuple[str, ...] = ()  # expressions for repositories that payloads may name; empty: the source's own
    predicates: tuple[str, ...] = ()  # statements that count besides cosign's signatures


@dataclass(frozen=True, slots=True)
class Subject:
    """What a signature must be about."""

    digest: Digest
    repository: str  # its name as at the source, with the host; empty: it is in no registry


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed, as far as that was proven."""

    name: str
    signed_at: float | None = None  # seconds since the epoch, as a log or a time stamp says; None: nobody does


@dataclass(frozen=True, slots=True)
class TagSignature:
    """A signature under a `.sig` tag: a layer's bytes, and its annotations."""

    payload: bytes
    annotations: dict[str, str] = field(default_factory=dict)

    def check(self, policy: Policy, subject: Subject) -> Signer:
        """Who signed it; raises SignatureError where that is nobody whom the policy trusts."""
        signature = decode_base64(self.annotations.get(SIGNATURE))
        if key := _find_key(policy, signature, self.payload):
            entry = self.annotations.get(ENTRY)
            reads = [partial(parse_annotation, entry)] if entry else []
            time = find_log_time(policy.root, RecordKind.HASHED, reads, self.payload, signature, key)
            signer = _name_key(key, time)
        elif policy.root is not None and policy.identities:
            from ocisync.trust.tag_certificates import check_tag_certificate

            signer = check_tag_certificate(policy.root, policy.identities, self.payload, signature, self.annotations)
        else:
            raise SignatureError("none of the trusted keys made this signature", code=UNTRUSTED)
        _check_payload(policy, subject, parse_simple_signing(self.payload))
        return signer


@dataclass(frozen=True, slots=True)
class BundledSignature:
    """A signature in a bundle that refers to the image."""

    raw: bytes

    def check(self, policy: Policy, subject: Subject) -> Signer:
        """Who signed it; raises SignatureError where that is nobody whom the policy trusts."""
        bundle = parse_bundle(self.raw)
        if bundle.is_keyless:
            signer = self._check_identity(policy, bundle.envelope.payload)
        else:
            signed = bundle.envelope
            key = _find_key(policy, signed.signature, signed.signed)
            if key is None:
                raise SignatureError("none of the trusted keys made this signature", code=UNTRUSTED)
            reads = [partial(parse_bundled, entry) for entry in bundle.entries]
            time = find_log_time(policy.root, RecordKind.DSSE, reads, signed.payload, signed.signature, key)
            signer = _name_key(key, time)
        _check_statement(policy, subject, bundle)
        return signer

    def _check_identity(self, policy: Policy, payload: bytes) -> Signer:
        if policy.root is None or not policy.identities:
            raise SignatureError("it was signed without a key, and the policy trusts keys only", code=UNTRUSTED)
        from ocisync.trust.bundle_certificates import check_bundle_certificate

        return check_bundle_certificate(policy.root, policy.identities, self.raw, payload)


Signature = TagSignature | BundledSignature


def _find_key(policy: Policy, signature: bytes, signed: bytes) -> PublicKey | None:
    """The key that signed. Each is tried: a hint that names one proves nothing."""
    return next((key for key in policy.keys if verify(key, signature, signed)), None)


def _name_key(key: PublicKey, time: float | None) -> Signer:
    return Signer(f"key {key.fingerprint[:16]}", time)


def _check_payload(policy: Policy, subject: Subject, payload: SimpleSigning) -> None:
    if payload.digest != subject.digest:
        raise SignatureError(f"it is a signature of {payload.digest}", code=PAYLOAD)
    named = normalise_repository(payload.repository)
    if policy.signed_as:
        is_right = any(re.fullmatch(pattern, named) for pattern in policy.signed_as)
    else:
        is_right = not subject.repository or named == normalise_repository(subject.repository)
    if not is_right:
        raise SignatureError(
            f"it was signed as {payload.repository[:200] or 'nothing'}, which is another repository: if that is right, "
            "name it in the policy's `signed_as`",
            code=PAYLOAD,
        )


def _check_statement(policy: Policy, subject: Subject, bundle: Bundle) -> None:
    statement = parse_statement(bundle.envelope.payload)
    if statement.predicate != SIGN_PREDICATE and statement.predicate not in policy.predicates:
        raise SignatureError(
            f"it is not a signature of an image, but a statement ({statement.predicate[:100]}): to take such ones too, "
            "name it in the policy's `predicates`",
            code=PAYLOAD,
        )
    if subject.digest not in statement.subjects:
        raise SignatureError("it is about another image", code=PAYLOAD)


def normalise_repository(name: str) -> str:
    """A repository's whole name; docker's short names, and its hosts' other names, become those of docker.io."""
    host, slash, path = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, path = "docker.io", name
    if host in _DOCKER_HOSTS:
        host = "docker.io"
    if host == "docker.io" and path and "/" not in path:
        path = f"library/{path}"
    return f"{host}/{path}" if name else ""
