"""Pushing blobs: one POST to begin, one PUT with the whole body; verified before its last byte leaves.

Spec: distribution v1.1, "Pushing a blob monolithically", "Mounting a blob from another repository".
"""

from __future__ import annotations

from contextlib import aclosing
from urllib.parse import quote

import anyio
import structlog
from yarl import URL

from ocisync.content.openers import INLINE_LIMIT, BytesOpener, read_whole
from ocisync.content.repository import Opener
from ocisync.content.verify import UploadCheck, Verifier, hold_last_chunk
from ocisync.errors import DigestMismatch, NetworkError, NotFound, OcisyncError, RegistryError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.stores.registry.auth.scopes import PUSH, Grant
from ocisync.stores.registry.chunked_upload import ChunkedUpload
from ocisync.stores.registry.http.body import PacedBody, SentOnce
from ocisync.stores.registry.http.hosts import safe_url
from ocisync.stores.registry.http.policy import resolve_location
from ocisync.stores.registry.http.transport import Request, Transport

log = structlog.get_logger(__name__)
_CLEAN_UP = 10.0  # seconds
_MAX_SESSIONS = 1000  # kept from refused mounts
_TOO_LARGE = 413
_FIRST_CHUNK, _LEAST_CHUNK = 64 << 20, 1 << 20  # bytes
_KNOWN_OR_NOT = frozenset({200, 403, 404})
_MOUNTED_OR_BEGUN = frozenset({201, 202})
_BEGUN = frozenset({202})
_CREATED = frozenset({201})
_GONE = frozenset({200, 202, 204, 404})
_NO_BODY = {"Content-Length": "0"}
_BINARY = {"Content-Type": "application/octet-stream"}


