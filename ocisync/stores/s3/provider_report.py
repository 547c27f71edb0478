"""What a provider can do, tried out in full for people who want to know: `s3_probe` tries only what each run needs."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ocisync.content.object_store import ObjectHeaders
from ocisync.content.openers import BytesOpener
from ocisync.errors import OcisyncError
from ocisync.model.digest import Digest, hex_of, sha256
from ocisync.stores.s3.capabilities import Capabilities
from ocisync.stores.s3.client import S3Client
from ocisync.stores.s3.copy import copy_object
from ocisync.stores.s3.http import Upload
from ocisync.stores.s3.sign import checksum_headers
from ocisync.stores.static.layout import SCRATCH

_BODY = b"ocisync tries out what this store can do\n"
_OTHER = sha256(b"other bytes")
_HEADERS = ObjectHeaders("application/octet-stream")


@dataclass(frozen=True, slots=True)
class Provider:
    """What was found."""

    abilities: Capabilities
    checks_payload: bool  # refuses bytes that are not what x-amz-content-sha256 says
    checks_checksum: bool  # refuses bytes that are not what x-amz-checksum-sha256 says
    copies: bool

    def describe(self) -> dict[str, str]:
        """For a table: what, and whether."""
        etags = "quoted" if self.abilities.quoted_etags else "unquoted"
        conditional = f"yes, ETags {etags}" if self.abilities.conditional_writes else "no: lists are looked at again"
        return {
            "conditional writes": conditional,
            "x-amz-content-sha256": _checked(self.checks_payload),
            "x-amz-checksum-sha256": _checked(self.checks_checksum),
            "server-side copy": "yes" if self.copies else "no: blobs are sent again",
        }


def _checked(is_checked: bool) -> str:
    return "checked" if is_checked else "not checked: ocisync checks by itself"


async def try_provider(client: S3Client, abilities: Capabilities) -> Provider:
    """Try checksums and copies on scratch keys, which are removed again.

    Raises:
        S3ConfigError: bucket, region, credentials or rights are wrong.
    """
    key = f"{SCRATCH}provider-{secrets.token_hex(8)}"
    try:
        await client.put(key, BytesOpener(_BODY), _HEADERS, size=len(_BODY), digest=None, conditions={})
        payload = await _is_refused(client, f"{key}-payload", _upload(_OTHER, {}))
        checksum = await _is_refused(client, f"{key}-sum", _upload(sha256(_BODY), checksum_headers(_OTHER)))
        return Provider(abilities, payload, checksum, await _copies(client, key))
    finally:
        for name in (key, f"{key}-payload", f"{key}-sum", f"{key}-copy"):
            await client.control("delete_object", name, Key=client.options.key_prefix + name)


def _upload(payload: Digest, headers: dict[str, str]) -> Upload:
    return Upload({"Content-Type": _HEADERS.content_type, **headers}, hex_of(payload), len(_BODY))


async def _is_refused(client: S3Client, key: str, upload: Upload) -> bool:
    try:
        await client.wire.upload(key, upload, _body())
    except OcisyncError as exc:
        return exc.facts.get("status") in (400, 403)
    return False


async def _body() -> AsyncIterator[bytes]:
    yield _BODY


async def _copies(client: S3Client, key: str) -> bool:
    try:
        return await copy_object(client, key, f"{key}-copy", _HEADERS, len(_BODY))
    except OcisyncError:
        return False
