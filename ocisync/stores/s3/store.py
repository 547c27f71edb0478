"""A bucket as an object store.

Bytes are hashed here while they stream, and by the store too: the known digest is signed. An ETag is never trusted as
an integrity check, but one that is an MD5 and differs from ours gives a store away that kept other bytes.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import structlog

from ocisync.content.object_store import ObjectHeaders, ObjectInfo
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.verify import Verifier
from ocisync.errors import (
    Handling,
    NotFound,
    OcisyncError,
    PreconditionFailed,
    S3ConfigError,
    StoreError,
    VerificationError,
)
from ocisync.model.digest import Digest, md5_in_etag, sha256
from ocisync.stores.s3.capabilities import Capabilities, probe
from ocisync.stores.s3.client import MD5_UP_TO, S3Client
from ocisync.stores.s3.copy import copy_object
from ocisync.stores.s3.documents import deletion, parse_delete_errors
from ocisync.stores.s3.download import Download
from ocisync.stores.s3.http import S3Request, read_document
from ocisync.stores.s3.multipart import MemoryBudget, MultipartUpload
from ocisync.stores.s3.options import S3Options
from ocisync.stores.s3.provider_report import Provider, try_provider
from ocisync.stores.s3.refusals import Refusal, content_md5
from ocisync.stores.s3.resumable import StagedUpload
from ocisync.stores.s3.session import open_session
from ocisync.stores.s3.sign import payload_of
from ocisync.stores.s3.uploads import abort_uploads
from ocisync.stores.static.layout import ROOT, SCRATCH

log = structlog.get_logger()

_BATCH = 1000  # keys of one DeleteObjects
_NO_BATCHES = frozenset(
    {"NotImplemented", "MissingContentMD5", "InvalidRequest", "InvalidArgument", "MethodNotAllowed"}
)


class S3Store:
    """An ObjectStore with ServerSideStore on one bucket; made by `open_s3`."""

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._prefix = client.options.key_prefix
        self._budget = MemoryBudget(client.options.part_memory)
        self._capabilities: Capabilities | None = None
        self._probing = anyio.Lock()
        self._etags_are_md5 = True

    def __str__(self) -> str:
        return self._client.where

    async def probe(self) -> Capabilities:
        """What the provider can do, tried once.

        Raises:
            S3ConfigError: bucket, region, credentials or rights are wrong.
        """
        async with self._probing:
            if self._capabilities is None:
                self._capabilities = await probe(self._client)
                await self._remove_abandoned()
        return self._capabilities

    @property
    def options(self) -> S3Options:
        """How the bucket is reached."""
        return self._client.options

    async def provider(self) -> Provider:
        """What the provider can do, tried out in full.

        Raises:
            S3ConfigError: bucket, region, credentials or rights are wrong.
        """
        return await try_provider(self._client, await self.probe())

    async def is_conditional(self) -> bool:
        """Whether the provider refuses a conditional write that lost its race."""
        return (await self.probe()).conditional_writes

    async def abort_uploads(self, older_than: float) -> int:
        """Abort multipart uploads below `v2/` that began more than `older_than` seconds ago; how many there were.

        With 0 this takes other writers' uploads too: only for who is alone.
        """
        count = await abort_uploads(self._client, ROOT, older_than)
        if count:
            log.info("uploads.aborted", store=str(self), count=count)
        return count

    def can_resume_upload(self, size: int) -> bool:
        """What is sent in parts goes on; what is sent in one piece must be sent again from its start."""
        return size > self._client.options.multipart_threshold

    async def head(self, key: str) -> ObjectInfo | None:
        """What is stored under a key."""
        return await self._client.head(key)

    @asynccontextmanager
    async def open(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[tuple[ObjectInfo, ByteStream]]:
        """Read an object; a broken connection is resumed where it broke."""
        download = Download(self._client, key, start, length)
        try:
            info = await download.start()
            yield info, download
        finally:
            await download.close()

    async def put(
        self,
        key: str,
        opener: Opener,
        headers: ObjectHeaders,
        *,
        size: int,
        digest: Digest | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo:
        """Write an object, in parts when it is large."""
        capabilities = await self.probe() if if_match is not None else Capabilities(conditional_writes=True)
        if if_match is not None and not capabilities.conditional_writes:
            await self._check_match(key, if_match)
        conditions = capabilities.conditions(if_match)
        if size <= self._client.options.multipart_threshold:
            info, md5 = await self._client.put(key, opener, headers, size=size, digest=digest, conditions=conditions)
            return await self._check_kept(info, md5, digest)
        if if_match is None and digest is not None and Refusal.COPIES not in self._client.refusals.known:
            await StagedUpload(self._client, self._budget, key, headers, size, digest).run(opener)
            return await self._check_size(ObjectInfo(key, size))
        await MultipartUpload(self._client, self._budget, key, headers, size, digest, conditions).run(opener)
        return await self._check_size(ObjectInfo(key, size))

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Objects below a prefix, sorted by key, a page at a time."""
        page = await self._client.page(self._prefix + prefix, self._prefix + start_after if start_after else "")
        seen: set[int] = set()  # hashes of tokens
        while True:
            for info in page.objects:
                yield info._replace(key=info.key.removeprefix(self._prefix)) if self._prefix else info
            if not page.following:
                return
            if hash(page.following) in seen:
                raise StoreError(
                    f"{self}: list {prefix}: the store returns the same next page again and again",
                    handling=Handling.FAIL,
                )
            seen.add(hash(page.following))
            page = await self._client.page(self._prefix + prefix, token=page.following)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, a thousand at a time where the provider can."""
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            if len(batch) < 3 or not await self._delete_batch(batch):
                for key in batch:
                    await self._client.delete(key)

    async def copy(self, from_key: str, to_key: str, headers: ObjectHeaders, size: int) -> bool:
        """Copy an object inside the bucket."""
        return await copy_object(self._client, from_key, to_key, headers, size)

    async def _remove_abandoned(self) -> None:
        try:
            await self.abort_uploads(self._client.options.abandoned_after)
            await self._remove_scratch(time.time() - self._client.options.abandoned_after)
        except (StoreError, NotFound) as exc:  # a right that is missing, or a provider without it: no reason to stop
            log.warning("uploads.not_listed", store=str(self), reason=str(exc))

    async def _remove_scratch(self, before: float) -> None:
        """Remove what an upload left that was killed between its copy and its end."""
        left = [info.key async for info in self.list(SCRATCH) if info.modified < before]
        if left:
            await self.delete(left)
            log.info("scratch.removed", store=str(self), count=len(left))

    async def touch(self, key: str, headers: ObjectHeaders) -> bool:
        """Copy an object onto itself, so that it is dated now; False when it is not there."""
        found = await self.head(key)
        return found is not None and await copy_object(self._client, key, key, headers, found.size)

    async def _check_match(self, key: str, if_match: str) -> None:
        """The next best thing where the provider ignores conditions; a writer in between is found by looking again."""
        found = await self.head(key)
        if (found.etag if found else "") != if_match:
            raise PreconditionFailed(f"{key} at {self}: another writer came first; look again")

    async def _check_kept(self, info: ObjectInfo, md5: str, digest: Digest | None) -> ObjectInfo:
        """See that the store kept what was sent, as far as that is cheap."""
        if info.size > MD5_UP_TO:
            return await self._check_size(info)
        if not self._etags_are_md5 or md5_in_etag(info.etag) in (None, md5):
            return info
        await self._read_back(info, digest)
        self._etags_are_md5 = False  # its ETags only look like MD5, as under KMS
        return info

    async def _check_size(self, info: ObjectInfo) -> ObjectInfo:
        found = await self.head(info.key)
        if found is not None and found.size != info.size:
            await self.delete([info.key])
            raise StoreError(
                f"{info.key} at {self}: {info.size} bytes were sent, {found.size} were kept; the object was removed"
            )
        return found or info

    async def _read_back(self, info: ObjectInfo, digest: Digest | None) -> None:
        if digest is None:
            return
        check = Verifier(digest, info.size)
        try:
            async with self.open(info.key) as (_, stream):
                async for chunk in stream:
                    check.update(chunk)
            check.finish()
        except VerificationError as exc:
            await self.delete([info.key])
            raise StoreError(
                f"{info.key} at {self}: the stored bytes differ from those that were sent; the object was removed"
            ) from exc

    async def _delete_batch(self, keys: Sequence[str]) -> bool:
        body = deletion(map(self._client.full_key, keys))
        request = S3Request(
            "POST", "", {"delete": ""}, {"Content-Type": "application/xml", "Content-MD5": content_md5([body])},
            payload_of(sha256(body)), body, len(body), f"delete {len(keys)} objects from {keys[0]} on",
        )  # fmt: skip
        try:
            errors = parse_delete_errors(await self._client.send(request, read_document))
        except OcisyncError as exc:
            if exc.facts.get("s3_code") in _NO_BATCHES:
                return False
            raise
        if errors:
            raise StoreError(f"{errors[0][0]} at {self}: not deleted: {errors[0][1]}")
        return True


@asynccontextmanager
async def open_s3(options: S3Options) -> AsyncIterator[S3Store]:
    """Connect to a bucket; nothing is sent before the first request.

    Raises:
        S3ConfigError: the options cannot be right.
    """
    if len(options.bucket) < 3:
        raise S3ConfigError(f"{options.bucket!r} is not a bucket: bucket names have three characters or more")
    async with open_session(options) as session:
        yield S3Store(S3Client(session))
