"""The seam: roles that only some sources and targets have, found at run time with isinstance.

Each is optional: without it the engine does the same work at a higher cost, or leaves out what makes no sense there. A
store has a role when it has *all* of its members, so a role is as large as what its stores have in common, and views
that wrap a source pass on those that matter (docs/adr/0003).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ocisync.content.repository import Opener, Resolver, Source
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest

OUTDATED = "store.outdated"  # the code of a publication that came so late that its content must be looked at again


@runtime_checkable
class RemoteResolver(Resolver, Protocol):
    """A repository where each look-up costs a request, so that it helps to say why it is made.

    Registries have it. The engine then asks for an unchanged tag with what it knows (a HEAD, or a GET that is answered
    "not modified"), and for a new tag with one GET that brings the manifest along. Without it each tag is resolved, and
    a manifest that is wanted is opened afterwards.
    """

    async def revalidate(self, reference: str, known: Descriptor) -> Descriptor:
        """As `resolve`, for a tag that pointed at a known manifest when it was last seen."""
        ...

    async def resolve_with_manifest(self, reference: str, *, is_needed: bool = False) -> Descriptor:
        """As `resolve`, for a tag whose manifest is wanted: with its bytes, unless that would be counted as a pull.

        With `is_needed` its bytes come in any case: they would be read right after, or nothing else is believed.
        """
        ...


@runtime_checkable
class ReferrerLister(Protocol):
    """A source that knows which of its manifests refer to another: signatures, attestations, lists of parts.

    Registries, static registries and OCI layouts have it, and views of them pass it on. The engine brings referrers
    with their subjects where a rule asks for it, and always where they are a part of what is copied, as in a layout.
    Without it there are no referrers but those under tags.
    """

    @property
    def brings_referrers(self) -> bool:
        """Whether referrers go along unasked, because they are a part of the whole that is copied."""
        ...

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """Manifests whose `subject` is this one, in the order of their digests; none for what is not there."""
        ...


@runtime_checkable
class DerivedSource(Protocol):
    """A view of another source in which images have other digests, such as one of other media types.

    Who judges an image asks for what it was made from, because signatures are about that.
    """

    @property
    def source(self) -> Source:
        """What is seen through the view."""
        ...

    def find_origin(self, desc: Descriptor) -> Descriptor:
        """What a manifest that the view resolved was made from; itself where nothing was changed."""
        ...


class LayerSink(Protocol):
    """Takes the layers of an image that is being converted, as they become known."""

    async def lookup(self, diff_id: Digest) -> Descriptor | None:
        """A layer already in the target that holds this uncompressed content."""
        ...

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store one finished layer."""
        ...

    async def record(self, diff_id: Digest, desc: Descriptor) -> None:
        """Remember which layer holds this uncompressed content; called once it is in the target."""
        ...


@runtime_checkable
class Converter(Protocol):
    """A source whose digests are known only once its content has been converted, such as a docker-archive.

    Its layers are compressed on their way into the target, which therefore takes part (`LayerSink`): a layer whose
    content the target has already is neither compressed nor sent. Other sources know their digests from the start.
    """

    @property
    def variant(self) -> str:
        """Which conversion it is (format, compressor and level): layers are reused only among equal ones."""
        ...

    def image_of(self, reference: str) -> str:
        """The same text for all references of one image: what has thousands of names is converted once."""
        ...

    async def convert(self, reference: str, sink: LayerSink) -> Descriptor:
        """Convert an image, handing over each layer as soon as it is whole, and return the image's descriptor.

        Afterwards `open` knows the image's manifest and configuration, and its layers too (converted again if need be).
        """
        ...


@runtime_checkable
class Mounter(Protocol):
    """A target that can take a blob from another repository of its own without the bytes being sent again.

    Registries mount, static registries copy or link inside their store. Without it every blob is sent to every
    repository that wants it.
    """

    @property
    def name(self) -> str:
        """The repository's whole name there, as `mount` takes another's."""
        ...

    def find_sibling(self, source: object) -> str | None:
        """The name of a source's repository, when it lies in the same registry, bucket or directory."""
        ...

    async def mount(self, desc: Descriptor, from_repository: str) -> bool:
        """Whether the blob is now here; False means: push it."""
        ...


