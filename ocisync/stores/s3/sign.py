"""Signing a request whose payload is known by its digest, so that the body need not be read for it.

botocore hashes the body again, refuses a stream, and takes ten times as long; its own signatures are what the tests
compare these with. STATIC_REGISTRY, "Signing a stream with botocore"; AWS, "Signature Version 4".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from ocisync.model.digest import Digest, algorithm, hex_of, sha256

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hex_of(sha256(b""))
_ALGORITHM = "AWS4-HMAC-SHA256"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_LEFT_OUT = frozenset({"expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"})  # proxies change them


class S3Credentials(NamedTuple):
    """Who signs; the token is of a session's."""

    access_key: str
    secret_key: str
    token: str | None = None


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    payload: str,
    credentials: S3Credentials,
    region: str,
    now: datetime | None = None,
) -> dict[str, str]:
    """The headers with those that sign the request; `payload` is a sha256 in hex, or UNSIGNED.

    `url` is sent as it is: its path is encoded, its query encoded and sorted.
    """
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    sent = {**headers, "X-Amz-Date": moment, "X-Amz-Content-SHA256": payload}
    if credentials.token:
        sent["X-Amz-Security-Token"] = credentials.token
    host, path, query = _split(url)
    known = {name.lower(): " ".join(value.split()) for name, value in sent.items()} | {"host": host}
    names = sorted(known.keys() - _LEFT_OUT)
    canonical = "".join(f"{name}:{known[name]}\n" for name in names)
    request = f"{method}\n{path}\n{query}\n{canonical}\n{';'.join(names)}\n{payload}"
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    keyed = _key(credentials.secret_key, moment[:8], region).copy()
    keyed.update(text.encode())
    sent["Authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={';'.join(names)}, "
        f"Signature={keyed.hexdigest()}"
    )
    return sent


def _split(url: str) -> tuple[str, str, str]:
    """Host, path and query; the host without the port that goes without saying."""
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    host, _, path = rest.partition("/")
    return host.removesuffix(_DEFAULT_PORTS.get(scheme, "")), f"/{path}", query


@lru_cache(maxsize=16)
def _key(secret: str, day: str, region: str) -> hmac.HMAC:
    """What signs by the key of one day."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")


def payload_of(digest: Digest | None) -> str:
    """How content of a digest is signed: S3 knows only sha256."""
    return hex_of(digest) if digest and algorithm(digest) == "sha256" else UNSIGNED


def checksum_headers(digest: Digest | None) -> dict[str, str]:
    """The checksum that the store verifies and keeps."""
    if digest is None or algorithm(digest) != "sha256":
        return {}
    return {"x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(hex_of(digest))).decode()}
