"""What a provider refuses and ocisync can do without: noticed when it happens, and left out from then on."""

from __future__ import annotations

import base64
import enum
import hashlib
from collections.abc import Iterable

import structlog

from ocisync.errors import OcisyncError
from ocisync.stores.s3.http import S3Request
from ocisync.stores.s3.sign import checksum_headers

log = structlog.get_logger()

_NO_COPIES = frozenset({"NotImplemented", "MethodNotAllowed", "AccessDenied", "UnsupportedOperation"})


class Refusal(enum.Enum):
    """What can be refused, and what is done then."""

    CHECKSUMS = "x-amz-checksum-sha256"  # left out: the signed payload and our own hashes remain
    BARE_BODIES = "bodies without Content-MD5"  # sent: buckets with Object Lock want it with each part
    COPIES = "CopyObject"  # what would be copied is sent again


class Refusals:
    """The refusals of one provider, learnt from its answers, so that finding out costs no request of its own."""

    def __init__(self, where: str, known: Iterable[Refusal] = ()) -> None:
        self._where = where
        self.known = frozenset(known)

    def learn(self, request: S3Request, exc: OcisyncError, known: frozenset[Refusal]) -> bool:
        """Whether a request that was made with what was `known` then is worth another attempt now."""
        status, code, message = exc.facts.get("status"), exc.facts.get("s3_code"), exc.message.lower()
        if status not in (400, 501):
            return False
        wants_md5 = code == "MissingContentMD5" or "content-md5" in message
        if Refusal.BARE_BODIES not in known and wants_md5 and request.chunks:  # a stream's MD5 is known too late
            return self._note(Refusal.BARE_BODIES, exc)
        is_header = status == 501 or "checksum" in message or "unsupported header" in message
        if Refusal.CHECKSUMS not in known and is_header and request.checksum is not None:
            return self._note(Refusal.CHECKSUMS, exc)
        return False

    def learn_copy(self, exc: OcisyncError) -> bool:
        """Whether a copy was refused as such, so that what it would have copied must be sent again."""
        status, code = exc.facts.get("status"), exc.facts.get("s3_code")
        return (status in (405, 501) or code in _NO_COPIES) and self._note(Refusal.COPIES, exc)

    def headers(self, request: S3Request) -> dict[str, str]:
        """The checks of a body that the provider takes. It may hash a body: call it in a thread for a large one."""
        found = (
            {} if Refusal.CHECKSUMS in self.known or request.checksum is None else checksum_headers(request.checksum)
        )
        if Refusal.BARE_BODIES in self.known and request.chunks:
            found["Content-MD5"] = content_md5(request.chunks)
        return found

    def _note(self, refusal: Refusal, exc: OcisyncError) -> bool:
        if refusal not in self.known:
            self.known |= {refusal}
            log.info("s3.left_out", store=self._where, refused=refusal.value, reason=exc.message[:300])
        return True


def content_md5(chunks: Iterable[bytes | memoryview]) -> str:
    """The header Content-MD5 of a body."""
    hasher = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        hasher.update(chunk)
    return base64.b64encode(hasher.digest()).decode()
