"""Signatures for tests, made from the specifications with `cryptography`; none of this uses ocisync's own code.

`KeySigner` signs as `cosign sign --key` does, `Sigstore` is a sigstore of one's own: an authority that issues
certificates for identities, a log that takes note of these, and a log that takes note of signatures.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IN_TOTO = "application/vnd.in-toto+json"
SIGN = "https://sigstore.dev/cosign/sign/v1"
ISSUER = "https://token.actions.githubusercontent.com"
IDENTITY = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
SIGNED_AT = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
LIFETIME = timedelta(minutes=10)
_SCT = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_ISSUER_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_OLD_ISSUER_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Json = dict[str, Any]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def spki(key: Private) -> bytes:
    raw: bytes = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return raw


def public_pem(key: Private) -> str:
    raw: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return raw.decode()


def sign(key: Private, data: bytes) -> bytes:
    signature: bytes
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(data)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(data, ec.ECDSA(hashes.SHA256()))
    else:
        signature = key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return signature


def simple_signing(digest: str, repository: str) -> bytes:
    """The payload of a signature under a .sig tag."""
    image = {"docker-manifest-digest": digest}
    critical = {"identity": {"docker-reference": repository}, "image": image}
    return json.dumps(
        {"critical": {**critical, "type": "cosign container image signature"}, "optional": None}, separators=(",", ":")
    ).encode()


def statement(digest: str, predicate: str = SIGN) -> bytes:
    """What a bundle of an image says."""
    algorithm, _, digits = digest.partition(":")
    subject = [{"name": "", "digest": {algorithm: digits}}]
    return json.dumps(
        {"_type": "https://in-toto.io/Statement/v1", "subject": subject, "predicateType": predicate, "predicate": {}}
    ).encode()


def pae(payload: bytes, kind: str = IN_TOTO) -> bytes:
    """What a DSSE signature is over."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def envelope(payload: bytes, *signatures: bytes) -> Json:
    return {"payload": b64(payload), "payloadType": IN_TOTO, "signatures": [{"sig": b64(one)} for one in signatures]}


@dataclass
class KeySigner:
    """Signs with a key."""

    key: Private = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def pem(self) -> str:
        return public_pem(self.key)

    @property
    def material(self) -> Json:
        """How a bundle names the key."""
        return {"publicKey": {"hint": b64(hashlib.sha256(spki(self.key)).digest())}}

    def layer(self, digest: str, repository: str, payload: bytes | None = None) -> tuple[bytes, dict[str, str]]:
        """A layer of a .sig tag: its bytes and annotations."""
        payload = payload or simple_signing(digest, repository)
        return payload, {"dev.cosignproject.cosign/signature": b64(sign(self.key, payload))}

    def bundle(self, digest: str, predicate: str = SIGN) -> Json:
        """A bundle of an image."""
        payload = statement(digest, predicate)
        return {
            "mediaType": BUNDLE,
            "verificationMaterial": {**self.material, "tlogEntries": []},
            "dsseEnvelope": envelope(payload, sign(self.key, pae(payload))),
        }


