"""Small images, made without ocisync's own builders, and openers that misbehave."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import anyio

from ocisync.content.openers import BytesOpener, skip
from ocisync.content.repository import ByteStream, Opener, Target
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest


def described(data: bytes, media_type: str = media_types.OCI_LAYER) -> Descriptor:
    """A descriptor without its data."""
    return Descriptor(media_type, Digest("sha256:" + hashlib.sha256(data).hexdigest()), len(data))


@dataclass(frozen=True, slots=True)
class Image:
    """One manifest, the blobs below it, and the manifests below an index."""

    raw: bytes
    media_type: str
    blobs: tuple[tuple[Descriptor, bytes], ...] = ()
    children: tuple["Image", ...] = ()

    @property
    def desc(self) -> Descriptor:
        """As `publish` wants it: with its bytes."""
        return described(self.raw, self.media_type).with_data(self.raw)


def make_image(note: str = "", layers: int = 2) -> Image:
    """An image whose layers and configuration carry the note."""
    blobs = [(note + f" layer {number} ").encode() * 1000 for number in range(layers)]
    config = json.dumps({"os": "linux", "architecture": "amd64", "note": note}).encode()
    listed = [(described(data), data) for data in blobs]
    head = (described(config, media_types.OCI_CONFIG), config)
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": _json(head[0]),
        "layers": [_json(desc) for desc, _ in listed],
    }
    return Image(json.dumps(document, indent=1).encode(), media_types.OCI_MANIFEST, (head, *listed))


def make_index(*images: Image) -> Image:
    """An index of images, in docker's words."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.DOCKER_LIST,
        "manifests": [_json(image.desc) for image in images],
    }
    return Image(json.dumps(document).encode(), media_types.DOCKER_LIST, children=images)


def _json(desc: Descriptor) -> dict[str, object]:
    return {"mediaType": desc.media_type, "digest": desc.digest, "size": desc.size}


async def push_image(target: Target, image: Image) -> None:
    """Everything below the root, in the order of the design; the root itself comes with `publish`."""
    for child in image.children:
        await push_image(target, child)
        await target.push(described(child.raw, child.media_type), BytesOpener(child.raw))
    for desc, data in image.blobs:
        await target.push(desc, BytesOpener(data))


async def publish_image(target: Target, image: Image, *tags: str) -> None:
    """Everything."""
    await push_image(target, image)
    await target.publish(dict.fromkeys(tags, image.desc))


@dataclass(slots=True)
class CountingOpener:
    """An opener that counts how often it was opened, and how many streams are still open."""

    data: bytes
    chunk: int = 64 * 1024
    opened: int = 0
    still_open: int = 0
    fail_after: int | None = None  # bytes
    error: Exception = field(default_factory=lambda: RuntimeError("the source broke"))
    stop_after: int | None = None  # bytes; then nothing more comes
    stopped: anyio.Event = field(default_factory=anyio.Event)

    def __call__(self, start: int = 0) -> AbstractAsyncContextManager[ByteStream]:
        """Open it; it is read from its first byte, whatever is wanted of it."""
        return skip(self._open(), start)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[ByteStream]:
        self.opened += 1
        self.still_open += 1
        try:
            yield self._chunks()
        finally:
            self.still_open -= 1

    async def _chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), self.chunk):
            if self.fail_after is not None and start >= self.fail_after:
                raise self.error
            if self.stop_after is not None and start >= self.stop_after:
                self.stopped.set()
                await anyio.sleep_forever()
            yield self.data[start : start + self.chunk]


def opener_of(data: bytes) -> Opener:
    """An opener of bytes."""
    return BytesOpener(data)
