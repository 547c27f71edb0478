"""What a provider can do, tried out in full for a person who asks: `capabilities` tries only what each run needs."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from ocisync.content.object_store import ObjectHeaders
from ocisync.content.openers import BytesOpener
from ocisync.errors import OcisyncError
from ocisync.model.digest import Digest, hex_of, sha256
from ocisync.stores.s3.capabilities import Capabilities
from ocisync.stores.s3.client import S3Client
from ocisync.stores.s3.copy import copy_object
from ocisync.stores.s3.http import S3Request, read_headers
from ocisync.stores.s3.refusals import Refusal
from ocisync.stores.s3.sign import checksum_headers
from ocisync.stores.static.layout import SCRATCH

_BODY = b"ocisync tries out what this store can do\n"
_OTHER = sha256(b"other bytes")
_HEADERS = ObjectHeaders("application/octet-stream")


@dataclass(frozen=True, slots=True)
class Provider:
    """What was found."""

    capabilities: Capabilities
    checks_payload: bool  # refuses bytes that are not what x-amz-content-sha256 says
    checks_checksum: bool | None  # refuses bytes that are not what x-amz-checksum-sha256 says; None: refuses the header
    copies: bool

    def describe(self) -> dict[str, str]:
        """For a table: what, and whether."""
        etags = "quoted" if self.capabilities.quoted_etags else "unquoted"
        conditional = f"yes, ETags {etags}" if self.capabilities.conditional_writes else "no: lists are looked at again"
        return {
            "conditional writes": conditional,
            "x-amz-content-sha256": _describe_check(self.checks_payload),
            "x-amz-checksum-sha256": _describe_check(self.checks_checksum),
            "server-side copy": "yes" if self.copies else "no: blobs are sent again",
        }


def _describe_check(is_checked: bool | None) -> str:
    if is_checked is None:
        return "refused: left out"
    return "checked" if is_checked else "not checked: ocisync checks by itself"


async def try_provider(client: S3Client, capabilities: Capabilities) -> Provider:
    """Try checksums and copies on scratch keys, which are removed again.

    Raises:
        S3ConfigError: bucket, region, credentials or rights are wrong.
    """
    key = f"{SCRATCH}provider-{secrets.token_hex(8)}"
    try:
        await client.put(key, BytesOpener(_BODY), _HEADERS, size=len(_BODY), digest=None, conditions={})
        payload = await _is_refused(client, f"{key}-payload", _OTHER, {})
        checksum = None  # the header was sent with the body just now
        if Refusal.CHECKSUMS not in client.refusals.known:
            checksum = await _is_refused(client, f"{key}-sum", sha256(_BODY), checksum_headers(_OTHER))
        return Provider(capabilities, payload, checksum, await _copies(client, key))
    finally:
        for name in (key, f"{key}-payload", f"{key}-sum", f"{key}-copy"):
            await client.delete(name)


async def _is_refused(client: S3Client, key: str, payload: Digest, headers: dict[str, str]) -> bool:
    given = {"Content-Type": _HEADERS.content_type, **headers}
    request = S3Request("PUT", client.full_key(key), {}, given, hex_of(payload), _BODY, len(_BODY))
    try:
        await client.send(request, read_headers)
    except OcisyncError as exc:
        return exc.facts.get("status") in (400, 403)
    return False


async def _copies(client: S3Client, key: str) -> bool:
    try:
        return await copy_object(client, key, f"{key}-copy", _HEADERS, len(_BODY))
    except OcisyncError:
        return False