@runtime_checkable
class ServerTarget(Protocol):
    """A target behind a registry's server, which judges what it is given and answers questions about it.

    Only ordinary registries have it. The engine believes a manifest that is there to be whole where the server refuses
    manifests that are not, sends to an empty repository without asking for each blob, and tells the server what refers
    to what where its API is older than referrers. Other targets take what comes, so that every blob is looked at.
    """

    @property
    def validates(self) -> bool:
        """Whether the operator says that the registry refuses a manifest of which it lacks a part."""
        ...

    async def rejects_missing_blobs(self) -> bool:
        """Whether it was seen to do so, so that a manifest that is there shows that all below it was there with it."""
        ...

    async def is_empty(self) -> bool:
        """Whether no tag is there, by one request."""
        ...

    async def add_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        """See that manifests, which are stored here, are told as what refers to another; it need not be here yet."""
        ...


@runtime_checkable
class CollectedTarget(Protocol):
    """A target without a server: a garbage collector removes what no tag reaches, and nobody refuses what is not whole.

    Only static registries have it. A collector may run on another machine while a copy is under way. So the engine
    stores the roots before the last look at what is there, makes old content young again before it relies on it, and
    leaves a record of the images of an index that are missing on purpose, lest `verify` calls them damage.

    Its `publish` raises a StoreError of the code OUTDATED when a root was stored more than `stale_after` ago.
    """

    @property
    def stale_after(self) -> float:
        """Seconds after which content must be made young again before it is relied on; infinite: never."""
        ...

    async def push_manifests(self, roots: Sequence[Descriptor]) -> None:
        """Store manifests, which carry their bytes, under their digests: young, they keep all that is below them."""
        ...

    async def touch(self, digest: Digest) -> bool:
        """Make content young again; False when it is not there any more."""
        ...

    async def record_missing_images(self, index: Digest, omitted: Sequence[Digest]) -> None:
        """Remember which of an index's images were left out, in place of what was remembered before."""
        ...


@dataclass(frozen=True, slots=True)
class RepositoryListing:
    """What a listing of a repository shows."""

    tags: Mapping[str, Digest | None]  # None: the tag is there, what it points at is not known from a listing
    sizes: Mapping[Digest, int] = field(default_factory=dict)  # bytes; every manifest and blob that the listing shows
    modified: Mapping[Digest, float] = field(default_factory=dict)  # seconds since the epoch, where the listing tells
    is_collected: bool = False  # a garbage collector is removing content: what is listed may go


@runtime_checkable
class Inventory(Protocol):
    """A target that can tell everything a repository holds at the cost of listings.

    Static registries have it. One listing replaces a look-up per tag and per blob, and a second one before the tags are
    written shows what vanished meanwhile. Without it each blob is asked for, and what the target took is believed.
    A directory tells even more cheaply that known tags are where they were, which is all that most passes want to know.
    """

    async def holds_tags(self, tags: Mapping[str, Digest]) -> bool:
        """Whether each tag points at this manifest, which is here; False also where only a listing could tell."""
        ...

    async def list_manifests(self) -> RepositoryListing:
        """Tags with what they point at, and every manifest's digest with its size; empty for an absent repository."""
        ...

    async def list_all(self, outline: RepositoryListing | None = None) -> RepositoryListing:
        """The blobs as well; what `outline` told just now is not asked again."""
        ...

    async def delete(self, digests: Sequence[Digest]) -> None:
        """Remove content; absent content is no error."""
        ...


@runtime_checkable
class Untagger(Protocol):
    """A target that can remove tags: registries and static registries. Without it a rule cannot `prune`."""

    async def untag(self, tags: Sequence[str]) -> None:
        """Remove tags and nothing else: an image's other tags stay whole. Absent tags are no error."""
        ...


@runtime_checkable
class Reconciler(Protocol):
    """A target that keeps things which follow from its content, such as the list of tags or a layout's index.json.

    Static registries and layouts have it. `publish` brings these up to date; after a run that changed no tag the engine
    asks for it too, because an earlier writer may have been killed between a tag and the list.
    """

    async def reconcile(self) -> None:
        """Bring them up to date; what is right is left alone."""
        ...
