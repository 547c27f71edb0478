"""What a provider does with conditional writes, tried on a scratch key: some ignore the condition without a word."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from ocisync.content.object_store import ObjectHeaders
from ocisync.content.openers import BytesOpener
from ocisync.errors import NotFound, PreconditionFailed, StoreError
from ocisync.stores.s3.client import S3Client
from ocisync.stores.static.layout import SCRATCH

log = structlog.get_logger()

_HEADERS = ObjectHeaders("application/octet-stream")
_STALE = '"00000000000000000000000000000000"'
_REFUSALS = ("NotImplemented", "InvalidArgument", "InvalidRequest")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider honours."""

    conditional_writes: bool  # If-None-Match: * and If-Match
    quoted_etags: bool = True  # Ceph wants an ETag without its quotes

    def conditions(self, if_match: str | None) -> dict[str, str]:
        """The headers of a conditional write; none when the provider would ignore them."""
        if if_match is None or not self.conditional_writes:
            return {}
        if not if_match:
            return {"If-None-Match": "*"}
        return {"If-Match": if_match if self.quoted_etags else if_match.strip('"')}


async def probe(client: S3Client) -> Capabilities:
    """Try it out; the scratch key is removed again.

    Raises:
        S3ConfigError: bucket, region, credentials or rights are wrong.
    """
    key = f"{SCRATCH}probe-{secrets.token_hex(8)}"
    try:
        found = await _try_conditions(client, key)
    finally:
        await client.delete(key)
    log.info(
        "s3.probed", store=client.where, conditional_writes=found.conditional_writes, quoted_etags=found.quoted_etags
    )
    return found


async def _try_conditions(client: S3Client, key: str) -> Capabilities:
    etag = await _put(client, key, {})
    if etag is None or not etag or await _put(client, key, {"If-None-Match": "*"}) is not None:
        return Capabilities(conditional_writes=False)
    if await _put(client, key, {"If-Match": _STALE}) is not None:
        return Capabilities(conditional_writes=False)
    for quoted in (True, False):
        abilities = Capabilities(conditional_writes=True, quoted_etags=quoted)
        if await _put(client, key, abilities.conditions(etag)) is not None:
            return abilities
    return Capabilities(conditional_writes=False)


async def _put(client: S3Client, key: str, conditions: Mapping[str, str]) -> str | None:
    """The ETag, or None when the condition was refused."""
    body = b"ocisync probes what this store can do\n"
    try:
        info, _ = await client.put(key, BytesOpener(body), _HEADERS, size=len(body), digest=None, conditions=conditions)
    except (PreconditionFailed, NotFound):
        return None
    except StoreError as exc:
        if conditions and (exc.facts.get("status") == 501 or exc.facts.get("s3_code") in _REFUSALS):
            return None
        raise
    return info.etag
