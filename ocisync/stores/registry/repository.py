"""One repository of an ordinary registry: a Source that knows referrers, a Target, a Mounter and an Untagger.

Spec: distribution v1.1.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property

from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.verify import check_bytes
from ocisync.errors import NotFound, OcisyncError, UnsupportedManifest
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, parse_digest
from ocisync.model.image_name import parse_name, parse_tag
from ocisync.model.subjects import read_subject
from ocisync.stores.registry.auth.scopes import PULL, Grant
from ocisync.stores.registry.blobs import BlobUploader
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.resuming_stream import ResumingStream
from ocisync.stores.registry.http.transport import Request, Transport
from ocisync.stores.registry.listing import has_tags, list_tags
from ocisync.stores.registry.manifests import ACCEPT, Manifests, check_manifest_size
from ocisync.stores.registry.referrers import ReferrersClient
from ocisync.stores.registry.untag import TagRemover
from ocisync.stores.registry.validation_probe import ValidationProbe

_WHOLE = frozenset({200, 206})  # some storage answers with a part that is the whole
_NO_SUCH_RANGE = 416
_WHOLE_OR_PART = frozenset({200, 206, 416})  # 416: the registry cannot serve the rest, so the whole is read again


class RegistryRepository:
    """A repository as the seam sees it; it lives as long as the client it came from.

    Its parts are made when they are first needed: most repositories are only read from.
    """

    tags_any_content = False
    brings_referrers = False

    def __init__(self, transport: Transport, name: str, actions: str = PULL, *, confirms_absence: bool = False) -> None:
        self.host = transport.host
        self.name = parse_name(name)
        self.validates = transport.options.validates is True  # a manifest that is here proves all that is below it
        self._transport = transport
        self._grant = Grant(name, actions)  # what look-ups ask for: where content is pushed, what a push needs
        self._manifests = Manifests(transport, self._grant, confirms_absence=confirms_absence)
        self._listed: Sequence[str] | None = None  # the tags, as they were listed last

    def __repr__(self) -> str:
        return f"RegistryRepository({self.host}/{self.name})"

    @cached_property
    def _blobs(self) -> BlobUploader:
        return BlobUploader(self._transport, self.name)

    @cached_property
    def _referrers(self) -> ReferrersClient:
        return ReferrersClient(self._transport, self._grant, self, self._listed)

    async def tags(self) -> Sequence[str]:
        """Every tag, each once, in lexical order; raises as `listing.list_tags` does."""
        self._listed = await list_tags(self._transport, self._grant)
        if "_referrers" in vars(self):  # made already: a later listing knows more
            self._referrers.learn_tags(self._listed)
        return self._listed

    async def is_empty(self) -> bool:
        """Whether no tag is there."""
        return not await has_tags(self._transport, self._grant)

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor of a tag or digest; raises as `Manifests.resolve` does."""
        return await self._manifests.resolve(reference)

    async def revalidate(self, reference: str, known: Descriptor) -> Descriptor:
        """The descriptor of a tag that may still point at a known manifest; raises as `Manifests.resolve` does."""
        return await self._manifests.resolve(reference, known)

    async def resolve_with_manifest(self, reference: str, *, is_needed: bool = False) -> Descriptor:
        """The descriptor of a tag whose manifest is wanted; raises as `Manifests.resolve` does."""
        return await self._manifests.resolve_with_manifest(reference, is_needed=is_needed)

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """What refers to a manifest, by the API or the list under a tag; raises as `ReferrersClient.list_referrers`."""
        return await self._referrers.list_referrers(parse_digest(digest))

    async def add_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        """See that manifests are listed as what refers to another; raises as `ReferrersClient.add_referrers` does."""
        await self._referrers.add_referrers(parse_digest(subject), referrers)

    def open(self, desc: Descriptor, start: int = 0) -> AbstractAsyncContextManager[ByteStream]:
        """Content without its first `start` bytes, which are read over where the registry ignores ranges.

        A broken transfer is resumed inside.

        Raises:
            NotFound: the repository does not have it.
            UnsupportedManifest: it does not, because the layer is kept elsewhere (`urls`); such layers are not fetched.
            SizeMismatch: the registry announces another length than the descriptor's.
            LimitExceeded: a manifest over 4 MiB.
        """
        if desc.data is not None:
            return BytesOpener(check_bytes(desc.data, desc))(start)
        return self._open(desc, start)

    @asynccontextmanager
    async def _open(self, desc: Descriptor, start: int) -> AsyncIterator[ByteStream]:
        check_manifest_size(desc, f"{self.host}/{self.name}@")
        stream = ResumingStream(desc, self, start)
        try:
            await stream.open()
        except NotFound as exc:
            raise self._explain_missing(desc, exc) from exc.__cause__
        try:
            yield stream
        finally:
            stream.close()

    async def fetch(self, desc: Descriptor, start: int) -> Response:
        """Content from a byte on, unchecked; the caller closes it. Raises as `Transport.open`."""
        kind = "manifests" if desc.is_manifest else "blobs"
        url = self._transport.origin.with_path(f"/v2/{self.name}/{kind}/{parse_digest(desc.digest)}")
        headers = ACCEPT if desc.is_manifest else {}
        size = 0 if desc.is_manifest else desc.size - start
        if not start:
            return await self._transport.open(Request("GET", url, self._grant, _WHOLE, headers, size=size))
        last = f"{desc.size - 1}"
        for end in ("", last):  # the registry within go-containerregistry knows no range without an end
            ranged = {**headers, "Range": f"bytes={start}-{end}"}
            request = Request("GET", url, self._grant, _WHOLE_OR_PART, ranged, size=size)
            answer = await self._transport.open(request)
            if answer.status != _NO_SUCH_RANGE or end:
                break
            await answer.beginning()
        return answer

    @property
    def retries(self) -> int:
        """How often in a row a body that broke off is asked for again."""
        return self._transport.options.retries

    async def backoff(self, attempt: int, reason: OcisyncError) -> None:
        """Wait before a body is asked for again."""
        await self._transport.backoff(attempt, reason)

    def can_resume_upload(self, size: int) -> bool:
        """A registry may lose an upload's session at any time."""
        del size
        return False

    async def exists(self, desc: Descriptor) -> bool:
        """Whether content of this digest and size is here; what the registry will not tell counts as absent."""
        parse_digest(desc.digest)
        return await (self._manifests if desc.is_manifest else self._blobs).exists(desc)

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store content, verified before its last byte is sent."""
        parse_digest(desc.digest)
        if desc.is_manifest:
            await self._manifests.push(desc.digest, desc, opener)
        else:
            await self._blobs.push(desc, opener)

    def find_sibling(self, source: object) -> str | None:
        """The name of a source's repository, when it lies at the same host."""
        return source.name if isinstance(source, RegistryRepository) and source.host == self.host else None

    async def mount(self, desc: Descriptor, from_repository: str) -> bool:
        """Whether the blob is now here, taken from another repository of this host."""
        parse_digest(desc.digest)
        return await self._blobs.mount(desc, parse_name(from_repository))

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Write each tag's manifest under the tag, and list what it refers to; the registry lists tags by itself."""
        for tag, desc in tags.items():
            await self._manifests.push(tag, desc)
            if (reference := read_subject(desc.digest, desc.data or b"")) is not None:
                await self._referrers.add_referrers(reference.subject, [desc])

    async def rejects_missing_blobs(self) -> bool:
        """Whether the registry refuses manifests for what they lack, as far as the options tell or a trial shows."""
        if self._transport.options.validates is not None:
            return self._transport.options.validates
        facts = self._transport.facts
        facts.validation = facts.validation or ValidationProbe()  # one trial for all repositories of a host
        return await facts.validation.ask(self._transport, self.name)

    async def untag(self, tags: Sequence[str]) -> None:
        """Remove tags one by one; raises as `TagRemover.remove` does."""
        remover = TagRemover(self._transport, self.name, self._manifests, self._blobs)
        for tag in tags:
            await remover.remove(parse_tag(tag))

    async def delete_manifest(self, digest: str) -> None:
        """Delete a manifest with every tag of it; raises as `TagRemover.delete_manifest` does."""
        remover = TagRemover(self._transport, self.name, self._manifests, self._blobs)
        await remover.delete_manifest(parse_digest(digest))

    def _explain_missing(self, desc: Descriptor, exc: NotFound) -> OcisyncError:
        if not desc.urls:
            return exc
        return UnsupportedManifest(
            f"{self.host}/{self.name}@{desc.digest}: a foreign layer that the registry does not have; "
            "leave this image out, or push it again with its layers included"
        )