@dataclass
class Certificate:
    """A certificate for an identity, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        raw: bytes = self.certificate.public_bytes(serialization.Encoding.PEM)
        return raw.decode()

    @property
    def material(self) -> Json:
        """What a bundle has of it."""
        return {"certificate": {"rawBytes": b64(self.der)}}

    @property
    def der(self) -> bytes:
        raw: bytes = self.certificate.public_bytes(serialization.Encoding.DER)
        return raw


@dataclass
class Sigstore:
    """An authority, its logs, and their trusted root."""

    root_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    issuer_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    ct_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    log_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    root: x509.Certificate = field(init=False)
    issuer: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        self.root = _authority("root", self.root_key, "root", self.root_key)
        self.issuer = _authority("issuer", self.issuer_key, "root", self.root_key)

    def trusted_root(self, **ends: str) -> bytes:
        """As trusted_root.json; until when `authority`, `ct` and `log` were trusted."""
        chain = [{"rawBytes": b64(one.public_bytes(serialization.Encoding.DER))} for one in (self.issuer, self.root)]
        since = {"start": "2021-01-01T00:00:00Z"}
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [_log("https://rekor.test", self.log_key, ends.get("log"))],
                "certificateAuthorities": [
                    {
                        "subject": {"organization": "test", "commonName": "root"},
                        "uri": "https://fulcio.test",
                        "certChain": {"certificates": chain},
                        "validFor": since | ({"end": ends["authority"]} if "authority" in ends else {}),
                    }
                ],
                "ctlogs": [_log("https://ct.test", self.ct_key, ends.get("ct"))],
                "timestampAuthorities": [],
            }
        ).encode()

    def certificate(
        self,
        identity: str = IDENTITY,
        issuer: str = ISSUER,
        *,
        at: datetime = SIGNED_AT,
        with_sct: bool = True,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
        may_sign: bool = True,
        old_issuer: str = "",
    ) -> Certificate:
        """A certificate for an identity, valid for minutes; `old_issuer`: what its older extension says besides."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.RFC822Name(identity) if "://" not in identity else x509.UniformResourceIdentifier(identity)
        usage = x509.KeyUsage(may_sign, not may_sign, False, False, False, False, False, False, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(_name("issuer"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - timedelta(minutes=1))
            .not_valid_after(at + LIFETIME)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuer_key.public_key()), critical=False
            )
            .add_extension(x509.UnrecognizedExtension(_ISSUER_OID, _der(0x0C, issuer.encode())), critical=False)
        )
        if old_issuer:
            builder = builder.add_extension(
                x509.UnrecognizedExtension(_OLD_ISSUER_OID, old_issuer.encode()), critical=False
            )
        made = builder.sign(self.issuer_key, hashes.SHA384())
        if with_sct:
            stamp = self._sct(made.tbs_certificate_bytes, at)
            made = builder.add_extension(
                x509.UnrecognizedExtension(_SCT, _der(0x04, len(stamp).to_bytes(2) + stamp)), critical=False
            ).sign(self.issuer_key, hashes.SHA384())
        return Certificate(made, key)

    def _sct(self, body: bytes, at: datetime) -> bytes:
        stamp = int(at.timestamp() * 1000).to_bytes(8)
        entry = b"\x00\x01" + hashlib.sha256(spki(self.issuer_key)).digest() + len(body).to_bytes(3) + body
        signature = sign(self.ct_key, b"\x00\x00" + stamp + entry + b"\x00\x00")
        sct = b"\x00" + hashlib.sha256(spki(self.ct_key)).digest() + stamp + b"\x00\x00"
        sct += b"\x04\x03" + len(signature).to_bytes(2) + signature
        return len(sct).to_bytes(2) + sct

    def set(self, body: bytes, at: datetime) -> tuple[Json, bytes]:
        """An entry of the log, and the log's promise to keep it."""
        entry: Json = {
            "body": b64(body),
            "integratedTime": int(at.timestamp()),
            "logID": hashlib.sha256(spki(self.log_key)).hexdigest(),
            "logIndex": 0,
        }
        return entry, sign(self.log_key, json.dumps(entry, sort_keys=True, separators=(",", ":")).encode())

    def layer(
        self,
        digest: str,
        repository: str,
        signer: Certificate | KeySigner | None = None,
        *,
        at: datetime = SIGNED_AT,
        payload: bytes | None = None,
    ) -> tuple[bytes, dict[str, str]]:
        """A layer of a .sig tag that was signed without a key, or with a key and recorded in the log."""
        signer = signer or self.certificate()
        payload = payload or simple_signing(digest, repository)
        signature = sign(signer.key, payload)
        record = {
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}},
                "signature": {"content": b64(signature), "publicKey": {"content": b64(signer.pem.encode())}},
            },
        }
        entry, promise = self.set(json.dumps(record).encode(), at)
        identity = {"dev.sigstore.cosign/certificate": signer.pem, "dev.sigstore.cosign/chain": ""}
        return payload, {
            "dev.cosignproject.cosign/signature": b64(signature),
            **(identity if isinstance(signer, Certificate) else {}),
            "dev.sigstore.cosign/bundle": json.dumps({"SignedEntryTimestamp": b64(promise), "Payload": entry}),
        }

    def bundle(
        self,
        digest: str,
        signer: Certificate | KeySigner | None = None,
        *,
        at: datetime = SIGNED_AT,
        predicate: str = SIGN,
    ) -> Json:
        """A bundle that was signed without a key, or with a key and recorded in the log."""
        signer = signer or self.certificate()
        payload = statement(digest, predicate)
        signature = sign(signer.key, pae(payload))
        signed = envelope(payload, signature)
        record = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {
                    "algorithm": "sha256",
                    "value": hashlib.sha256(json.dumps(signed).encode()).hexdigest(),
                },
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": b64(signature), "verifier": b64(signer.pem.encode())}],
            },
        }
        body = json.dumps(record, separators=(",", ":")).encode()
        entry, promise = self.set(body, at)
        leaf = hashlib.sha256(b"\x00" + body).digest()
        note = f"rekor.test\n1\n{b64(leaf)}\n"
        log_id = hashlib.sha256(spki(self.log_key)).digest()
        checkpoint = f"{note}\n— rekor.test {b64(log_id[:4] + sign(self.log_key, note.encode()))}\n"
        proof = {
            "logIndex": "0",
            "rootHash": b64(leaf),
            "treeSize": "1",
            "hashes": [],
            "checkpoint": {"envelope": checkpoint},
        }
        return {
            "mediaType": BUNDLE,
            "verificationMaterial": {
                **signer.material,
                "tlogEntries": [
                    {
                        "logIndex": "0",
                        "logId": {"keyId": b64(log_id)},
                        "kindVersion": {"kind": "dsse", "version": "0.0.1"},
                        "integratedTime": str(entry["integratedTime"]),
                        "inclusionPromise": {"signedEntryTimestamp": b64(promise)},
                        "inclusionProof": proof,
                        "canonicalizedBody": b64(body),
                    }
                ],
            },
            "dsseEnvelope": signed,
        }

    def but(self, name: str, key: ec.EllipticCurvePrivateKey) -> Sigstore:
        """The same, but for one of its keys."""
        changes: Json = {name: key}
        return replace(self, **changes)


def _log(url: str, key: ec.EllipticCurvePrivateKey, end: str | None) -> Json:
    until = {"end": end} if end else {}
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": b64(spki(key)),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": {"start": "2021-01-01T00:00:00Z", **until},
        },
        "logId": {"keyId": b64(hashlib.sha256(spki(key)).digest())},
    }


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _authority(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2021, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA384())
    )


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else b"\x81" + bytes([size]) if size < 0x100 else b"\x82" + size.to_bytes(2)
    return bytes([tag]) + length + content
