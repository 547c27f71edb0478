"""Pushing blobs: one POST to begin, one PUT with the whole body; verified before its last byte leaves.

Spec: distribution v1.1, "Pushing a blob monolithically", "Mounting a blob from another repository".
"""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import NamedTuple
from urllib.parse import quote

import anyio
import structlog
from yarl import URL

from ocisync.content.openers import INLINE_LIMIT, BytesOpener, read_whole
from ocisync.content.repository import Opener
from ocisync.content.transfer.exchange import BulkBody
from ocisync.content.transfer.mover import make_bulk_reader
from ocisync.content.verify import CHUNK, UploadCheck, Verifier, hold_last_chunk
from ocisync.errors import DigestMismatch, NotFound, OcisyncError, RateLimited, RedirectRefused, RegistryError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.stores.registry.auth import ecr
from ocisync.stores.registry.auth.scopes import PUSH, Grant
from ocisync.stores.registry.chunked_upload import ChunkedUpload
from ocisync.stores.registry.http.body import PacedBody, SentOnce
from ocisync.stores.registry.http.errors import check_not_web_page, is_web_page
from ocisync.stores.registry.http.hosts import safe_url
from ocisync.stores.registry.http.policy import MAX_REDIRECTS, REFUSED, upload_location
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.transport import Request, Transport, UploadMoved

log = structlog.get_logger(__name__)
_CLEAN_UP = 10.0  # seconds
_MAX_SESSIONS = 1000  # kept from refused mounts
_TOO_LARGE = 413
_FIRST_CHUNK, _LEAST_CHUNK = 64 << 20, 1 << 20  # bytes
_NO_SUCH_RANGE = 416
_BODY_REFUSED = frozenset({400, 405, 406, 411, 415, 416, 422, 501})  # that may be for a body in the PUT
FOUND_OR_NOT = frozenset({200, 404}) | REFUSED  # a look that only saves sending
_FIRST_BYTE = {"Range": "bytes=0-0"}
_PART_OR_NOT = FOUND_OR_NOT | {206}
STORED = frozenset({200, 201, 202, 203, 204})  # registries and what stands before them take the class for the code
_MOUNTED_OR_BEGUN = frozenset({200, 201, 202, 204})
_BEGUN = frozenset({200, 201, 202, 204})
_GONE = frozenset({200, 202, 204, 404})
_UPLOAD_NUMBER = re.compile(r"[A-Za-z0-9_=-]{1,200}\Z", re.ASCII)
_NO_BODY = {"Content-Length": "0"}
_BINARY = {"Content-Type": "application/octet-stream"}


class UploadSession(NamedTuple):
    """An upload that was begun."""

    url: URL  # where its body goes
    least_chunk: int = 0  # bytes; what the registry wants every chunk but the last to have


