"""Operations on one bucket, with their retries: control operations through aiobotocore, objects on our own wire."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from ocisync.content.object_store import ObjectHeaders, ObjectInfo
from ocisync.content.openers import INLINE_LIMIT, read_whole
from ocisync.content.repository import Opener
from ocisync.content.verify import UploadCheck, held_back
from ocisync.errors import NotFound, OcisyncError
from ocisync.model.digest import Digest, sha256
from ocisync.stores.s3.errors import error_from_exception
from ocisync.stores.s3.headers import digest_metadata, info_from_headers, object_headers
from ocisync.stores.s3.http import ObjectExchange, Upload
from ocisync.stores.s3.limiter import Retrier
from ocisync.stores.s3.listing import ListingPage, page_query, parse_page
from ocisync.stores.s3.options import MIB
from ocisync.stores.s3.session import S3Session
from ocisync.stores.s3.sign import checksum_headers, payload_of

log = structlog.get_logger()

MD5_UP_TO = 4 * MIB  # bytes; hashing larger bodies twice is not worth what it finds


class S3Client:
    """One bucket, keys without the prefix."""

    def __init__(self, session: S3Session) -> None:
        self.session = session
        self.options = session.options
        self.where = session.where
        self.wire = ObjectExchange(session)
        self.retrier = Retrier(session)
        self._is_head_forbidden = False

    async def control(self, operation: str, key: str, **arguments: object) -> Mapping[str, object]:
        """One of aiobotocore's operations on the bucket; its reply, parsed."""

        async def act() -> Mapping[str, object]:
            try:
                reply: Mapping[str, object] = await getattr(self.session.control, operation)(
                    Bucket=self.options.bucket, **arguments
                )
            except (ClientError, BotoCoreError, ResponseParserError, OSError) as exc:
                raise error_from_exception(exc, self.where, f"{operation} {key}") from exc
            return reply

        is_reading = operation.startswith("list_")
        return await self.retrier.run(act, self.retrier.reading if is_reading else self.retrier.writing)

    async def page(self, prefix: str, start_after: str = "", token: str = "") -> ListingPage:
        """A page of the bucket's listing, keys with the bucket's prefix."""

        async def act() -> ListingPage:
            document = await self.wire.listing(page_query(prefix, start_after, token))
            try:
                return parse_page(document)
            except ValueError as exc:
                raise error_from_exception(ResponseParserError(str(exc)), self.where, f"list {prefix}") from exc

        return await self.retrier.run(act, self.retrier.reading)

    async def head(self, key: str) -> ObjectInfo | None:
        """What is stored under a key; None also when the store will not say."""
        try:
            return await self.retrier.run(partial(self._head, key), self.retrier.reading)
        except NotFound:
            return None

    async def put(
        self,
        key: str,
        opener: Opener,
        headers: ObjectHeaders,
        *,
        size: int,
        digest: Digest | None,
        conditions: Mapping[str, str],
    ) -> tuple[ObjectInfo, str]:
        """PutObject: what the store says, and the MD5 of what was sent when it was small."""
        if size <= INLINE_LIMIT:
            check = UploadCheck(size, digest, md5=True)
            body = await read_whole(opener, check)
            digest = digest or sha256(body)
        sent = {
            **object_headers(headers, self.options),
            **digest_metadata(key, digest),
            **self.checksum(digest),
            **conditions,
        }
        upload = Upload(sent, payload_of(digest), size)

        async def act() -> tuple[ObjectInfo, str]:
            if size <= INLINE_LIMIT:
                reply = await self.wire.upload(key, upload, body)
                return info_from_headers(key, reply, size), check.md5
            fresh = UploadCheck(size, digest, md5=size <= MD5_UP_TO)
            async with opener(0) as stream:
                reply = await self.wire.upload(key, upload, held_back(stream, fresh))
            return info_from_headers(key, reply, size), fresh.md5

        return await self.retrier.run(act, self.retrier.writing)

    async def copy(self, from_key: str, to_key: str, headers: Mapping[str, str]) -> None:
        """CopyObject, with these headers and no others.

        Raises:
            NotFound: there is nothing to copy.
        """
        act = partial(self.wire.copy, from_key, to_key, headers)
        await self.retrier.run(act, self.retrier.writing)

    def checksum(self, digest: Digest | None) -> dict[str, str]:
        """The checksum header, where the provider takes it."""
        return checksum_headers(digest) if self.options.sends_checksum else {}

    async def _head(self, key: str) -> ObjectInfo | None:
        try:
            async with self.wire.asked("HEAD", key) as response:
                return info_from_headers(key, response.headers)
        except OcisyncError as exc:
            if exc.facts.get("status") not in (301, 400, 403):
                raise
        await self._explain(key)
        return None

    async def _explain(self, key: str) -> None:
        """Ask again in a way that lets the store say why; a key that it keeps to itself is not known to exist."""
        try:
            async with self.wire.asked("GET", key, {"Range": "bytes=0-0"}):
                pass
        except OcisyncError as exc:
            if exc.facts.get("s3_code") not in ("AccessDenied", "InvalidRange"):
                raise
        if not self._is_head_forbidden:
            self._is_head_forbidden = True
            log.warning("s3.head_forbidden", store=self.where, key=key, hint="grant s3:ListBucket")
