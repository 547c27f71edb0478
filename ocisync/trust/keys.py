"""Keys, and signatures over bytes, as `cosign sign-blob --key` and `cosign verify-blob --key` make and check them.

A signature is ECDSA (P-256, P-384, P-521; DER), RSA (PKCS #1 v1.5 or PSS; 2048 bits and more) or Ed25519. What signs
hashes with SHA-256, as cosign does by default; what verifies also takes the hash that belongs to a larger curve, which
newer versions of cosign use. A key alone says nothing about the time of a signature.

    key = load_private_key(pem, password)
    bundle = sign_blob(key, data)                       # JSON, to be stored beside the data
    signer = verify_blob(bundle, data, [load_public_key(pem)])

Spec: sigstore's protobuf-specs, `Bundle` v0.3 with a `messageSignature`; cosign's specs/SIGNATURE_SPEC.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from ocisync.errors import ConfigError, SignatureError
from ocisync.model.text.outside_json import load_json

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
BUNDLES = (BUNDLE, *(f"application/vnd.dev.sigstore.bundle+json;version=0.{minor}" for minor in (1, 2, 3)))  # are read
MAX_BUNDLE = 1024 * 1024  # bytes
UNTRUSTED = "verify.untrusted"  # no key that is trusted made the signature
PAYLOAD = "verify.payload"  # what was signed is something else, or cannot be read

_SMALLEST_RSA = 2048  # bits
_SHA256 = hashes.SHA256()
_CURVES: Mapping[str, tuple[hashes.HashAlgorithm, ...]] = {
    "secp256r1": (_SHA256,),
    "secp384r1": (_SHA256, hashes.SHA384()),
    "secp521r1": (_SHA256, hashes.SHA512()),
}
AnyPublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
AnyPrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are checked with."""

    key: AnyPublicKey
    fingerprint: str  # SHA-256 of its SubjectPublicKeyInfo, hex

    @property
    def hint(self) -> str:
        """How bundles name it. Anybody can write a hint: it helps to find a key, and proves nothing."""
        return base64.b64encode(bytes.fromhex(self.fingerprint)).decode()


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key that signs."""

    key: AnyPrivateKey
    public: PublicKey


def load_public_key(pem: bytes) -> PublicKey:
    """A public key in PEM, as `cosign public-key` and `openssl pkey -pubout` write it.

    Raises:
        ConfigError: it is none, or of a kind or size that is not accepted.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError("not a public key in PEM (-----BEGIN PUBLIC KEY-----)") from exc
    return accept_public_key(key)


def accept_public_key(key: PublicKeyTypes) -> PublicKey:
    """A key of a kind and size that is accepted.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        is_accepted = key.curve.name in _CURVES
    elif isinstance(key, rsa.RSAPublicKey):
        is_accepted = key.key_size >= _SMALLEST_RSA
    else:
        is_accepted = isinstance(key, ed25519.Ed25519PublicKey)
    if not is_accepted or not isinstance(key, AnyPublicKey):
        raise ConfigError(
            "a key is ECDSA (P-256, P-384, P-521), RSA of 2048 bits and more, or Ed25519; this is another kind"
        )
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(key, hashlib.sha256(spki).hexdigest())


def load_private_key(pem: bytes, password: bytes | None = None) -> PrivateKey:
    """A private key in PEM, with its password where it has one: cosign's, PKCS #8, or the older forms of openssl.

    Raises:
        ConfigError: it is none, the password is wrong or missing, or its kind or size is not accepted.
    """
    from ocisync.trust.cosign_key import decrypt_cosign_key, is_cosign_key  # late: most keys are public ones

    try:
        if is_cosign_key(pem):
            key = serialization.load_der_private_key(decrypt_cosign_key(pem, password or b""), None)
        else:
            key = serialization.load_pem_private_key(pem, password)
    except TypeError as exc:  # a password too many, or none where one is needed
        raise ConfigError(f"the private key {'has no' if password else 'needs a'} password") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError("not a private key in PEM, or its password is wrong") from exc
    public = accept_public_key(key.public_key())
    if not isinstance(key, AnyPrivateKey):
        raise ConfigError("this kind of private key cannot sign")
    return PrivateKey(key, public)


def verify(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether the key's owner signed these bytes."""
    public = key.key
    if isinstance(public, ed25519.Ed25519PublicKey):
        return _try(lambda: public.verify(signature, data))
    if isinstance(public, ec.EllipticCurvePublicKey):
        accepted = _CURVES[public.curve.name]
        return any(_try(lambda: public.verify(signature, data, ec.ECDSA(hash_))) for hash_ in accepted)  # noqa: B023
    pss = padding.PSS(padding.MGF1(_SHA256), padding.PSS.AUTO)
    return any(_try(lambda: public.verify(signature, data, pad, _SHA256)) for pad in (padding.PKCS1v15(), pss))  # noqa: B023


