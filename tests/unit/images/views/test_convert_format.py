"""A converted source remembers what images became, and still finds what lies below them."""

from __future__ import annotations

import json

import pytest

from ocisync.content.memory import MemoryRepository
from ocisync.content.verify import read_manifest
from ocisync.errors import InputError, LimitExceeded
from ocisync.images.views.convert_format import ConvertedSource, Remembered
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.manifest import parse_manifest

pytestmark = pytest.mark.anyio


class Counting(MemoryRepository):
    """Counts what is opened."""

    opened = 0

    def open(self, desc: Descriptor, start: int = 0):  # type: ignore[no-untyped-def]
        self.opened += 1
        return super().open(desc, start)


def keep(store: MemoryRepository, document: dict[str, object], kind: str) -> dict[str, object]:
    desc = describe(json.dumps(document).encode(), kind)
    store.content[desc.digest] = (Descriptor(kind, desc.digest, desc.size), desc.data or b"")
    return {"mediaType": kind, "digest": desc.digest, "size": desc.size}


def multi(store: MemoryRepository, tag: str) -> None:
    config = keep(store, {"rootfs": {"diff_ids": []}}, media_types.OCI_CONFIG)
    image = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": []}
    child = keep(store, image, media_types.OCI_MANIFEST)
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [child]}
    digest = keep(store, index, media_types.OCI_INDEX)["digest"]
    store.tagged[tag] = next(desc for desc, _ in store.content.values() if desc.digest == digest)


async def test_an_image_that_was_converted_before_is_not_read_again() -> None:
    store, remembered = Counting(), remembering()
    multi(store, "1")
    first = await ConvertedSource(store, "docker", remembered=remembered).resolve("1")
    read = store.opened
    again = ConvertedSource(store, "docker", remembered=remembered)
    assert await again.resolve("1") == first
    assert store.opened == read
    root = parse_manifest(await read_manifest(again, first), first.media_type)
    assert root.media_type == media_types.DOCKER_LIST
    child = parse_manifest(await read_manifest(again, root.children[0]))
    assert child.media_type == media_types.DOCKER_MANIFEST


async def test_a_child_is_found_though_its_index_was_not_read() -> None:
    store, remembered = Counting(), remembering()
    multi(store, "1")
    first = ConvertedSource(store, "docker", remembered=remembered)
    root = parse_manifest(await read_manifest(first, await first.resolve("1")))
    again = ConvertedSource(store, "docker", remembered=remembered)
    await again.resolve("1")
    assert parse_manifest(await read_manifest(again, root.children[0])).media_type == media_types.DOCKER_MANIFEST


async def test_indexes_are_not_followed_for_ever() -> None:
    store = MemoryRepository()
    multi(store, "1")
    for _ in range(10):
        inner = store.tagged["1"]
        entry = {"mediaType": inner.media_type, "digest": inner.digest, "size": inner.size}
        index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [entry]}
        digest = keep(store, index, media_types.OCI_INDEX)["digest"]
        store.tagged["1"] = next(desc for desc, _ in store.content.values() if desc.digest == digest)
    with pytest.raises(LimitExceeded):
        await ConvertedSource(store, "docker").resolve("1")


async def test_tags_of_signatures_stay_behind_when_they_are_dropped() -> None:
    store = MemoryRepository()
    multi(store, "1")
    signature = store.tagged["1"].digest.replace(":", "-") + ".sig"
    multi(store, signature)
    assert await ConvertedSource(store, "docker").tags() == ["1", signature]
    dropping = ConvertedSource(store, "docker", drop_signatures=True)
    assert await dropping.tags() == ["1"]
    assert (await dropping.resolve("1")).media_type == media_types.DOCKER_LIST
    with pytest.raises(InputError, match="belongs to it"):
        await ConvertedSource(store, "docker").resolve("1")


def remembering() -> Remembered:
    return {}
