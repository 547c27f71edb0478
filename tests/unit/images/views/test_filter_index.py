"""A source whose indexes list the wanted images only: read once, nested indexes too, everything else as it is."""

from __future__ import annotations

import json

import pytest

from ocisync.content.verify import read_manifest
from ocisync.images.views.filter_index import FilteredIndexView
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.manifest import parse_manifest
from ocisync.model.platform import parse_platform
from ocisync.model.platform_filter import PlatformChoice
from ocisync.sync.ledger import MemoryLedger
from tests.unit.sync.graphs import as_json, image, put, tag
from tests.unit.sync.recording import Recording

pytestmark = pytest.mark.anyio

AMD64 = PlatformChoice((parse_platform("linux/amd64"),))


def platform(desc: Descriptor, architecture: str) -> dict[str, object]:
    return {**as_json(desc), "platform": {"os": "linux", "architecture": architecture}}


def index(source: Recording, *entries: dict[str, object]) -> Descriptor:
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
    return put(source, json.dumps(document).encode(), media_types.OCI_INDEX)


async def test_an_index_is_read_once_and_a_plain_image_never() -> None:
    source = Recording()
    one, other = image(source, b"one"), image(source, b"other")
    root = index(source, platform(one, "amd64"), platform(other, "arm64"))
    tag(source, "both", root)
    tag(source, "plain", one)
    ledger = MemoryLedger()
    first = await FilteredIndexView(source, AMD64, ledger).resolve("both")
    assert source.opened == [root.digest]
    again = FilteredIndexView(source, AMD64, ledger)
    assert await again.resolve("both") == first
    assert await again.resolve("plain") == one
    assert source.opened == [root.digest]
    raw = await read_manifest(again, first)
    assert [child.digest for child in parse_manifest(raw).children] == [one.digest]
    assert (await again.resolve(first.digest)).digest == first.digest
    assert await read_manifest(again, one) == source.content[one.digest][1]


async def test_an_index_of_wanted_images_only_keeps_its_digest() -> None:
    source = Recording()
    root = index(source, platform(image(source, b"one"), "amd64"))
    tag(source, "1", root)
    assert await FilteredIndexView(source, AMD64, MemoryLedger()).resolve("1") == root


async def test_nested_indexes_are_narrowed_too() -> None:
    source = Recording()
    one, other = image(source, b"one"), image(source, b"other")
    inner = index(source, platform(one, "amd64"), platform(other, "arm64"))
    tag(source, "1", index(source, as_json(inner), platform(other, "arm64")))
    view = FilteredIndexView(source, AMD64, MemoryLedger())
    root = await view.resolve("1")
    (child,) = parse_manifest(await read_manifest(view, root)).children
    assert child.digest != inner.digest
    assert [leaf.digest for leaf in parse_manifest(await read_manifest(view, child)).children] == [one.digest]
