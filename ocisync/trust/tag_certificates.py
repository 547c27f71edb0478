"""Signatures under `.sig` tags that were made without a key: Fulcio's certificate, and the log's word for the time.

Checked are, as cosign does offline: the certificate's chain and identity at the time of the signature; that a log of
certificates took note of it (SCT); the log of signatures' own signature over its entry (SET); that this entry is about
this signature, payload and certificate; and the signature itself.

Spec: rekor's `hashedrekord` 0.0.1 and signed entry timestamps; RFC 6962, section 3.2.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.certificate_transparency import SignedCertificateTimestamp
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from ocisync.errors import OcisyncError, SignatureError
from ocisync.model.text.outside_json import load_json
from ocisync.trust.keyless import EXPIRED, TrustedRoot, check_identity
from ocisync.trust.keys import PAYLOAD, UNTRUSTED, accept_public_key, decode_base64, verify
from ocisync.trust.policies import Identity, Signer

CERTIFICATE = "dev.sigstore.cosign/certificate"
ENTRY = "dev.sigstore.cosign/bundle"
_PRECERTIFICATE = b"\x00\x01"  # RFC 6962: the type of an entry for a certificate that is not issued yet


def check_tag_certificate(
    root: TrustedRoot, identities: Sequence[Identity], payload: bytes, signature: bytes, annotations: Mapping[str, str]
) -> Signer:
    """Who signed, and when.

    Raises:
        SignatureError: nobody who is trusted, or it cannot be proven.
    """
    try:
        return _check(root, identities, payload, signature, annotations)
    except SignatureError:
        raise
    except Exception as exc:
        raise SignatureError(f"its certificate cannot be checked: {type(exc).__name__}", code=PAYLOAD) from exc


def _check(
    root: TrustedRoot, identities: Sequence[Identity], payload: bytes, signature: bytes, annotations: Mapping[str, str]
) -> Signer:
    pem, entry = annotations.get(CERTIFICATE), annotations.get(ENTRY)
    if not pem or not entry:
        raise SignatureError("it has no certificate, or no entry of a log, and no trusted key made it", code=UNTRUSTED)
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        key = accept_public_key(certificate.public_key())
    except (ValueError, OcisyncError) as exc:
        raise SignatureError("its certificate cannot be read", code=PAYLOAD) from exc
    signed_at = _check_entry(root, entry, payload, signature, certificate)
    issuer = _check_chain(root, certificate, signed_at)
    _check_logged(root, certificate, issuer)
    if not verify(key, signature, payload):
        raise SignatureError("the certificate's key did not make this signature", code=UNTRUSTED)
    return Signer(check_identity(certificate, identities), signed_at)


def _check_entry(
    root: TrustedRoot, text: str, payload: bytes, signature: bytes, certificate: x509.Certificate
) -> float:
    """When the log took note of exactly this signature; seconds since the epoch."""
    try:
        document = load_json(text)
        entry = document["Payload"]  # type: ignore[index]
        promise = decode_base64(document["SignedEntryTimestamp"])  # type: ignore[index]
        log = root.signature_logs.get(bytes.fromhex(entry["logID"]))
        time, index, body = entry["integratedTime"], entry["logIndex"], entry["body"]
        record = load_json(decode_base64(body))
    except (ValueError, TypeError, KeyError) as exc:
        raise SignatureError("the log's entry cannot be read", code=PAYLOAD) from exc
    if type(time) is not int or type(index) is not int or log is None or time not in log.valid:
        raise SignatureError("the log is not trusted, or was not at that time", code=UNTRUSTED)
    said = {"body": body, "integratedTime": time, "logID": entry["logID"], "logIndex": index}
    if not verify(log.key, promise, json.dumps(said, sort_keys=True, separators=(",", ":")).encode()):
        raise SignatureError("the log did not sign this entry", code=UNTRUSTED)
    _check_record(record, payload, signature, certificate)
    return float(time)


def _check_record(record: object, payload: bytes, signature: bytes, certificate: x509.Certificate) -> None:
    """See that the entry is about this signature: else a valid entry of another could be shown with it."""
    try:
        spec = record["spec"]  # type: ignore[index]
        is_kind = (record["kind"], record["apiVersion"]) == ("hashedrekord", "0.0.1")  # type: ignore[index]
        hashed = spec["data"]["hash"]
        is_payload = (hashed["algorithm"], hashed["value"]) == ("sha256", hashlib.sha256(payload).hexdigest())
        is_signature = spec["signature"]["content"] == base64.b64encode(signature).decode()
        shown = x509.load_pem_x509_certificate(decode_base64(spec["signature"]["publicKey"]["content"]))
    except (ValueError, TypeError, KeyError) as exc:
        raise SignatureError("the log's entry cannot be read", code=PAYLOAD) from exc
    if not (is_kind and is_payload and is_signature and shown == certificate):
        raise SignatureError("the log's entry is about another signature", code=PAYLOAD)


def _check_chain(root: TrustedRoot, certificate: x509.Certificate, time: float) -> x509.Certificate:
    """The certificate's issuer, by a chain of a trusted authority that was valid at a time."""
    if not certificate.not_valid_before_utc.timestamp() <= time <= certificate.not_valid_after_utc.timestamp():
        raise SignatureError("the certificate was not valid when the signature was made", code=EXPIRED)
    anybody = ExtensionPolicy.webpki_defaults_ca().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
    signer = ExtensionPolicy.webpki_defaults_ee().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
    for authority in root.authorities:
        if time not in authority.valid:
            continue
        builder = PolicyBuilder().store(Store([authority.chain[-1]])).time(datetime.fromtimestamp(time, UTC))
        verifier = builder.extension_policies(ca_policy=anybody, ee_policy=signer).build_client_verifier()
        try:
            return verifier.verify(certificate, list(authority.chain[:-1])).chain[1]
        except (VerificationError, ValueError, x509.UnsupportedGeneralNameType):
            continue
    raise SignatureError("no trusted authority issued the certificate", code=UNTRUSTED)


def _check_logged(root: TrustedRoot, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """See that a log of certificates took note of it.

    Spec: RFC 6962, section 3.2: what is signed is the certificate without this very extension.
    """
    try:
        found = certificate.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
        body = certificate.tbs_precertificate_bytes
    except (x509.ExtensionNotFound, ValueError) as exc:
        raise SignatureError("no log took note of the certificate", code=UNTRUSTED) from exc
    issuer_key = bytes.fromhex(accept_public_key(issuer.public_key()).fingerprint)
    for stamp in found:
        log = root.certificate_logs.get(stamp.log_id)
        if log is None or stamp.timestamp.replace(tzinfo=UTC).timestamp() not in log.valid:
            continue
        if verify(log.key, stamp.signature, _signed_by_log(stamp, issuer_key, body)):
            return
    raise SignatureError("no trusted log took note of the certificate", code=UNTRUSTED)


def _signed_by_log(stamp: SignedCertificateTimestamp, issuer_key: bytes, body: bytes) -> bytes:
    whole = stamp.timestamp.replace(tzinfo=UTC)
    milliseconds = int(whole.timestamp()) * 1000 + whole.microsecond // 1000
    return b"".join(
        (
            b"\x00\x00",  # version 1, a certificate's time stamp
            milliseconds.to_bytes(8),
            _PRECERTIFICATE,
            issuer_key,
            len(body).to_bytes(3),
            body,
            len(stamp.extension_bytes).to_bytes(2),
            stamp.extension_bytes,
        )
    )
