"""Signatures without keys: whom to believe about identities, and what a certificate of Fulcio says.

A trusted root (sigstore's `trusted_root.json`) names the authorities that issue certificates, the logs that record
them, and the logs that record signatures. A certificate lives for minutes; a log's word for the time of the signature
shows that it was valid then.

Spec: sigstore's protobuf-specs, `TrustedRoot`; fulcio's docs/oid-info.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from ocisync.errors import ConfigError, Handling, OcisyncError, SignatureError
from ocisync.model.text.outside_json import load_json
from ocisync.trust.keys import UNTRUSTED, PublicKey, accept_public_key
from ocisync.trust.policies import Identity

ROOT = "verify.root"  # the code: sigstore's public root cannot be had
EXPIRED = "verify.expired"  # the certificate was not valid when the signature was made
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_ISSUER_PLAIN = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")  # older certificates: not encoded
_NAME_OF_OTHERS = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")
_UTF8 = 0x0C  # the tag of DER's UTF8String
_SHORT = 0x80  # lengths below it take one byte


@dataclass(frozen=True, slots=True)
class Period:
    """When something may be believed; seconds since the epoch."""

    start: float
    end: float

    def __contains__(self, time: float) -> bool:
        return self.start <= time <= self.end


@dataclass(frozen=True, slots=True)
class Authority:
    """Who issues certificates: intermediate authorities, and the root at the end."""

    chain: tuple[x509.Certificate, ...]
    valid: Period


@dataclass(frozen=True, slots=True)
class Log:
    """A log's key."""

    key: PublicKey
    valid: Period


@dataclass(frozen=True)
class TrustedRoot:
    """Whom to believe about identities."""

    raw: bytes
    authorities: tuple[Authority, ...]
    certificate_logs: Mapping[bytes, Log]  # by the SHA-256 of their keys, or what identifies them otherwise
    signature_logs: Mapping[bytes, Log]

    def find_log(self, log_id: bytes, time: float) -> Log:
        """A log of signatures that may be believed about a time; raises SignatureError."""
        log = self.signature_logs.get(log_id)
        if log is None or time not in log.valid:
            raise SignatureError("the log of signatures is not trusted, or was not at that time", code=UNTRUSTED)
        return log


def read_public_root() -> bytes:
    """Sigstore's public root, which is brought up to date by TUF.

    Raises:
        ConfigError: it cannot be had.
    """
    try:
        from sigstore.models import ClientTrustConfig
    except ImportError as exc:
        raise ConfigError("give `trusted_root`, or install 'ocisync[sigstore]', which keeps the public one") from exc
    try:
        text: str = ClientTrustConfig.production().trusted_root._inner.to_json()
        return text.encode()
    except Exception as exc:
        raise ConfigError(
            f"sigstore's trusted root cannot be brought up to date: {type(exc).__name__}: {str(exc)[:200]}; a file "
            "given as `trusted_root` needs no network",
            code=ROOT,
            handling=Handling.RETRY,
        ) from exc


def load_trusted_root(raw: bytes) -> TrustedRoot:
    """A `trusted_root.json`, or the one in a client's whole trust configuration.

    Raises:
        ConfigError: it is none.
    """
    try:
        document: dict[str, Any] = dict(load_json(raw))  # type: ignore[call-overload]
        if "trustedRoot" in document:
            document = document["trustedRoot"]
            raw = json.dumps(document).encode()
        return TrustedRoot(
            raw,
            tuple(_read_authorities(document.get("certificateAuthorities", []))),
            dict(_read_logs(document.get("ctlogs", []))),
            dict(_read_logs(document.get("tlogs", []))),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OcisyncError) as exc:
        raise ConfigError(
            "`trusted_root` is damaged, or no trusted root of sigstore (trusted_root.json): "
            f"{type(exc).__name__}: {str(exc)[:100]}"
        ) from exc


def _read_authorities(listed: Sequence[Mapping[str, object]]) -> Iterator[Authority]:
    for entry in listed:
        chain = entry["certChain"]["certificates"]  # type: ignore[index]
        certificates = tuple(x509.load_der_x509_certificate(base64.b64decode(one["rawBytes"])) for one in chain)
        yield Authority(certificates, _read_period(entry.get("validFor")))


def _read_logs(listed: Sequence[Mapping[str, object]]) -> Iterator[tuple[bytes, Log]]:
    for entry in listed:
        public: Mapping[str, object] = entry["publicKey"]  # type: ignore[assignment]
        spki = base64.b64decode(str(public["rawBytes"]))
        try:
            key = accept_public_key(serialization.load_der_public_key(spki))
        except (ValueError, OcisyncError):
            continue  # a log whose key nobody here can check: what it says is not believed
        log = Log(key, _read_period(public.get("validFor")))
        yield hashlib.sha256(spki).digest(), log
        if isinstance(named := entry.get("logId"), dict):  # Rekor 2 makes its identifiers otherwise
            yield base64.b64decode(named["keyId"]), log


def _read_period(said: object) -> Period:
    start, end = (said.get("start"), said.get("end")) if isinstance(said, dict) else (None, None)
    return Period(_read_time(start) if start else 0.0, _read_time(end) if end else float("inf"))


def _read_time(text: object) -> float:
    found = datetime.fromisoformat(str(text))
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def check_identity(certificate: x509.Certificate, identities: Sequence[Identity]) -> str:
    """Whose certificate it is, where that is somebody who is trusted.

    Raises:
        SignatureError: it is not, or it is no certificate for signing.
    """
    try:
        names, issuer = list(_list_names(certificate)), _find_issuer(certificate)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        may_sign = certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except (x509.ExtensionNotFound, ValueError) as exc:
        raise SignatureError("its certificate is not one for signing", code=UNTRUSTED) from exc
    if not may_sign or ExtendedKeyUsageOID.CODE_SIGNING not in usage:
        raise SignatureError("its certificate is not one for signing", code=UNTRUSTED)
    for name in names:
        if any(issuer == one.issuer and re.fullmatch(one.name, name) for one in identities):
            return f"{name} ({issuer})"
    raise SignatureError(
        f"it was signed by {', '.join(names)[:300]} ({issuer[:200]}), who is not trusted", code=UNTRUSTED
    )


def _list_names(certificate: x509.Certificate) -> Iterator[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    for name in found:
        if isinstance(name, x509.RFC822Name | x509.UniformResourceIdentifier):
            yield name.value
        elif isinstance(name, x509.OtherName) and name.type_id == _NAME_OF_OTHERS:
            yield _decode_text(name.value)


def _find_issuer(certificate: x509.Certificate) -> str:
    """Who vouched for the identity; two statements that disagree are none."""
    said = set()
    for oid in (_ISSUER, _ISSUER_PLAIN):
        try:
            value = certificate.extensions.get_extension_for_oid(oid).value
        except x509.ExtensionNotFound:
            continue
        raw = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
        said.add(_decode_text(raw) if oid == _ISSUER else raw.decode())
    if len(said) != 1:
        raise ValueError("no issuer, or two")
    return said.pop()


def _decode_text(der: bytes) -> str:
    """A short UTF8String in DER."""
    is_text = len(der) > 2 and der[0] == _UTF8
    start, size = (
        (2, der[1]) if is_text and der[1] < _SHORT else (3, der[2]) if is_text and der[1] == _SHORT + 1 else (0, -1)
    )
    if size != len(der) - start:
        raise ValueError("not a UTF8String")
    return der[start:].decode()
