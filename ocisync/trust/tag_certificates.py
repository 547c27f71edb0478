"""Signatures under `.sig` tags that were made without a key: Fulcio's certificate, and the log's word for the time.

Checked are, as cosign does offline: the certificate's chain and identity at the time of the signature; that a log of
certificates took note of it (SCT); the log of signatures' own signature over its entry (SET); that this entry is about
this signature, payload and certificate; and the signature itself.

Spec: cosign's specs/SIGNATURE_SPEC.md, "Properties".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography import x509

from ocisync.errors import OcisyncError, SignatureError
from ocisync.trust.certificates import check_certificate
from ocisync.trust.keyless import TrustedRoot, check_identity
from ocisync.trust.keys import PAYLOAD, UNTRUSTED, accept_public_key, verify
from ocisync.trust.log_entries import ENTRY, RecordKind, parse_annotation
from ocisync.trust.policies import Identity, Signer

CERTIFICATE = "dev.sigstore.cosign/certificate"


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
    logged = parse_annotation(entry)
    logged.check_promise(root)
    logged.check_subject(
        RecordKind.HASHED, payload, signature, lambda recorded: x509.load_pem_x509_certificate(recorded) == certificate
    )
    check_certificate(root, certificate, logged.time)
    if not verify(key, signature, payload):
        raise SignatureError("the certificate's key did not make this signature", code=UNTRUSTED)
    return Signer(check_identity(certificate, identities), float(logged.time))
