"""Bundles that were signed without a key, checked by sigstore's own library: the extra `ocisync[sigstore]`.

The library takes half a second to import, so it is, the first time that such a bundle is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography import x509

from ocisync.errors import ConfigError, Handling, SignatureError
from ocisync.trust.certificates import check_certificate
from ocisync.trust.keyless import EXPIRED, TrustedRoot, check_identity
from ocisync.trust.keys import PAYLOAD, UNTRUSTED
from ocisync.trust.policies import Identity, Signer

if TYPE_CHECKING:
    from sigstore.verify import Verifier

MISSING = "verify.extra"  # the code: what is needed to check this is not installed


def check_bundle_certificate(root: TrustedRoot, identities: Sequence[Identity], raw: bytes, payload: bytes) -> Signer:
    """Who signed a bundle's `payload`, and when; what it says is not looked at.

    The library reads the bundle by itself: what it found to be signed must be what was read here, else a bundle that
    two readers understand differently would pass.

    Raises:
        SignatureError: nobody who is trusted, or it cannot be proven.
        ConfigError: sigstore's library is not installed.
    """
    try:
        from sigstore.errors import Error
        from sigstore.models import Bundle
    except ImportError as exc:
        raise ConfigError(
            "bundles that are signed without keys need sigstore's library: pip install 'ocisync[sigstore]'",
            code=MISSING,
            handling=Handling.FAIL,
        ) from exc
    policy = _IdentityPolicy(identities)
    try:
        bundle = Bundle.from_json(raw)
        verifier = _make_verifier(root.raw)
        _, signed = verifier.verify_dsse(bundle, policy)
        times = [one.time.timestamp() for one in verifier._establish_time(bundle)]
        log_id = bundle.log_entry._inner.log_id.key_id
    except SignatureError:
        raise
    except Error as exc:
        raise _refuse(exc) from exc
    except Exception as exc:
        raise SignatureError(f"the bundle cannot be checked: {type(exc).__name__}", code=UNTRUSTED) from exc
    if signed != payload:
        raise SignatureError("what is signed in the bundle can be read in two ways", code=PAYLOAD)
    for time in times:  # the library believes authorities and logs also after they were retired
        root.find_log(log_id, time)
        check_certificate(root, bundle.signing_certificate, time)
    return Signer(policy.signer, max(times))


class _IdentityPolicy:
    """What the library asks of a certificate: the policy's identities, by our own rules."""

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._identities = identities
        self.signer = ""

    def verify(self, cert: x509.Certificate) -> None:
        """Raises SignatureError for a certificate of nobody who is trusted."""
        self.signer = check_identity(cert, self._identities)


@lru_cache(maxsize=16)
def _make_verifier(raw: bytes) -> Verifier:
    from sigstore.models import TrustedRoot as LibraryRoot
    from sigstore.verify import Verifier
    from sigstore_models.trustroot.v1 import TrustedRoot as RootDocument

    return Verifier(trusted_root=LibraryRoot(RootDocument.from_json(raw)))


def _refuse(error: Exception) -> SignatureError:
    said = str(error)
    is_expired = "expired at time of signing" in said or "not valid at validation time" in said
    return SignatureError(f"the bundle is not believed: {said[:300]}", code=EXPIRED if is_expired else UNTRUSTED)
