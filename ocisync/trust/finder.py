"""Find an image's signatures at its source: bundles that refer to it, and cosign's `.sig` tag.

Bundles are opened, not chosen by what a list says of them: lists that clients keep under a tag may lack types and
annotations. What is not there is no signature; every other error of a registry is raised.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from ocisync.content.capabilities import ReferrerLister, RemoteResolver
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Fetcher, Source
from ocisync.content.verify import read_manifest
from ocisync.errors import InputError, ManifestError, NotFound, SignatureError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, sha256
from ocisync.model.digest_tags import fallback_tag
from ocisync.model.manifest import Manifest, parse_manifest
from ocisync.sync.referrers.referrer_set import ReferrerSet
from ocisync.trust.keys import MAX_BUNDLE, PAYLOAD
from ocisync.trust.policies import BundledSignature, Signature, TagSignature
from ocisync.trust.statements import SIMPLE_SIGNING

MAX_SIGNATURES = 64  # of one image
_BUNDLE_TYPES = "application/vnd.dev.sigstore.bundle"  # of every version: what is no v0.3 is refused when it is read
_UNTOLD_TYPES = ("", "application/vnd.oci.empty.v1+json", "application/vnd.oci.image.config.v1+json")
_KEPT = 4 * 1024 * 1024  # bytes
_EMPTY = b"{}"  # the configuration of what has none


@dataclass(frozen=True, slots=True)
class FoundSignature:
    """A signature, and what carries it."""

    signature: Signature
    carrier: ReferrerSet


@dataclass(frozen=True, slots=True)
class SignatureLayer:
    """A layer under a `.sig` tag, and what carries it."""

    desc: Descriptor
    carrier: ReferrerSet


@dataclass
class SignatureFinder:
    """Reads signatures from one source, and keeps what it read for the copy."""

    source: Source
    tags: frozenset[str] | None = None  # all tags of the source; None: they were not listed
    kept: dict[Digest, bytes] = field(default_factory=lambda: {sha256(_EMPTY): _EMPTY})
    _size: int = 0  # bytes that are kept
    _tagged: dict[Digest, ReferrerSet] = field(default_factory=dict)

    async def list_carriers(self, subject: Digest) -> ReferrerSet:
        """What may hold signatures of an image; nothing of it is read yet."""
        referrers = await self.source.referrers(subject) if isinstance(self.source, ReferrerLister) else ()
        wanted = [desc for desc in referrers if _may_be_bundle(desc)]
        wanted.sort(key=lambda desc: (not (desc.artifact_type or "").startswith(_BUNDLE_TYPES), desc.digest))
        return ReferrerSet(tuple(wanted[:MAX_SIGNATURES]))

    async def find_tag(self, subject: Digest) -> ReferrerSet:
        """The `.sig` tag of an image, with its manifest; each is asked for once."""
        if subject not in self._tagged:
            self._tagged[subject] = await self._ask_for_tag(subject)
        return self._tagged[subject]

    async def _ask_for_tag(self, subject: Digest) -> ReferrerSet:
        name = fallback_tag(subject) + ".sig"
        if self.tags is not None and name not in self.tags:
            return ReferrerSet()
        try:
            if isinstance(self.source, RemoteResolver):
                desc = await self.source.resolve_with_manifest(name)
            else:
                desc = await self.source.resolve(name)
        except (NotFound, InputError):  # an archive that knows no such name
            return ReferrerSet()
        return ReferrerSet(tags={name: desc})

    async def read_bundle(self, carrier: Descriptor) -> FoundSignature | None:
        """The signature that a referrer holds; None where it holds none, or was deleted.

        Raises:
            SignatureError: it is too large, or the referrer holds something else too, which would come along.
        """
        try:
            whole, layers = await self._read_carrier(carrier)
            if not any(_is_bundle(layer) for layer in layers):
                return None
            if len(layers) > 1:
                raise SignatureError(f"{carrier.digest}: it holds more than a bundle", code=PAYLOAD)
            return FoundSignature(BundledSignature(await self._read_small(layers[0])), ReferrerSet((whole,)))
        except NotFound:
            return None

    async def list_layers(self, found: ReferrerSet) -> list[SignatureLayer]:
        """The signatures under a `.sig` tag, which are not read yet: they may be many.

        Raises:
            SignatureError: the tag holds something else too, which would come along.
        """
        layers: list[SignatureLayer] = []
        for name, desc in found.tags.items():
            try:
                whole, signed = await self._read_carrier(desc)
            except NotFound:
                continue
            if any(layer.media_type != SIMPLE_SIGNING for layer in signed):
                raise SignatureError(f"{name}: it holds more than signatures", code=PAYLOAD)
            carrier = ReferrerSet(tags={name: whole})
            layers += [SignatureLayer(layer, carrier) for layer in signed[:MAX_SIGNATURES]]
        return layers

    async def read_layer(self, layer: SignatureLayer) -> FoundSignature:
        """One of them; raises as `read_bundle` does, and NotFound."""
        annotations = {key: str(text) for key, text in (layer.desc.annotations or {}).items()}
        return FoundSignature(TagSignature(await self._read_small(layer.desc), annotations), layer.carrier)

    async def read_manifest(self, desc: Descriptor) -> Manifest:
        """An index, or a statement that it lists; raises ManifestError, and what the source raises."""
        return parse_manifest(await self._read(desc), desc.media_type)

    def with_kept(self, source: Fetcher) -> Fetcher:
        """The source, but that what was read here is not read again."""
        return _WithKept(source, self.kept)

    async def _read_carrier(self, desc: Descriptor) -> tuple[Descriptor, Sequence[Descriptor]]:
        """What should hold signatures, with its bytes, and its layers; nothing of it is large."""
        raw = await self._read_small(desc)
        try:
            manifest = parse_manifest(raw, desc.media_type)
        except ManifestError as exc:
            raise SignatureError(f"what should hold a signature cannot be read: {exc.message}", code=PAYLOAD) from exc
        for part in () if manifest.is_index else manifest.children:
            _check_size(part)
        layers = manifest.layers
        return replace(desc, data=raw if desc.digest in self.kept else None), layers

    async def _read(self, desc: Descriptor) -> bytes:
        if (kept := self.kept.get(desc.digest)) is not None:
            return kept
        raw = await read_manifest(self.source, desc)
        if self._size + len(raw) <= _KEPT:
            self.kept[desc.digest] = raw
            self._size += len(raw)
        return raw

    async def _read_small(self, desc: Descriptor) -> bytes:
        _check_size(desc)
        return await self._read(desc)


@dataclass(frozen=True, slots=True)
class _WithKept:
    """A Fetcher that serves small content from memory."""

    source: Fetcher
    kept: dict[Digest, bytes]

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream what is kept, or what the source has."""
        kept = self.kept.get(desc.digest)
        async with self.source.open(desc, start) if kept is None else BytesOpener(kept)(start) as stream:
            yield stream


def _check_size(desc: Descriptor) -> None:
    if desc.size > MAX_BUNDLE:
        raise SignatureError(f"{desc.digest}: {desc.size} bytes are too many for a signature", code=PAYLOAD)


def _is_bundle(layer: Descriptor) -> bool:
    return layer.media_type.startswith(_BUNDLE_TYPES)


def _may_be_bundle(desc: Descriptor) -> bool:
    told = desc.artifact_type or ""
    return told in _UNTOLD_TYPES or told.startswith(_BUNDLE_TYPES)