def sign(key: PrivateKey, data: bytes) -> bytes:
    """A signature over bytes: the same bytes that `cosign sign-blob` prints in base64."""
    private = key.key
    signature: bytes
    if isinstance(private, ed25519.Ed25519PrivateKey):
        signature = private.sign(data)
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        signature = private.sign(data, ec.ECDSA(_SHA256))
    else:
        signature = private.sign(data, padding.PKCS1v15(), _SHA256)
    return signature


def sign_blob(key: PrivateKey, data: bytes) -> bytes:
    """Sign bytes; a sigstore bundle (JSON) with the signature, and with the key's hint."""
    digest = hashlib.sha256(data).digest()
    bundle = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": key.public.hint}},
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": base64.b64encode(digest).decode()},
            "signature": base64.b64encode(sign(key, data)).decode(),
        },
    }
    return json.dumps(bundle, separators=(",", ":")).encode()


def verify_blob(bundle: bytes, data: bytes, keys: Iterable[PublicKey]) -> PublicKey:
    """The key, of those that are trusted, that signed these bytes.

    `bundle` is a sigstore bundle (`cosign sign-blob --bundle`), or a signature alone in base64.

    Raises:
        SignatureError: `verify.untrusted`: none did; `verify.payload`: the bundle cannot be read, or is about others.
    """
    signature = _read_blob_signature(bundle, data)
    for key in keys:
        if verify(key, signature, data):
            return key
    raise SignatureError("none of the trusted keys made this signature, or what it signs was changed", code=UNTRUSTED)


def decode_base64(text: object) -> bytes:
    """What a text in base64 says; only the one spelling that encoding gives, so that nothing can hide in another.

    Raises:
        SignatureError: it is no base64.
    """
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        raw = b""
    if not raw or base64.b64encode(raw).decode() != text:
        raise SignatureError(f"not base64: {str(text)[:40]!r}", code=PAYLOAD)
    return raw


def _read_blob_signature(bundle: bytes, data: bytes) -> bytes:
    if len(bundle) > MAX_BUNDLE:
        raise SignatureError(f"a bundle of more than {MAX_BUNDLE} bytes", code=PAYLOAD)
    if not bundle.lstrip().startswith(b"{"):
        return decode_base64(bundle.strip().decode("ascii", "replace"))
    try:
        document = load_json(bundle)
    except ValueError as exc:
        raise SignatureError("the bundle is not JSON", code=PAYLOAD) from exc
    message = document.get("messageSignature") if isinstance(document, dict) else None
    kind = document.get("mediaType") if isinstance(document, dict) else None
    if not isinstance(document, dict) or kind not in BUNDLES or not isinstance(message, dict):
        raise SignatureError(f"not a bundle ({BUNDLE}) with the signature of a file", code=PAYLOAD)
    claimed = message.get("messageDigest")
    if claimed is not None:
        is_known = isinstance(claimed, dict) and claimed.get("algorithm") == "SHA2_256"
        if not is_known or decode_base64(claimed.get("digest")) != hashlib.sha256(data).digest():
            raise SignatureError("the bundle is about other bytes, or names them by another hash", code=PAYLOAD)
    return decode_base64(message.get("signature"))


def _try(check: Callable[[], None]) -> bool:
    try:
        check()
    except (InvalidSignature, ValueError):
        return False
    return True
