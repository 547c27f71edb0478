"""Inventories: what is written is read back, and nothing else is taken."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.bundles.blob_table import BlobEntry, BlobTable
from ocisync.bundles.inventory import (
    Base,
    BundledImage,
    BundleInventory,
    Removal,
    Volume,
    bundle_of,
    volume_names,
)
from ocisync.bundles.inventory_json import parse_inventory, render_inventory
from ocisync.errors import BundleError, OcisyncError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256
from ocisync.model.media_types import OCI_INDEX, OCI_MANIFEST

MANIFEST, LAYER, OLD = sha256(b"manifest"), sha256(b"layer"), sha256(b"old")
INVENTORY = BundleInventory(
    "mirror",
    7,
    base=Base("mirror-0006", sha256(b"base")),
    volumes=(Volume(2000, "0" * 64), Volume(3000, "1" * 64)),
    index=Descriptor(OCI_INDEX, sha256(b"index"), 5),
    images=(BundledImage("team/app", "v1", MANIFEST, (MANIFEST,)),),
    removed=(Removal("team/app", "v0", "mirror-0005"),),
    omitted={"team/app": {MANIFEST: [OLD]}},
    blobs=BlobTable(
        {
            MANIFEST: BlobEntry(8, 1, media_type=OCI_MANIFEST),
            LAYER: BlobEntry(10, 1, (4, 6)),
            OLD: BlobEntry(3, 0, (), "mirror-0002"),
        }
    ),
)


def test_what_is_written_is_read_back() -> None:
    assert parse_inventory(render_inventory(INVENTORY)) == INVENTORY


def test_it_is_json_with_a_line_for_each_blob() -> None:
    raw = render_inventory(INVENTORY)
    assert json.loads(raw)["blobs"][LAYER] == {"size": 10, "volume": 1, "parts": [4, 6]}
    assert sum(line.startswith(b'"sha256:') for line in raw.splitlines()) == 3


def _change(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(render_inventory(INVENTORY))
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.pop("format"),
        lambda one: one.update(kind="receipt"),
        lambda one: one.update(kind="other"),
        lambda one: one.update(id="mirror-0008"),
        lambda one: one.update(name="../mirror"),
        lambda one: one.update(sequence=True),
        lambda one: one.update(sequence=0),
        lambda one: one.update(base={"id": "x y", "digest": MANIFEST}),
        lambda one: one.update(index=None),
        lambda one: one.update(images={}),
        lambda one: one["images"][0].update(referrers=[OLD]),
        lambda one: one["images"][0].update(other=1),
        lambda one: one["blobs"].update({LAYER: {"size": 10}}),
        lambda one: one["blobs"].update({LAYER: {"size": 10, "volume": 1, "bundle": "mirror-0001"}}),
        lambda one: one["blobs"].update({LAYER: {"size": 10, "volume": 0}}),
        lambda one: one["blobs"].update({LAYER: {"size": 10, "volume": 2, "parts": [4, 6]}}),
        lambda one: one["blobs"].update({LAYER: {"size": 10, "volume": 1, "parts": [10, 0]}}),
        lambda one: one["blobs"].update({LAYER: {"size": 1.5, "volume": 1}}),
        lambda one: one["blobs"].update({LAYER: {"size": 10, "volume": 1, "more": 1}}),
        lambda one: one["blobs"].update({LAYER: {"size": 10, "bundle": "mirror-0007"}}),
        lambda one: one["blobs"].update({LAYER: {"size": 5 << 20, "volume": 1, "type": OCI_MANIFEST}}),
        lambda one: one["blobs"].update({LAYER: {"size": 10, "volume": 1, "type": "text/html"}}),
        lambda one: one["blobs"].update({"md5:x": {"size": 10, "volume": 1}}),
    ],
)
def test_what_cannot_be_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(BundleError):
        parse_inventory(_change(change))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format": 1, "format": 2}',
        b'{"size": 1, "volume": 1, "x": NaN}',
        b'{"size": 1, "volume": 1}',
        b"\xff",
        b'{"size":' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_inventory(raw: bytes) -> None:
    with pytest.raises(BundleError):
        parse_inventory(raw)


@given(st.binary(max_size=200), st.integers(0, 2000))
def test_whatever_stands_there_is_refused_or_read(garbage: bytes, at: int) -> None:
    raw = bytearray(render_inventory(INVENTORY))
    raw[at : at + len(garbage)] = garbage
    try:
        parse_inventory(bytes(raw))
    except OcisyncError:
        return


def test_names_of_files() -> None:
    assert volume_names("mirror-0007", 1) == ["mirror-0007.tar"]
    assert volume_names("mirror-0007", 2) == ["mirror-0007.001.tar", "mirror-0007.002.tar"]
    assert bundle_of("mirror-0007.001.tar") == bundle_of("mirror-0007.bundle.json") == "mirror-0007"
    assert bundle_of("mirror-0007.receipt.json") is None
    assert bundle_of("app.tar") is None


@pytest.mark.parametrize("values", [b"[]," * 400_000, b"{},[[" * 200_000, b",".join([b'"":0'] * 400_000)])
def test_more_values_than_text_are_refused_before_they_fill_the_memory(values: bytes) -> None:
    with pytest.raises(BundleError, match="more values than text"):
        parse_inventory(b'{"x": [' + values + b"1]}")


def test_the_shortest_removals_are_not_too_many_values() -> None:
    removed = tuple(Removal(f"a/{number:x}", "v", "mirror-0005") for number in range(30_000))
    made = replace(INVENTORY, removed=removed)
    assert parse_inventory(render_inventory(made)).removed == removed
