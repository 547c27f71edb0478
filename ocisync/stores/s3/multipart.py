"""Large objects in parts: a few in memory at a time, the whole verified before it is completed."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ocisync.content.concurrency import Wakeup
from ocisync.content.failpoints import failpoint
from ocisync.content.object_store import ObjectHeaders
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.transfer.mover import make_bulk_reader
from ocisync.content.transfer.parts import PartReader
from ocisync.content.verify import CHUNK, UploadCheck
from ocisync.errors import NotFound, StoreError, VerificationError
from ocisync.model.digest import Digest
from ocisync.stores.s3.client import S3Client
from ocisync.stores.s3.http import S3Request, read_headers
from ocisync.stores.s3.options import part_size_for
from ocisync.stores.s3.uploads import abort_upload, begin_upload, complete_upload

log = structlog.get_logger()

_WORKERS = 3
_ABORT_SECONDS = 10.0


class MemoryBudget:
    """Bytes that all uploads of a store may hold together."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._freed = Wakeup()

    async def take(self, count: int) -> int:
        """Wait until so many bytes are free; what is larger than the whole waits until it is alone."""
        count = min(count, self._total)
        while self._free < count:
            await self._freed.wait()
        self._free -= count
        return count

    def give_back(self, count: int) -> None:
        """Bytes that are held no longer."""
        self._free += count
        self._freed.set()


@dataclass(frozen=True, slots=True)
class Part:
    """One part, in memory."""

    number: int
    data: memoryview
    sha256: str  # hex


@dataclass(frozen=True, slots=True)
class ResumableUpload:
    """What an earlier process left of an upload: its parts from the first on."""

    upload_id: str = ""  # empty: begin one
    etags: tuple[str, ...] = ()


@dataclass(slots=True)
class MultipartUpload:
    """One object on its way; `run` does it all. With `kept`, parts are kept for the next try when one fails.

    One task reads the stream and cuts it into parts, some others send them; a part's room in the budget is taken before
    it is read and given back when it was sent, so memory is bounded for all uploads together.
    """

    client: S3Client
    budget: MemoryBudget
    key: str
    headers: ObjectHeaders
    size: int  # bytes
    digest: Digest | None
    conditions: Mapping[str, str]  # headers of CompleteMultipartUpload
    kept: ResumableUpload | None = None
    _id: str = ""
    _etags: dict[int, str] = field(default_factory=dict)
    _held: int = 0  # bytes of the budget
    _failures: list[Exception] = field(default_factory=list)

    async def run(self, opener: Opener) -> None:
        """Upload, verify, complete; when something goes wrong, the parts are removed, or kept where that was asked for.

        What follows kept parts is not verified here: only the whole can be.

        Raises:
            DigestMismatch, SizeMismatch: the content is different than announced; nothing became visible.
        """
        await self._begin()
        try:
            if self._first_byte < self.size:
                async with opener(self._first_byte) as stream:
                    await self._send_parts(stream)
            failpoint("complete.before")
            await self._complete()
            failpoint("complete.after")
        except BaseException as exc:
            if self.kept is None or isinstance(exc, VerificationError):
                with anyio.move_on_after(_ABORT_SECONDS, shield=True):
                    await self._abort()
            raise
        finally:
            self.budget.give_back(self._held)

    @property
    def _first_byte(self) -> int:
        count = len(self.kept.etags) if self.kept else 0
        return min(self.size, count * part_size_for(self.size, self.client.options))

    async def _begin(self) -> None:
        if self.kept is not None and self.kept.upload_id:
            self._id = self.kept.upload_id
            self._etags = dict(enumerate(self.kept.etags, 1))
            return
        self._id = await begin_upload(self.client, self.key, self.headers)

    async def _send_parts(self, stream: ByteStream) -> None:
        async with anyio.create_task_group() as group:
            send, receive = anyio.create_memory_object_stream[Part](0)
            group.start_soon(self._fill, stream, send, group.cancel_scope)
            for _ in range(_WORKERS):
                group.start_soon(self._empty, receive.clone(), group.cancel_scope)
            receive.close()
        if self._failures:
            raise self._failures[0]

    async def _fill(self, stream: ByteStream, send: MemoryObjectSendStream[Part], scope: anyio.CancelScope) -> None:
        try:
            with send:
                async for part in self._parts(stream):
                    await send.send(part)
                    del part  # or it would stay in memory while the next is filled
        except Exception as exc:  # noqa: BLE001 (raised again, outside the group that it ends)
            self._failures.append(exc)
            scope.cancel()

    async def _empty(self, receive: MemoryObjectReceiveStream[Part], scope: anyio.CancelScope) -> None:
        try:
            with receive:
                async for part in receive:
                    await self._send(part)
                    del part
        except Exception as exc:  # noqa: BLE001 (as above)
            self._failures.append(exc)
            scope.cancel()

    async def _parts(self, stream: ByteStream) -> AsyncIterator[Part]:
        """Parts of equal size but for the last, which comes only when the whole was verified."""
        part_size = part_size_for(self.size, self.client.options)
        first = self._first_byte
        check = UploadCheck(self.size - first, None if first else self.digest)
        reader = PartReader(make_bulk_reader(stream), check)
        for number, start in enumerate(range(first, self.size, part_size), len(self._etags) + 1):
            self._held += await self.budget.take(part_size)
            data, hasher = memoryview(bytearray(min(part_size, self.size - start))), hashlib.sha256()
            await reader.fill(data, hasher)
            if start + len(data) == self.size:
                await reader.finish()
            yield Part(number, data, hasher.hexdigest())
            del data  # or it would stay in memory while the next waits for room

    async def _send(self, part: Part) -> None:
        query = {"partNumber": str(part.number), "uploadId": self._id}
        pieces = tuple(part.data[start : start + CHUNK] for start in range(0, len(part.data), CHUNK))
        request = S3Request("PUT", self.client.full_key(self.key), query, {}, part.sha256, pieces, len(part.data))
        reply = await self.client.send(request, read_headers)
        self._etags[part.number] = reply.get("ETag", "")
        log.debug("part.sent", key=self.key, number=part.number, size=len(part.data))
        self._release(part_size_for(self.size, self.client.options))
        failpoint("part")

    def _release(self, part_size: int) -> None:
        count = min(part_size, self._held)
        self._held -= count
        self.budget.give_back(count)

    async def _complete(self) -> None:
        try:
            await complete_upload(self.client, self.key, self._id, self._etags, self.conditions)
        except NotFound as exc:  # NoSuchUpload: a reply may have been lost after all went well
            found = await self.client.head(self.key)
            if found is None or found.size != self.size:
                raise StoreError(
                    f"{self.key} at {self.client.where}: the upload vanished before it was completed"
                ) from exc

    async def _abort(self) -> None:
        try:
            await abort_upload(self.client, self.key, self._id)
        except StoreError as exc:
            log.warning("upload.abandoned", key=self.key, store=self.client.where, reason=str(exc))