class BlobUploader:
    """The uploads to one repository."""

    def __init__(self, transport: Transport, repository: str) -> None:
        self._transport = transport
        self._grant = Grant(repository, PUSH)
        self._base = transport.origin.with_path(f"/v2/{repository}/blobs/")
        self._sizes = transport.facts.sizes
        self._sessions: dict[Digest, URL] = {}  # opened by a mount that was refused

    async def exists(self, desc: Descriptor) -> bool:
        """Whether the blob is there; what the registry will not tell counts as absent."""
        request = Request("HEAD", self._base / desc.digest, self._grant, _KNOWN_OR_NOT)
        async with self._transport.send(request) as answer:
            if answer.status != 200 or answer.content_length not in (None, desc.size):
                return False
        self._sizes.learn(desc)
        return True

    async def mount(self, desc: Descriptor, from_repository: str) -> bool:
        """Whether the blob is now here; a session opened instead is kept for the push that follows.

        A mount proves the digest and not the size, so that is looked up where this host's has not been seen yet.
        """
        if self._sizes.disagree(desc):
            return False
        grant = Grant(self._grant.repository, PUSH, also_from=from_repository)
        url = (self._base / "uploads/").with_query({"mount": desc.digest, "from": from_repository})
        try:
            async with self._transport.send(Request("POST", url, grant, _MOUNTED_OR_BEGUN, _NO_BODY)) as answer:
                location = answer.headers.get("Location")
                if answer.status == 202 and location and len(self._sessions) < _MAX_SESSIONS:
                    self._sessions[desc.digest] = resolve_location(answer.url, location)
                mounted = answer.status == 201
            return mounted and (self._sizes.agree(desc) or await self.exists(desc))
        except (NotFound, RegistryError) as exc:  # a mount only saves time: the push tells what is wrong
            log.debug("mount.refused", digest=desc.digest, from_repository=from_repository, error=exc.message)
            return False

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Upload one blob; after a lost reply it is looked for before it is sent again."""
        opener = BytesOpener(desc.data) if desc.data is not None else opener
        attempt = 0
        while (failed := await self._attempt(desc, opener)) is not None:
            attempt += 1
            if self._shrink_chunks(failed, desc):
                continue
            worth_it = failed.retryable or isinstance(failed, NotFound)  # 404: the session is lost
            if not worth_it or attempt > self._transport.options.retries:
                raise failed
            await self._transport.backoff(attempt, failed)
            if isinstance(failed, NetworkError) and await self.exists(desc):
                return

    def _shrink_chunks(self, failed: OcisyncError, desc: Descriptor) -> bool:
        """Whether a body was refused for its size and smaller ones may be taken; from now on this host gets those."""
        chunk = self._transport.facts.chunk_size or desc.size
        if failed.facts.get("status") != _TOO_LARGE or chunk <= _LEAST_CHUNK:
            return False
        self._transport.facts.chunk_size = max(_LEAST_CHUNK, min(_FIRST_CHUNK, chunk // 2))
        log.info("uploads.chunked", host=self._transport.host, chunk=self._transport.facts.chunk_size)
        return True

    async def _attempt(self, desc: Descriptor, opener: Opener) -> OcisyncError | None:
        """One try: None when done, else what went wrong at the registry. The content's own errors are raised."""
        async with self._transport.upload_place:
            session = self._sessions.pop(desc.digest, None) or await self._begin()
            try:
                failed = await self._send(session, desc, opener)
            except BaseException:
                await self._cancel(session)
                raise
            if failed is not None:
                await self._cancel(session)
                return failed
            self._sizes.learn(desc)
            return None

    async def _send(self, session: URL, desc: Descriptor, opener: Opener) -> OcisyncError | None:
        if 0 < self._transport.facts.chunk_size < desc.size:
            return await self._send_chunked(session, desc, opener)
        if desc.size <= INLINE_LIMIT and not self._transport.options.bandwidth:
            data = await read_whole(opener, Verifier(desc.digest, desc.size))
            return await self._put(session, desc, SentOnce(data))
        check = UploadCheck(desc.size, desc.digest)
        async with opener(0) as stream, aclosing(hold_last_chunk(stream, check)) as held:
            return await self._put(session, desc, PacedBody(held, desc.size, self._transport.options.idle_timeout))

    async def _send_chunked(self, session: URL, desc: Descriptor, opener: Opener) -> OcisyncError | None:
        upload = ChunkedUpload(self._transport, self._grant, desc, self._transport.facts.chunk_size)
        end = await upload.run(session, opener)
        if isinstance(end, OcisyncError):
            return end
        request = Request("PUT", with_digest(end, desc.digest), self._grant, _CREATED, _NO_BODY)
        try:
            async with self._transport.send(request) as answer:
                check_echo(desc.digest, answer.headers.get("Docker-Content-Digest"), answer.url)
        except OcisyncError as exc:
            return exc
        return None

    async def _put(self, session: URL, desc: Descriptor, body: SentOnce | PacedBody) -> OcisyncError | None:
        request = Request(
            "PUT", with_digest(session, desc.digest), self._grant, _CREATED, _BINARY, body, is_upload=True
        )
        try:
            async with self._transport.send(request) as answer:
                check_echo(desc.digest, answer.headers.get("Docker-Content-Digest"), answer.url)
        except OcisyncError as exc:
            if isinstance(body, PacedBody) and exc is body.failure:
                raise
            return exc
        return None

    async def _begin(self) -> URL:
        url = self._base / "uploads/"
        async with self._transport.send(Request("POST", url, self._grant, _BEGUN, _NO_BODY)) as answer:
            location = answer.headers.get("Location")
            if not location:
                raise RegistryError(f"{safe_url(answer.url)}: an upload was begun, but no Location says where")
            return resolve_location(answer.url, location)

    async def _cancel(self, session: URL) -> None:
        with anyio.move_on_after(_CLEAN_UP, shield=True):
            try:
                async with self._transport.send(Request("DELETE", session, self._grant, _GONE)):
                    pass
            except OcisyncError as exc:  # the registry forgets it in time
                log.debug("upload.left_behind", host=self._transport.host, error=exc.message)


def with_digest(session: URL, digest: Digest) -> URL:
    """The URL that ends an upload; the state in its query is kept to the letter."""
    text = str(session)
    return URL(f"{text}{'&' if '?' in text else '?'}digest={quote(digest, safe='')}", encoded=True)


def check_echo(digest: Digest, echoed: str | None, url: URL) -> None:
    """Compare the digest a registry says it stored.

    Raises:
        DigestMismatch: it names other content.
    """
    if echoed and echoed.partition(":")[0] == digest.partition(":")[0] and echoed != digest:
        raise DigestMismatch(f"{safe_url(url)}: the registry says it stored {echoed[:140]!r} instead of {digest}")
