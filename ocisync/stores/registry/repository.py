"""One repository of an ordinary registry: a Source that knows referrers, a Target, a Mounter and an Untagger.

Spec: distribution v1.1.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.verify import checked_bytes
from ocisync.errors import LimitExceeded, NotFound, UnsupportedManifest
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, parse_digest
from ocisync.model.image_name import parse_name, parse_tag
from ocisync.model.manifest import MAX_MANIFEST_SIZE
from ocisync.model.subjects import read_subject
from ocisync.stores.registry.auth.authenticator import Grant
from ocisync.stores.registry.blobs import Uploads
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.resuming_stream import Reopen, ResumingStream
from ocisync.stores.registry.http.transport import Request, Transport
from ocisync.stores.registry.listing import has_tags, list_tags
from ocisync.stores.registry.manifests import ACCEPT, Manifests
from ocisync.stores.registry.referrers import ReferrersClient
from ocisync.stores.registry.untag import Untagging
from ocisync.stores.registry.validation_probe import ValidationProbe

_WHOLE = frozenset({200})
_WHOLE_OR_PART = frozenset({200, 206, 416})  # 416: the registry cannot serve the rest, so the whole is read again


class RegistryRepository:
    """A repository as the seam sees it; it lives as long as the client it came from."""

    tags_any_content = False
    brings_referrers = False

    def __init__(self, transport: Transport, name: str, vouching: ValidationProbe | None = None) -> None:
        self.host = transport.host
        self.name = parse_name(name)
        self.validates = transport.options.validates is True  # a manifest that is here proves all that is below it
        self._transport = transport
        self._vouching = vouching or ValidationProbe()
        self._manifests = Manifests(transport, name)
        self._uploads = Uploads(transport, name)
        self._referrers = ReferrersClient(transport, name, self)

    def __repr__(self) -> str:
        return f"RegistryRepository({self.host}/{self.name})"

    async def tags(self) -> Sequence[str]:
        """Every tag, each once, in lexical order; raises as `listing.list_tags` does."""
        tags = await list_tags(self._transport, self.name)
        self._referrers.learn_tags(tags)
        return tags

    async def is_empty(self) -> bool:
        """Whether no tag is there."""
        return not await has_tags(self._transport, self.name)

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor of a tag or digest; raises as `Manifests.resolve` does."""
        return await self._manifests.resolve(reference)

    async def revalidate(self, reference: str, known: Descriptor) -> Descriptor:
        """The descriptor of a tag that may still point at a known manifest; raises as `Manifests.resolve` does."""
        return await self._manifests.resolve(reference, known)

    async def resolve_with_manifest(self, reference: str) -> Descriptor:
        """The descriptor of a tag whose manifest is wanted; raises as `Manifests.resolve` does."""
        return await self._manifests.resolve_with_manifest(reference)

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """What refers to a manifest, by the API or the list under a tag; raises as `ReferrersClient.told` does."""
        return await self._referrers.told(parse_digest(digest))

    async def add_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        """See that manifests are told as what refers to another; raises as `ReferrersClient.refer` does."""
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
            return BytesOpener(checked_bytes(desc.data, desc))(start)
        return self._open(desc, start)

    @asynccontextmanager
    async def _open(self, desc: Descriptor, start: int) -> AsyncIterator[ByteStream]:
        stream = await self._started(desc, start)
        try:
            yield stream
        finally:
            stream.close()

    def can_resume_upload(self, size: int) -> bool:
        """A registry may lose an upload's session at any time."""
        del size
        return False

    async def exists(self, desc: Descriptor) -> bool:
        """Whether content of this digest and size is here; what the registry will not tell counts as absent."""
        parse_digest(desc.digest)
        return await (self._manifests if desc.is_manifest else self._uploads).exists(desc)

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store content, verified before its last byte is sent."""
        parse_digest(desc.digest)
        if desc.is_manifest:
            await self._manifests.push(desc.digest, desc, opener)
        else:
            await self._uploads.push(desc, opener)

    async def mount(self, desc: Descriptor, from_repository: str) -> bool:
        """Whether the blob is now here, taken from another repository of this host."""
        parse_digest(desc.digest)
        return await self._uploads.mount(desc, parse_name(from_repository))

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Write each tag's manifest under the tag, and tell what it refers to; the registry lists tags by itself."""
        for tag, desc in tags.items():
            await self._manifests.push(tag, desc)
            if (reference := read_subject(desc.digest, desc.data or b"")) is not None:
                await self._referrers.add_referrers(reference.subject, [desc])

    async def rejects_missing_blobs(self) -> bool:
        """Whether the registry refuses manifests for what they lack, as far as the options tell or a trial shows."""
        if self._transport.options.validates is not None:
            return self._transport.options.validates
        return await self._vouching.ask(self._transport, self.name)

    async def untag(self, tags: Sequence[str]) -> None:
        """Remove tags one by one; raises as `Untagging.remove` does."""
        untagging = Untagging(self._transport, self.name, self._manifests, self._uploads)
        for tag in tags:
            await untagging.remove(parse_tag(tag))

    async def ask(self, desc: Descriptor, start: int) -> Response:
        """Content from a byte on, unchecked; the caller closes it. Raises as `Transport.open`."""
        kind = "manifests" if desc.is_manifest else "blobs"
        url = self._transport.origin.with_path(f"/v2/{self.name}/{kind}/{parse_digest(desc.digest)}")
        headers = ACCEPT if desc.is_manifest else {}
        if start:
            headers = {**headers, "Range": f"bytes={start}-"}
        accept = _WHOLE_OR_PART if start else _WHOLE
        return await self._transport.open(Request("GET", url, Grant(self.name), accept, headers))

    async def _started(self, desc: Descriptor, start: int, reopen: Reopen | None = None) -> ResumingStream:
        if desc.is_manifest and desc.size > MAX_MANIFEST_SIZE:
            raise LimitExceeded(
                f"{self.host}/{self.name}@{desc.digest}: a manifest of {desc.size} bytes; "
                f"at most {MAX_MANIFEST_SIZE} are accepted",
                code="limit.manifest",
            )
        retries = self._transport.options.retries
        stream = ResumingStream(desc, reopen or partial(self.ask, desc), self._transport.backoff, retries, start)
        try:
            await stream.start()
        except NotFound as exc:
            if desc.urls:
                raise UnsupportedManifest(
                    f"{self.host}/{self.name}@{desc.digest}: a foreign layer that the registry does not have; "
                    "leave this image out, or push it again with its layers included"
                ) from exc
            raise
        return stream
