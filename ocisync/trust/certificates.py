"""Certificates of Fulcio: who issued them, and which log took note of them, by a trusted root.

A certificate lives for minutes, so it is checked for the time of the signature. Authorities and logs are trusted for a
period: one that was retired, perhaps because its key was stolen, proves nothing that happened later.

Spec: RFC 5280, section 6; RFC 6962, section 3.2.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.certificate_transparency import SignedCertificateTimestamp
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from ocisync.errors import SignatureError
from ocisync.trust.keyless import EXPIRED, TrustedRoot
from ocisync.trust.keys import UNTRUSTED, accept_public_key, verify

_PRECERTIFICATE = b"\x00\x01"  # RFC 6962: the type of an entry for a certificate that is not issued yet


def check_certificate(root: TrustedRoot, certificate: x509.Certificate, time: float) -> None:
    """See that a trusted authority issued it for this time (seconds since the epoch), and that a log took note of it.

    Raises:
        SignatureError: not so.
    """
    _check_logged(root, certificate, _check_chain(root, certificate, time))


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
        raise SignatureError("no log has an entry for the certificate", code=UNTRUSTED) from exc
    issuer_key = bytes.fromhex(accept_public_key(issuer.public_key()).fingerprint)
    for stamp in found:
        log = root.certificate_logs.get(stamp.log_id)
        if log is None or stamp.timestamp.replace(tzinfo=UTC).timestamp() not in log.valid:
            continue
        if verify(log.key, stamp.signature, _signed_by_log(stamp, issuer_key, body)):
            return
    raise SignatureError("no trusted log has an entry for the certificate", code=UNTRUSTED)


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
