"""Every request to one bucket: `S3Client.send` is the retry loop, `_attempt` the one way in which a request is made.

botocore is not used for requests (docs/adr/0010-own-s3-data-path.md): it reads a body twice to sign it, refuses
streams, and takes longer for a small request than the store does. It finds credentials and AWS' endpoints.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http.client import HTTPException
from itertools import count
from typing import TypeVar, cast

import aiohttp
import anyio
import structlog
from anyio import to_thread
from yarl import URL

from ocisync.content.backoff import Backoff
from ocisync.content.cost import count_request
from ocisync.content.object_store import ObjectHeaders, ObjectInfo
from ocisync.content.openers import INLINE_LIMIT, read_whole
from ocisync.content.repository import Opener
from ocisync.content.verify import UploadCheck
from ocisync.errors import NotFound, OcisyncError, PreconditionFailed, RateLimited, S3ConfigError
from ocisync.model.digest import Digest, sha256
from ocisync.stores.s3.documents import ListingPage, page_query
from ocisync.stores.s3.errors import (
    EXPIRED,
    S3Refusal,
    error_from_exception,
    error_from_fault,
    fault_from_reply,
)
from ocisync.stores.s3.headers import digest_metadata, info_from_headers, object_headers
from ocisync.stores.s3.http import (
    BulkReply,
    CheckedBody,
    S3Request,
    SourceFailed,
    StreamedUpload,
    keep_open,
    read_headers,
    read_page,
)
from ocisync.stores.s3.limiter import AdaptiveLimiter
from ocisync.stores.s3.options import MIB
from ocisync.stores.s3.refusals import Refusal, Refusals
from ocisync.stores.s3.session import S3Session
from ocisync.stores.s3.sign import payload_of

log = structlog.get_logger()

T = TypeVar("T")
ReadReply = Callable[[aiohttp.ClientResponse], Awaitable[T]]

MD5_UP_TO = 4 * MIB  # bytes; hashing larger bodies twice is not worth what it finds
_ERROR_BODY = 64 * 1024  # bytes of an error document that are read


class S3Client:
    """One bucket. Keys are without the bucket's prefix here, and with it in an S3Request."""

    def __init__(self, session: S3Session) -> None:
        self.session = session
        self.options = session.options
        self.where = session.where
        self.writing = AdaptiveLimiter(session.options.concurrency)
        self.reading = AdaptiveLimiter(session.options.concurrency)  # apart: a write may wait for a read of the store
        self._backoff = Backoff(2 * session.options.first_wait, session.options.longest_wait)
        self.refusals = Refusals(self.where, () if self.options.sends_checksum else (Refusal.CHECKSUMS,))
        self._is_head_forbidden = False

    def full_key(self, key: str) -> str:
        """The key as the bucket has it."""
        return self.options.key_prefix + key

    async def send(self, request: S3Request, read: ReadReply[T]) -> T:
        """Make a request that is safe to repeat, as often as it needs; what `read` makes of the reply.

        Only what the store itself refused is tried again; an error of a body's source is the source's affair.
        Waits grow and are random, so that many writers do not come back at once; credentials that were refused are
        looked for anew, once. What the provider refuses and we can do without is left out at once.
        """
        limiter = self.reading if request.method in ("GET", "HEAD") else self.writing
        is_reloaded = False
        for attempt in count(1):
            generation, refused = self.session.generation, self.refusals.known
            try:
                async with limiter:
                    reply = await self._attempt(request, read)
            except OcisyncError as exc:
                if exc.facts.get("store") != self.where:
                    raise
                is_stranger = self.session.is_anonymous and isinstance(exc, S3ConfigError)  # credentials may have come
                if (is_stranger or exc.facts.get("s3_code") in EXPIRED) and not is_reloaded:
                    is_reloaded = True
                    await self.session.reload(generation)
                    continue
                if self.refusals.learn(request, exc, refused):
                    continue
                is_lost_race = isinstance(exc, PreconditionFailed)  # the caller's affair
                if is_lost_race or not exc.retryable or attempt >= self.options.attempts:
                    raise
                if isinstance(exc, RateLimited) or exc.facts.get("status") == 500:
                    limiter.shrink()
                wait = self._backoff.wait(attempt, random.random())
                log.debug("s3.retried", store=self.where, code=exc.code, attempt=attempt, wait=round(wait, 3))
                await anyio.sleep(wait)
            else:
                limiter.grow()
                return reply
        raise AssertionError("count() has no end")

    async def _attempt(self, request: S3Request, read: ReadReply[T]) -> T:
        """One attempt: sign, send, judge the status, read the reply. Errors of the store carry the fact `store`."""
        session = self.session
        url = session.base_url + request.target
        if Refusal.BARE_BODIES in self.refusals.known and isinstance(
            request.body, tuple
        ):  # a part of some MiB, which is hashed
            checks = await to_thread.run_sync(self.refusals.headers, request)
        else:
            checks = self.refusals.headers(request)
        # Signed in each attempt: a signature is good for minutes only, and credentials change.
        headers = await session.sign(request.method, url, {**request.headers, **checks}, request.payload)
        # Unsigned, for what stands between changes it: Cloudflare and Google Cloud Storage write Accept-Encoding anew.
        headers["Accept-Encoding"] = "identity"
        if request.body is not None:
            headers["Content-Length"] = str(request.size)
        ask = partial(
            session.http.request,
            request.method,
            URL(url, encoded=True),
            headers=headers,
            allow_redirects=False,  # a signature must not travel to another host
            proxy=session.proxy,
        )
        try:
            count_request()
            if request.body is None or isinstance(request.body, bytes):  # small: no task is needed
                response = await ask(data=request.body)
            elif session.can_bulk(request.size):
                async with request.open_bulk_body() as body:
                    answer = await session.send_in_bulk(request.method, URL(url, encoded=True), headers, body)
                response = cast("aiohttp.ClientResponse", BulkReply(answer))
            else:
                async with request.open_body() as stream:
                    upload = StreamedUpload(stream, self.options.idle_timeout)
                    response = await upload.exchange(lambda chunks: ask(data=chunks))
            if response.status < 300:
                return await read(response)
            async with response:
                fault = fault_from_reply(response.status, response.headers, await response.content.read(_ERROR_BODY))
        except SourceFailed as exc:
            raise exc.reason from exc.reason.__cause__
        except S3Refusal as exc:
            fault = exc.fault
        except (aiohttp.ClientError, HTTPException, OSError, ValueError) as exc:  # a TimeoutError is an OSError
            raise error_from_exception(exc, self.where, str(request), style_hint=session.style_hint) from exc
        raise error_from_fault(
            fault, self.where, str(request), is_anonymous=session.is_anonymous, style_hint=session.style_hint
        )

    async def page(self, prefix: str, start_after: str = "", token: str = "") -> ListingPage:
        """A page of the bucket's listing, keys with the bucket's prefix."""
        request = S3Request("GET", query=page_query(prefix, start_after, token), operation="list")
        return await self.send(request, read_page)

    async def head(self, key: str) -> ObjectInfo | None:
        """What is stored under a key; None also when the store will not say."""
        try:
            headers = await self.send(S3Request("HEAD", self.full_key(key)), read_headers)
        except NotFound:
            return None
        except OcisyncError as exc:
            if exc.facts.get("status") not in (301, 400, 403):
                raise
            await self._explain(key)
            return None
        return info_from_headers(key, headers)

    async def open(self, key: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """An object, or what a Range asks for of it; the caller reads and closes the reply.

        Raises:
            NotFound: no such key.
        """
        return await self.send(S3Request("GET", self.full_key(key), headers=headers), keep_open)

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
        body: bytes | CheckedBody
        if size <= INLINE_LIMIT:
            check = UploadCheck(size, digest, md5=size <= MD5_UP_TO)
            body = await read_whole(opener, check)
            digest = digest or sha256(body)
        else:
            body = CheckedBody(opener, size, digest, md5=size <= MD5_UP_TO)
        given = {**object_headers(headers, self.options), **digest_metadata(key, digest), **conditions}
        request = S3Request("PUT", self.full_key(key), {}, given, payload_of(digest), body, size, checksum=digest)
        reply = await self.send(request, read_headers)
        return info_from_headers(key, reply, size), (body.check if isinstance(body, CheckedBody) else check).md5

    async def delete(self, key: str) -> None:
        """DeleteObject; an absent key is no error."""
        await self.send(S3Request("DELETE", self.full_key(key)), read_headers)

    async def _explain(self, key: str) -> None:
        """Ask again in a way that lets the store say why; a key that it keeps to itself is not known to exist."""
        try:
            (await self.open(key, {"Range": "bytes=0-0"})).close()
        except NotFound:
            return
        except OcisyncError as exc:
            if exc.facts.get("s3_code") not in ("AccessDenied", "InvalidRange"):
                raise
        if not self._is_head_forbidden:
            self._is_head_forbidden = True
            log.warning("s3.head_forbidden", store=self.where, key=key, hint="grant s3:ListBucket")
