"""Large blobs by way of a scratch key, so that an upload which was cut off goes on with what it has.

The hash of what an earlier process sent is not known, so such a blob is read back from its scratch key and verified
before it is copied to its place. What was sent in one go was verified on its way, and is only copied.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from ocisync.content.failpoints import failpoint
from ocisync.content.object_store import ObjectHeaders
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.verify import Verifier, update
from ocisync.errors import NotFound, StoreError, VerificationError
from ocisync.model.digest import Digest
from ocisync.stores.s3.client import S3Client
from ocisync.stores.s3.copy import copy_object
from ocisync.stores.s3.download import Download
from ocisync.stores.s3.multipart import MemoryBudget, MultipartUpload, ResumableUpload
from ocisync.stores.s3.options import part_size_for
from ocisync.stores.s3.refusals import Refusal
from ocisync.stores.s3.uploads import list_parts, list_uploads
from ocisync.stores.static.layout import SCRATCH

log = structlog.get_logger()

_TRIES = 2  # another writer of the same blob may complete the upload that this one goes on with


@dataclass(frozen=True, slots=True)
class StagedUpload:
    """One blob on its way to its key."""

    client: S3Client
    budget: MemoryBudget
    key: str
    headers: ObjectHeaders
    size: int  # bytes
    digest: Digest

    @property
    def scratch(self) -> str:
        """Where it is put together; the same for every process, whatever the repository."""
        return f"{SCRATCH}upload-{self.digest.replace(':', '-')}"

    async def run(self, opener: Opener) -> None:
        """Upload what is missing, verify, and show it under its key.

        Raises:
            DigestMismatch, SizeMismatch: the content is different than announced; nothing became visible, or is kept.
        """
        for left in reversed(range(_TRIES)):
            try:
                await self._run_once(opener)
            except NotFound:
                if not left:
                    raise
            else:
                return

    async def _run_once(self, opener: Opener) -> None:
        found = await self.client.head(self.scratch)
        is_verified = False
        if found is None or found.size != self.size:
            kept = await self._find_kept()
            upload = MultipartUpload(
                self.client, self.budget, self.scratch, self.headers, self.size, self.digest, {}, kept=kept
            )
            await upload.run(opener)
            is_verified = not kept.etags
        if not is_verified:
            await self._read_back()
        await self._place()

    async def _read_back(self) -> None:
        log.info("blob.read_back", key=self.key, store=self.client.where, size=self.size)
        download, check = Download(self.client, self.scratch, 0, None), Verifier(self.digest, self.size)
        try:
            await download.start()
            async for chunk in download:
                await update(check, chunk)
            check.finish()
        except VerificationError:
            await self._remove()
            raise
        finally:
            await download.close()

    async def _place(self) -> None:
        if not await copy_object(self.client, self.scratch, self.key, self.headers, self.size):
            if Refusal.COPIES in self.client.refusals.known:
                await self._send_again()
                return
            found = await self.client.head(self.key)
            if found is None or found.size != self.size:  # or else another writer of this blob was here first
                raise NotFound(f"{self.scratch} at {self.client.where}: vanished before it was copied to {self.key}")
        failpoint("copied")
        await self._remove()

    async def _send_again(self) -> None:
        """Read the blob from its scratch key and send it to its own: the provider does not copy."""

        @asynccontextmanager
        async def opener(start: int) -> AsyncIterator[ByteStream]:
            download = Download(self.client, self.scratch, start, None)
            try:
                await download.start()
                yield download
            finally:
                await download.close()

        upload = MultipartUpload(self.client, self.budget, self.key, self.headers, self.size, self.digest, {})
        await upload.run(opener)
        await self._remove()

    async def _remove(self) -> None:
        await self.client.delete(self.scratch)

    async def _find_kept(self) -> ResumableUpload:
        """The upload that got furthest; a new one where there is none, or the store will not tell."""
        try:
            left = [one.upload_id async for one in list_uploads(self.client, self.scratch) if one.key == self.scratch]
            found = [await self._parts(upload_id) for upload_id in left]
        except (NotFound, StoreError) as exc:
            log.debug("uploads.not_listed", store=self.client.where, reason=str(exc))
            return ResumableUpload()
        kept = max(found, key=lambda one: len(one.etags), default=ResumableUpload())
        if kept.etags:
            log.info("blob.taken_up", key=self.key, store=self.client.where, parts=len(kept.etags))
        return kept

    async def _parts(self, upload_id: str) -> ResumableUpload:
        """Its parts from the first on, as far as they have the size that ours have."""
        etags: list[str] = []
        async for part in list_parts(self.client, self.scratch, upload_id):
            if (part.number, part.size) != (len(etags) + 1, self._size_of(len(etags))):
                break
            etags.append(part.etag)
        return ResumableUpload(upload_id, tuple(etags))

    def _size_of(self, before: int) -> int:
        part_size = part_size_for(self.size, self.client.options)
        return min(part_size, self.size - before * part_size)
