"""What signatures are over: simple signing payloads, DSSE envelopes, in-toto statements, sigstore bundles. Pure.

Everything here comes from strangers. A text that two readers could understand differently (a key that appears twice,
base64 with more than one spelling) is refused rather than interpreted.

Spec: cosign's specs/SIGNATURE_SPEC.md; DSSE's protocol.md; in-toto's Statement v1; sigstore's `Bundle` v0.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ocisync.errors import SignatureError
from ocisync.model.digest import Digest, is_digest
from ocisync.model.text.outside_json import Pairs, load_json
from ocisync.trust.keys import BUNDLE, BUNDLES, PAYLOAD, decode_base64

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"  # the annotation of a layer under a .sig tag
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
MAX_ENTRIES = 8  # of logs that are looked at
_SIGNED_TYPE = "cosign container image signature"
_IN_TOTO = "application/vnd.in-toto+json"
_STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")

Object = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SimpleSigning:
    """What a signature under a `.sig` tag is over."""

    digest: Digest
    repository: str  # as its signer called it, without a tag; empty: it says none


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope: a payload, and one signature over its type and its bytes."""

    payload: bytes
    signature: bytes

    @property
    def signed(self) -> bytes:
        """The bytes that were signed: DSSE's "pre-authentication encoding"."""
        kind = _IN_TOTO.encode()
        return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)


@dataclass(frozen=True, slots=True)
class Statement:
    """Which content something is said of, and what kind of thing is said."""

    subjects: frozenset[Digest]
    predicate: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A sigstore bundle of an image: an envelope, and either a key's hint or a certificate."""

    envelope: Envelope
    is_keyless: bool
    entries: tuple[object, ...] = ()  # of logs, unread


def parse_simple_signing(raw: bytes) -> SimpleSigning:
    """What a payload says.

    Raises:
        SignatureError: `verify.payload`.
    """
    critical = _object(_load(raw), "critical")
    if critical.get("type") != _SIGNED_TYPE:
        raise _damaged(f"its type is not {_SIGNED_TYPE!r}")
    digest = _object(critical, "image").get("docker-manifest-digest")
    if not is_digest(digest):
        raise _damaged("it names no digest")
    identity = critical.get("identity")
    named = identity.get("docker-reference") if isinstance(identity, dict) else ""
    repository = named if isinstance(named, str) else ""
    return SimpleSigning(Digest(str(digest)), _without_tag(repository))


def parse_bundle(raw: bytes) -> Bundle:
    """What a bundle holds.

    Raises:
        SignatureError: `verify.payload`: it is no bundle of a version that is known, or not of an image.
    """
    document = _load(raw)
    if document.get("mediaType") not in BUNDLES:
        raise _damaged(f"it is not a bundle of sigstore ({BUNDLE})")
    material = _object(document, "verificationMaterial")
    is_keyless = "publicKey" not in material
    if is_keyless and not ("certificate" in material or "x509CertificateChain" in material):
        raise _damaged("it has neither a certificate nor the hint of a key")
    envelope = _object(document, "dsseEnvelope")
    if envelope.get("payloadType") != _IN_TOTO:
        raise _damaged(f"what it signs is not {_IN_TOTO}")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise _damaged("an envelope has one signature")
    entries = material.get("tlogEntries")
    signed = Envelope(decode_base64(envelope.get("payload")), decode_base64(signatures[0].get("sig")))
    return Bundle(signed, is_keyless, tuple(entries[:MAX_ENTRIES]) if isinstance(entries, list) else ())


def parse_statement(payload: bytes) -> Statement:
    """What an in-toto statement is about.

    Raises:
        SignatureError: `verify.payload`.
    """
    document = _load(payload)
    if document.get("_type") not in _STATEMENTS:
        raise _damaged("it is not an in-toto statement")
    predicate, listed = document.get("predicateType"), document.get("subject")
    if not isinstance(predicate, str) or not isinstance(listed, list):
        raise _damaged("it names no subject, or no kind of statement")
    return Statement(frozenset(digest for entry in listed for digest in _digests_of(entry)), predicate)


def _digests_of(entry: object) -> Iterator[Digest]:
    named = entry.get("digest") if isinstance(entry, dict) else None
    for algorithm, digits in named.items() if isinstance(named, dict) else ():
        digest = f"{algorithm}:{digits}"
        if is_digest(digest):
            yield Digest(digest)


def _without_tag(reference: str) -> str:
    """A repository's name: older versions of cosign write the tag after it."""
    name = reference.partition("@")[0]
    before, _, last = name.rpartition("/")
    return f"{before}/{last.partition(':')[0]}" if before else last.partition(":")[0]


def _load(raw: bytes) -> Object:
    try:
        document = load_json(raw, make_object=_make_object)
    except ValueError as exc:
        raise _damaged(f"it cannot be read: {str(exc)[:100]}") from exc
    if not isinstance(document, dict):
        raise _damaged("it is not a JSON object")
    return document


def _make_object(pairs: Pairs) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key appears twice")
    return made


def _object(document: Object, key: str) -> Object:
    found = document.get(key)
    if not isinstance(found, dict):
        raise _damaged(f"it has no {key}")
    return found


def _damaged(why: str) -> SignatureError:
    return SignatureError(f"what was signed cannot be used: {why}", code=PAYLOAD)