class BlobUploader:
    """The uploads to one repository.

    A blob takes one POST and one PUT with its whole body where the registry lets it. What a host refuses is not tried
    there again: a body that is too large is sent in chunks from then on, and a body in the PUT by PATCH.
    """

    def __init__(self, transport: Transport, repository: str) -> None:
        self._transport = transport
        self._grant = Grant(repository, PUSH)
        self._base = transport.origin.with_path(f"/v2/{repository}/blobs/")
        self._facts = transport.facts
        self._sessions: dict[Digest, UploadSession] = {}  # opened by a mount that was refused
        self._unmountable: set[str] = set()  # repositories from which nothing may be taken

    async def exists(self, desc: Descriptor) -> bool:
        """Whether the blob is there; what the registry will not tell counts as absent.

        Some registries answer a HEAD with no length, or with 0 whatever the blob's: that says nothing of its size.
        Others refuse it, or lead it to storage that takes GET only: then the first byte is asked for.
        """
        request = Request("HEAD", self._base / desc.digest, self._grant, FOUND_OR_NOT)
        async with self._transport.send(request) as answer:
            status, size, is_page = answer.status, answer.content_size, is_web_page(answer.media_type, b"")
        if status in REFUSED and self._facts.shows_first_byte:
            request = Request("GET", request.url, self._grant, _PART_OR_NOT, _FIRST_BYTE)
            async with self._transport.send(request) as answer:
                status, size, is_page = answer.status, answer.content_size, is_web_page(answer.media_type, b"")
                if status == 206:
                    status, size = 200, _whole_size(answer)
            self._facts.shows_first_byte = status not in REFUSED
        if status != 200 or is_page or size not in (None, 0, desc.size):
            return False
        self._facts.sizes.learn(desc)
        return True

    async def mount(self, desc: Descriptor, from_repository: str) -> bool:
        """Whether the blob is now here; a session opened instead is kept for the push that follows.

        A mount proves the digest and not the size, so that is looked up where this host's has not been seen yet.
        """
        if self._facts.sizes.disagree(desc) or from_repository in self._unmountable:
            return False
        grant = Grant(self._grant.repository, PUSH, also_from=from_repository)
        url = (self._base / "uploads/").with_query({"mount": desc.digest, "from": from_repository})
        try:
            async with self._transport.send(Request("POST", url, grant, _MOUNTED_OR_BEGUN, _NO_BODY)) as answer:
                is_mounted = answer.status == 201
                if not is_mounted and "Location" in answer.headers and len(self._sessions) < _MAX_SESSIONS:
                    self._sessions[desc.digest] = self._open_session(answer)
            return is_mounted and (self._facts.sizes.agree(desc) or await self.exists(desc))
        except (NotFound, RegistryError) as exc:  # a mount only saves time: the push tells what is wrong
            log.debug("mount.refused", digest=desc.digest, from_repository=from_repository, error=exc.message)
            if not exc.retryable:
                self._unmountable.add(from_repository)
            return False

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Upload one blob. After a failure that may have come after the commit it is looked for, and then sent again.

        Raises:
            NotFound: `target.missing`: there is no such repository, and the registry makes none.
        """
        opener = BytesOpener(desc.data) if desc.data is not None else opener
        attempt = 0
        while True:
            chunk = self._chunk_for(desc)
            if (failed := await self._attempt(desc, opener)) is None:
                return
            if self._adapt(failed, desc, chunk):
                continue
            attempt += 1
            is_lost = isinstance(failed, NotFound)  # the session, for the repository is there
            gives_up = not (failed.retryable or is_lost) or attempt > self._transport.options.retries
            if not gives_up:
                await self._transport.backoff(attempt, failed)
            if (is_uncertain(failed) or is_lost) and await self._was_stored(desc):
                return
            if gives_up:
                raise failed.at(f"{self._transport.host}/{self._grant.repository}@{desc.digest}") from failed

    def _chunk_for(self, desc: Descriptor) -> int:
        """Bytes of each chunk that a blob is sent in; 0: all of it in the PUT."""
        if self._facts.sends_by_patch:
            return self._facts.chunk_size or desc.size
        return self._facts.chunk_size if self._facts.chunk_size < desc.size else 0

    def _adapt(self, failed: OcisyncError, desc: Descriptor, chunk: int) -> bool:
        """Whether the body was refused for the way in which it was sent; this host gets it in another from now on.

        `chunk` is how it was sent: other uploads may have changed the way meanwhile.
        """
        status, facts = failed.facts.get("status"), self._facts
        if status == _TOO_LARGE or (status == _NO_SUCH_RANGE and chunk):  # 416 is how GHCR says 413
            sent = chunk or desc.size
            if sent <= _LEAST_CHUNK:
                return False
            if not 0 < facts.chunk_size < sent:
                facts.chunk_size = max(_LEAST_CHUNK, min(_FIRST_CHUNK, sent // 2))
                log.info("uploads.chunked", host=self._transport.host, chunk=facts.chunk_size)
            return True
        if status in _BODY_REFUSED and not chunk:
            if not facts.sends_by_patch:
                facts.sends_by_patch = True
                log.info("uploads.patched", host=self._transport.host, status=status)
            return True
        return False

    async def _attempt(self, desc: Descriptor, opener: Opener) -> OcisyncError | None:
        """One try: None when done, else what went wrong at the registry. The content's own errors are raised."""
        async with self._transport.hold_upload_place(self._grant.repository):
            session = self._sessions.pop(desc.digest, None) or await self._begin()
            try:
                failed = await self._send(session, desc, opener)
            except BaseException:
                await self._cancel(session)
                raise
            if failed is not None:
                await self._cancel(session)
                return failed
            self._facts.sizes.learn(desc)
            return None

    async def _send(self, session: UploadSession, desc: Descriptor, opener: Opener) -> OcisyncError | None:
        if chunk := self._chunk_for(desc):
            return await self._send_chunked(session, desc, opener, max(chunk, -(-session.least_chunk // CHUNK) * CHUNK))
        url = with_digest(session.url, desc.digest)
        for _ in range(MAX_REDIRECTS + 1):
            failed = await self._put(url, desc, opener)
            if not isinstance(failed, UploadMoved):
                return failed
            url = failed.location  # it may be another place for the same upload: the body is read once more
        return RedirectRefused(f"{safe_url(url)}: more than {MAX_REDIRECTS} redirects")

    async def _put(self, url: URL, desc: Descriptor, opener: Opener) -> OcisyncError | None:
        if desc.size <= INLINE_LIMIT and not self._transport.options.bandwidth:
            data = await read_whole(opener, Verifier(desc.digest, desc.size))
            return await self._finish(url, desc, SentOnce(data))
        check = UploadCheck(desc.size, desc.digest)
        async with opener(0) as stream:
            if self._transport.can_bulk(url, desc.size):
                reader = make_bulk_reader(stream)
                return await self._finish(url, desc, BulkBody(reader, check, desc.size))
            async with aclosing(hold_last_chunk(stream, check)) as held:
                return await self._finish(url, desc, PacedBody(held, desc.size, self._transport.options.idle_timeout))

    async def _send_chunked(
        self, session: UploadSession, desc: Descriptor, opener: Opener, chunk: int
    ) -> OcisyncError | None:
        upload = ChunkedUpload(self._transport, self._grant, desc, chunk)
        end = await upload.run(session.url, opener)
        return end if isinstance(end, OcisyncError) else await self._commit(with_digest(end, desc.digest), desc)

    async def _commit(self, url: URL, desc: Descriptor) -> OcisyncError | None:
        """End an upload whose chunks are all there; only this request is repeated, and not when it was heeded."""
        attempt = redirects = 0
        while (failed := await self._finish(url, desc, b"")) is not None:
            if isinstance(failed, UploadMoved):
                url, redirects = failed.location, redirects + 1
                if redirects > MAX_REDIRECTS:
                    return RedirectRefused(f"{safe_url(url)}: more than {MAX_REDIRECTS} redirects")
                continue
            attempt += 1
            if not failed.retryable or attempt > self._transport.options.retries:
                return failed
            await self._transport.backoff(attempt, failed)
            if is_uncertain(failed) and await self._was_stored(desc):
                return None
        return None

    async def _finish(
        self, url: URL, desc: Descriptor, body: bytes | SentOnce | PacedBody | BulkBody
    ) -> OcisyncError | None:
        """The PUT that ends an upload, with its body or without; a body that cannot be read is raised."""
        headers = _BINARY if body else {}
        request = Request("PUT", url, self._grant, STORED, headers, body, is_upload=True)
        try:
            async with self._transport.send(request) as answer:
                check_stored(answer, desc.digest)
        except OcisyncError as exc:
            if isinstance(body, PacedBody | BulkBody) and exc is body.failure:
                raise
            return exc
        return None

    async def _was_stored(self, desc: Descriptor) -> bool:
        try:
            return await self.exists(desc)
        except OcisyncError as exc:  # what failed before it is what matters
            log.debug("upload.unknown", host=self._transport.host, digest=desc.digest, error=exc.message)
            return False

    async def _begin(self, *, is_repeated: bool = False) -> UploadSession:
        url = self._base / "uploads/"
        try:
            async with self._transport.send(Request("POST", url, self._grant, _BEGUN, _NO_BODY)) as answer:
                return self._open_session(answer)
        except NotFound as exc:
            await create_repository(self._transport, self._grant.repository, exc, is_repeated=is_repeated)
        return await self._begin(is_repeated=True)

    def _open_session(self, answer: Response) -> UploadSession:
        """Where an upload goes on, by its Location, else by its number.

        Raises:
            RegistryError: the answer has neither.
            RedirectRefused: it leads to where nothing must be sent.
        """
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        is_number = least.isascii() and least.isdigit() and len(least) < 12
        if "Location" in answer.headers:
            url = upload_location(answer.url, answer.headers["Location"])
        elif _UPLOAD_NUMBER.match(number := answer.headers.get("Docker-Upload-UUID", "")):
            url = self._base / "uploads" / number
        else:
            check_not_web_page(answer.url, answer.media_type, b"")
            raise RegistryError(f"{safe_url(answer.url)}: an upload was begun, but no Location says where")
        return UploadSession(url, int(least) if is_number else 0)

    async def _cancel(self, session: UploadSession) -> None:
        with anyio.move_on_after(_CLEAN_UP, shield=True):
            try:
                async with self._transport.send(Request("DELETE", session.url, self._grant, _GONE)):
                    pass
            except OcisyncError as exc:  # the registry forgets it in time
                log.debug("upload.left_behind", host=self._transport.host, error=exc.message)


def _whole_size(answer: Response) -> int | None:
    """Of the content of which a part came, as Content-Range says."""
    whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(whole) if whole.isascii() and whole.isdigit() and len(whole) < 20 else None


def is_uncertain(failed: OcisyncError) -> bool:
    """Whether what a request was to do may have been done although it failed: the answer was lost, or a proxy's own."""
    return failed.retryable and not isinstance(failed, RateLimited)


async def create_repository(transport: Transport, repository: str, exc: NotFound, *, is_repeated: bool) -> None:
    """Make a repository that a push did not find, where that is wanted; then the push is repeated.

    Raises:
        NotFound: `target.missing`: it is not wanted, or did not help.
        OcisyncError: the repository cannot be made.
    """
    options = transport.options
    if options.ecr is None or not options.ecr.create or is_repeated:
        raise _missing_repository(transport.host, repository, exc) from exc
    if repository not in transport.facts.created:
        await ecr.create_repository(transport.host, repository, options)
        transport.facts.created.add(repository)


def _missing_repository(host: str, repository: str, exc: NotFound) -> NotFound:
    cure = (
        "set `ecr: {create: true}` for this registry, or create it there first"
        if ecr.is_ecr(host)
        else ("create it there first: this registry does not make repositories by itself")
    )
    return NotFound(
        f"{host}/{repository}: there is no such repository to push to; {cure} ({exc.message})",
        code="target.missing",
        host=host,
    )


def with_digest(session: URL, digest: Digest) -> URL:
    """The URL that ends an upload; the state in its query is kept to the letter."""
    text = str(session)
    return URL(f"{text}{'&' if '?' in text else '?'}digest={quote(digest, safe='')}", encoded=True)


def check_stored(answer: Response, digest: Digest) -> None:
    """Compare the digest a registry says it stored.

    Raises:
        DigestMismatch: it names other content.
        RegistryError: it was no registry that answered, but a page that wants a login.
    """
    check_not_web_page(answer.url, answer.media_type, b"")
    echoed, url = answer.headers.get("Docker-Content-Digest"), answer.url
    if echoed and echoed.partition(":")[0] == digest.partition(":")[0] and echoed != digest:
        raise DigestMismatch(f"{safe_url(url)}: the registry says it stored {echoed[:140]!r} instead of {digest}")
