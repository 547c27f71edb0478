"""Signing a request whose payload is known by its digest, so that the body need not be read for it.

botocore hashes the body again and refuses a stream; STATIC_REGISTRY, "Signing a stream with botocore".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from ocisync.spec.digest import Digest, algorithm, hex_of, sha256

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hex_of(sha256(b""))


class _KnownPayload(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    def __init__(self, credentials: ReadOnlyCredentials, region: str, payload: str) -> None:
        super().__init__(credentials, "s3", region)
        self._payload = payload

    def payload(self, request: AWSRequest) -> str:  # noqa: ARG002 (it is known without the request)
        return self._payload


def signed(
    method: str, url: str, headers: Mapping[str, str], payload: str, credentials: ReadOnlyCredentials, region: str
) -> dict[str, str]:
    """The headers with those that sign the request; `payload` is a sha256 in hex, or UNSIGNED."""
    request = AWSRequest(method=method, url=url, headers=dict(headers))
    _KnownPayload(credentials, region, payload).add_auth(request)
    return {str(name): str(value) for name, value in request.headers.items()}


def payload_of(digest: Digest | None) -> str:
    """How content of a digest is signed: S3 knows only sha256."""
    return hex_of(digest) if digest and algorithm(digest) == "sha256" else UNSIGNED


def checksum_headers(digest: Digest | None) -> dict[str, str]:
    """The checksum that the store verifies and keeps."""
    if digest is None or algorithm(digest) != "sha256":
        return {}
    return {"x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(hex_of(digest))).decode()}
