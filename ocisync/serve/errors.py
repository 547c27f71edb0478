"""Errors as the distribution specification wants them on the wire.

Spec: distribution v1.1.1, "Error Codes".
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping

from aiohttp import web

from ocisync.serve.headers import COMMON

_NO_HEADERS: Mapping[str, str] = {}


class ErrorCode(enum.Enum):
    """The specification's codes, which answers of 4xx must keep to, and one for 5xx.

    NAME_UNKNOWN is never used, because oras then skips its fall-back for referrers.
    """

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    SIZE_INVALID = "SIZE_INVALID"
    UNSUPPORTED = "UNSUPPORTED"
    UNAVAILABLE = "UNAVAILABLE"


class ApiError(Exception):
    """A request that is answered with an error; never leaves this room."""

    def __init__(self, status: int, code: ErrorCode, message: str, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


class Interrupted(Exception):
    """An answer broke off when part of it was sent; only cutting the connection tells the client."""


def error_response(refusal: ApiError) -> web.Response:
    """The refusal as a JSON body; aiohttp leaves the body out of answers to HEAD."""
    document = {"errors": [{"code": refusal.code.value, "message": refusal.message}]}
    headers = COMMON | {"Content-Type": "application/json", "Cache-Control": "no-cache"} | dict(refusal.headers)
    return web.Response(status=refusal.status, body=json.dumps(document).encode(), headers=headers)
