"""A repository that is read from mirrors, in their order, and from its origin for whatever none of them gives.

Mirrors are asked what a tag is, and for content under a digest, which is verified. Lists of tags and referrers come
from the origin: a mirror may know no more than what was pulled through it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import anyio
import structlog

from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream
from ocisync.content.verify import read_manifest, verify_stream
from ocisync.errors import NotFound, OcisyncError, SizeMismatch, Truncated, VerificationError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.resuming_stream import ResumingStream
from ocisync.stores.registry.http.transport import Transport
from ocisync.stores.registry.repository import RegistryRepository

log = structlog.get_logger(__name__)
_CLOSED = 60.0  # seconds in which a mirror that failed is not asked
_MOST_DISTRUSTED = 10_000  # digests
_T = TypeVar("_T")


class Mirror:
    """One mirror of a host, whichever repository is asked for."""

    def __init__(self, transport: Transport, prefix: str) -> None:
        self._transport = transport.without_retries()
        self._prefix = prefix
        self._closed_until = float("-inf")
        self._distrusted: set[Digest] = set()

    def __str__(self) -> str:
        return f"{self._transport.host}/{self._prefix}".rstrip("/")

    @property
    def is_stalled(self) -> bool:
        """Whether nothing can be pulled from it for long."""
        return self._transport.is_stalled

    @property
    def is_open(self) -> bool:
        """Whether it is worth asking: it has not failed of late, and has not asked for a pause."""
        left = self._transport.allowance
        is_spent = left is not None and not left.usable
        return anyio.current_time() >= self._closed_until and not self._transport.is_paused and not is_spent

    def repository(self, name: str) -> RegistryRepository:
        """Its repository for one of the origin's."""
        return RegistryRepository(self._transport, f"{self._prefix}/{name}".lstrip("/"))

    def trusts(self, digest: Digest) -> bool:
        """Whether it has not yet given other bytes under this digest."""
        return digest not in self._distrusted

    def record_failure(self, exc: OcisyncError, digest: Digest | None = None) -> None:
        """Leave it out for a while, unless it only lacks something; for wrong bytes, leave it out for their digest."""
        if isinstance(exc, NotFound):
            return
        if isinstance(exc, VerificationError) and digest is not None:
            if len(self._distrusted) < _MOST_DISTRUSTED:
                self._distrusted.add(digest)
        else:
            self._closed_until = anyio.current_time() + _CLOSED
        log.warning("mirror.failed", mirror=str(self), digest=digest, code=exc.code, error=exc.message)


class MirroredRepository(RegistryRepository):
    """As its origin, to read from."""

    def __init__(self, transport: Transport, name: str, mirrors: Sequence[Mirror]) -> None:
        super().__init__(transport, name, confirms_absence=True)
        self._places = [(mirror, mirror.repository(name)) for mirror in mirrors]

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor of a tag or digest at the first place that has it; raises as the origin's does."""
        found = await self._first(None, lambda repository: repository.resolve(reference))
        return found if found is not None else await super().resolve(reference)

    async def revalidate(self, reference: str, known: Descriptor) -> Descriptor:
        """The same for a tag that may still point at a known manifest."""
        found = await self._first(None, lambda repository: repository.revalidate(reference, known))
        return found if found is not None else await super().revalidate(reference, known)

    async def resolve_with_manifest(self, reference: str, *, is_needed: bool = False) -> Descriptor:
        """The same for a tag whose manifest is wanted."""
        found = await self._first(None, lambda one: one.resolve_with_manifest(reference, is_needed=is_needed))
        return found if found is not None else await super().resolve_with_manifest(reference, is_needed=is_needed)

    @asynccontextmanager
    async def _open(self, desc: Descriptor, start: int) -> AsyncIterator[ByteStream]:
        """Content without its first `start` bytes; each place that breaks off leads on to the next."""
        raw = None
        if desc.is_manifest and not start:
            raw = await self._first(desc.digest, lambda repository: read_manifest(repository, desc))
        async with self._open_anywhere(desc, start) if raw is None else BytesOpener(raw)() as stream:
            yield stream

    @asynccontextmanager
    async def _open_anywhere(self, desc: Descriptor, start: int) -> AsyncIterator[ByteStream]:
        places = [] if desc.is_manifest else self._usable_places(desc.digest)
        fallback = _MirrorFallback(places, self)
        stream = ResumingStream(desc, fallback, start)
        try:
            await stream.open()
        except NotFound as exc:
            raise self._explain_missing(desc, exc) from exc.__cause__
        try:
            if start or not fallback.served:
                yield stream
            else:  # whoever reads may find wrong bytes only after the stream has ended, when nobody can tell whose
                async with aclosing(verify_stream(stream, desc)) as checked:
                    yield checked
        except VerificationError as exc:
            for mirror in fallback.served:
                mirror.record_failure(exc, desc.digest)
            raise
        finally:
            stream.close()

    async def _first(self, digest: Digest | None, ask: Callable[[RegistryRepository], Awaitable[_T]]) -> _T | None:
        """What the first mirror says that can; None when none can."""
        for mirror, repository in self._usable_places(digest):
            try:
                return await ask(repository)
            except OcisyncError as exc:
                mirror.record_failure(exc, digest)
        return None

    def _usable_places(self, digest: Digest | None) -> list[tuple[Mirror, RegistryRepository]]:
        return [(one, at) for one, at in self._places if one.is_open and (digest is None or one.trusts(digest))]


class _MirrorFallback:
    """The places of one content: mirrors in their order, then the origin. One that breaks off is not asked again."""

    def __init__(self, places: list[tuple[Mirror, RegistryRepository]], origin: RegistryRepository) -> None:
        self._places = places
        self._origin = origin
        self.retries = origin.retries
        self.backoff = origin.backoff
        self.served: list[Mirror] = []  # that some bytes may have come from

    async def fetch(self, desc: Descriptor, start: int) -> Response:
        """The body from a byte on; being asked again means that the last one broke off."""
        if self.served and self._places and self._places[0][0] is self.served[-1]:
            self._give_up(desc.digest, Truncated(f"{desc.digest}: the transfer broke off"))
        while self._places:
            mirror, repository = self._places[0]
            try:
                answer = await repository.fetch(desc, start)
            except OcisyncError as exc:
                self._give_up(desc.digest, exc)
                continue
            if answer.status == 200 and answer.content_size not in (None, desc.size):
                answer.close()
                wrong = SizeMismatch(f"{desc.digest}: announced as {answer.content_length} bytes")
                self._give_up(desc.digest, wrong)
                continue
            self.served.append(mirror)
            return answer
        return await self._origin.fetch(desc, start)

    def _give_up(self, digest: Digest, exc: OcisyncError) -> None:
        mirror, _ = self._places.pop(0)
        mirror.record_failure(exc, digest)
