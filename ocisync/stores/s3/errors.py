"""What S3's refusals mean, in words for whoever runs the mirror. Nothing secret is in what is kept of a reply."""

from __future__ import annotations

import re
import socket
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp
from botocore import exceptions as boto

from ocisync.errors import (
    Handling,
    NetworkError,
    NotFound,
    OcisyncError,
    PreconditionFailed,
    RateLimited,
    S3ConfigError,
    Stalled,
    StoreError,
    TlsError,
    Truncated,
)
from ocisync.logs import escape_controls

ABSENT = frozenset({"NoSuchKey", "NotFound", "NoSuchUpload"})
EXPIRED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId"}
)
CONFLICT = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
SLOW = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "ServiceUnavailable"}
)
_AGAIN = SLOW | {
    "InternalError", "RequestTimeout", "OperationAborted", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
}  # fmt: skip
_AGAIN_STATUS = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
_RIGHTS = "s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload"
_TO_DO = {
    "NoSuchBucket": "there is no such bucket: create it, or correct the bucket's name or the endpoint",
    "InvalidBucketName": "that cannot be a bucket's name: correct it",
    "PermanentRedirect": "the bucket lies elsewhere: set its region or endpoint",
    "TemporaryRedirect": "the bucket lies elsewhere: set its region or endpoint",
    "AuthorizationHeaderMalformed": "the region is wrong",
    "IllegalLocationConstraintException": "the region is wrong",
    "InvalidAccessKeyId": "the access key is not known there: correct it",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key: correct it",
    "AccessDenied": f"not allowed: grant {_RIGHTS}",
    "AllAccessDisabled": "the bucket's owner disabled all access",
    "PlainHttpRequest": "TLS is spoken there: write https:// in place of http://",
    "ExpiredToken": "the credentials have expired: renew them",
    "ExpiredTokenException": "the credentials have expired: renew them",
    "TokenRefreshRequired": "the credentials have expired: renew them",
    "InvalidToken": "the session token is not valid: renew the credentials",
}
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")
_TO_TLS_PORT = ("http request to an https server", "plain http request was sent to https port")  # Go's words, nginx's
_NO_API = "is `endpoint` the address of the S3 API?"
_NO_CREDENTIALS = (
    "no credentials were found: set access_key_id and secret_access_key, or $AWS_ACCESS_KEY_ID and "
    "$AWS_SECRET_ACCESS_KEY, or a profile"
)
_STATUS_CODES = {
    301: "PermanentRedirect", 307: "TemporaryRedirect", 403: "AccessDenied", 404: "NotFound", 412: "PreconditionFailed",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class S3Fault:
    """A refusal: the HTTP status and what the error document says."""

    status: int
    code: str
    message: str = ""
    region: str = ""
    date: str = ""


class S3Refusal(Exception):
    """A reply that is a refusal, until it becomes an error that names what was asked."""

    def __init__(self, fault: S3Fault) -> None:
        super().__init__(fault.code)
        self.fault = fault


def fault_from_reply(status: int, headers: object, body: bytes) -> S3Fault:
    """Read an error document, if there is one."""
    get = getattr(headers, "get", dict[str, str]().get)
    text = body[:64_000].decode("utf-8", "replace")
    code = _element(text, "Code") or _STATUS_CODES.get(status, f"HTTP {status}")
    if status == 400 and any(words in text.lower() for words in _TO_TLS_PORT):
        code = "PlainHttpRequest"
    region = _element(text, "Region") or str(get("x-amz-bucket-region") or "")
    message = _element(text, "Message")[:300]
    if not message and "<html" in text.lower():
        message = f"the answer is a web page; {_NO_API}"
    return S3Fault(status, code, message, region, str(get("Date") or ""))


def _element(text: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    # It goes to a terminal, and nobody knows who sent it.
    return " ".join(escape_controls(found[1]).split()) if found else ""


def error_from_fault(
    fault: S3Fault, where: str, doing: str, *, is_anonymous: bool = False, style_hint: str = ""
) -> OcisyncError:
    """The error that a refusal is; its facts carry the code, and `store`, which says that the store refused."""
    error = _explain(fault, f"{where}: {doing}: {fault.code}")
    if is_anonymous and fault.code == "AccessDenied":
        error = S3ConfigError(f"{where}: {doing}: not public, and {_NO_CREDENTIALS}")
    if style_hint and fault.code in ("NoSuchBucket", "InvalidBucketName", "MethodNotAllowed"):
        error = S3ConfigError(f"{error.message}; {style_hint}")
    error.facts.update(store=where, s3_code=fault.code, status=fault.status)
    return error


def _explain(fault: S3Fault, prefix: str) -> OcisyncError:
    if fault.code == "RequestTimeTooSkewed":
        return StoreError(f"{prefix}: {_clock_offset(fault)}", code="clock.skew", handling=Handling.FAIL)
    if fault.code in CONFLICT or fault.status == 412:
        return PreconditionFailed(f"{prefix}: another writer came first; look again")
    if fault.code in _TO_DO:
        hint = f" (the server says {fault.region!r})" if fault.region else ""
        return S3ConfigError(f"{prefix}: {_TO_DO[fault.code]}{hint}")
    if fault.code in ABSENT:
        return NotFound(prefix, code="store.missing")
    if fault.code in SLOW or fault.status in (429, 503):
        return RateLimited(f"{prefix}: the store asks to be slower")
    is_passing = fault.code in _AGAIN or fault.status in _AGAIN_STATUS
    handling = Handling.RETRY if is_passing else Handling.FAIL
    return StoreError(f"{prefix} (HTTP {fault.status}): {fault.message}", handling=handling)


def _clock_offset(fault: S3Fault) -> str:
    try:
        offset = time.time() - parsedate_to_datetime(fault.date).timestamp()
    except (ValueError, OverflowError):
        return "this machine's clock differs too much from the store's: set it by NTP"
    side = "ahead of" if offset > 0 else "behind"
    return f"this machine's clock is {abs(offset):.0f} s {side} the store's: set it by NTP"


def error_from_exception(exc: Exception, where: str, doing: str, *, style_hint: str = "") -> OcisyncError:
    """The error that a failed connection, a useless answer or an unusable credential is."""
    error = _explain_failure(exc, f"{where}: {doing}", f"; {style_hint}" if style_hint else "")
    error.facts.update(store=where)
    return error


def _explain_failure(exc: Exception, prefix: str, hint: str) -> OcisyncError:
    if isinstance(exc, boto.BotoCoreError):
        return _explain_credentials(exc, prefix)
    if isinstance(exc, (aiohttp.ClientSSLError, ssl.SSLError)):
        if any(words in str(exc) for words in _NO_TLS):
            return S3ConfigError(
                f"{prefix}: no TLS is spoken there: write http:// in place of https://, or another port"
            )
        hint = hint if "ostname mismatch" in str(exc) else ""
        return TlsError(f"{prefix}: the certificate was refused: {exc}; set `ca` if it is your own authority's{hint}")
    if isinstance(exc, TimeoutError):
        return Stalled(f"{prefix}: no answer in time")
    if isinstance(exc, aiohttp.ClientPayloadError):
        return Truncated(f"{prefix}: the answer ended too early")
    if isinstance(exc, ValueError):
        return StoreError(f"{prefix}: {exc}; {_NO_API}")
    if isinstance(exc, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return NetworkError(f"{prefix}: the host {getattr(exc, 'host', 'of the endpoint')} is not found{hint}")
    if isinstance(exc, aiohttp.ClientConnectorError) and isinstance(exc.os_error, ConnectionRefusedError):
        return NetworkError(
            f"{prefix}: nothing listens at {exc.host}:{exc.port}: is the service up, and the port right?"
        )
    return NetworkError(f"{prefix}: {type(exc).__name__}: {exc}")


def _explain_credentials(exc: Exception, prefix: str) -> OcisyncError:
    if isinstance(exc, (boto.HTTPClientError, boto.ConnectionError)):
        return NetworkError(f"{prefix}: {type(exc).__name__}: {exc}")
    if isinstance(exc, boto.NoCredentialsError):
        return S3ConfigError(f"{prefix}: {_NO_CREDENTIALS}")
    return S3ConfigError(f"{prefix}: {type(exc).__name__}: {exc}: check the credentials and the region")
