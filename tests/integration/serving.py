"""A small static registry to serve, and raw looks at the server from outside."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from aiohttp import ClientSession
from yarl import URL

from ocisync.content.object_store import ObjectHeaders, ObjectStore
from ocisync.content.openers import BytesOpener
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe, descriptor_to_json
from ocisync.serve.app import registry_app
from ocisync.serve.server import serve
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.s3.options import S3Options
from ocisync.stores.s3.store import open_s3
from ocisync.stores.static import layout
from tests.servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, Bucket


def drain(one: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    try:
        while data := one.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


@dataclass(frozen=True, slots=True)
class Image:
    """An image of one layer, by its descriptors, each with its bytes."""

    manifest: Descriptor
    config: Descriptor
    layer: Descriptor


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document

    def error(self) -> str:
        """The code of the only error, once the document has the specification's form."""
        (error,) = json.loads(self.body)["errors"]
        assert isinstance(error["message"], str)
        assert error["message"]
        return str(error["code"])


@dataclass(frozen=True, slots=True)
class Registry:
    """A served registry: its store to write to, its URL to ask."""

    store: ObjectStore
    url: str
    session: ClientSession

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """One request; the path goes over the wire as it stands, header names are written with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, URL(self.url + path, encoded=True), headers=named) as found:
            lower = {name.lower(): value for name, value in found.headers.items()}
            return Reply(found.status, lower, await found.read())


@asynccontextmanager
async def served(store: ObjectStore) -> AsyncIterator[Registry]:
    """Serve a store on loopback while the block lasts."""
    async with (
        serve(registry_app(store), "127.0.0.1", 0) as url,
        ClientSession(auto_decompress=False, skip_auto_headers=("Accept-Encoding",)) as session,
    ):
        yield Registry(store, url, session)


@asynccontextmanager
async def store_at(place: Path | Bucket) -> AsyncIterator[ObjectStore]:
    """The store in a folder or a bucket."""
    if isinstance(place, Path):
        yield DirectoryStore(place, fsync=False)
        return
    options = S3Options(
        place.name,
        endpoint=place.endpoint,
        region=REGION,
        path_style=True,
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
    )
    async with open_s3(options) as store:
        yield store


async def put(store: ObjectStore, key: str, data: bytes, headers: ObjectHeaders = layout.JSON_HEADERS) -> None:
    """Write one object."""
    await store.put(key, BytesOpener(data), headers, size=len(data))


async def push(store: ObjectStore, name: str, *content: Descriptor) -> None:
    """Write content under its digests."""
    for desc in content:
        assert desc.data is not None
        await put(store, layout.content_key(name, desc), desc.data, layout.content_headers(desc))


async def publish(store: ObjectStore, name: str, *tags: str, layer: bytes = b"a layer") -> Image:
    """Write an image under tags, and the list of tags."""
    image = image_of(layer)
    await push(store, name, image.layer, image.config, image.manifest)
    for tag in tags:
        assert image.manifest.data is not None
        await put(store, layout.manifest_key(name, tag), image.manifest.data, layout.tag_headers(image.manifest))
    await put(store, layout.tags_key(name), layout.tags_list_body(name, tags))
    return image


def image_of(layer: bytes) -> Image:
    """An image whose only layer holds these bytes."""
    blob = describe(layer, media_types.OCI_LAYER_GZIP)
    config = describe(b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"}}', media_types.OCI_CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": descriptor_to_json(config),
        "layers": [descriptor_to_json(blob)],
    }
    return Image(describe(json.dumps(document).encode(), media_types.OCI_MANIFEST), config, blob)


async def raw_request(url: str, lines: bytes) -> bytes:
    """Bytes over a socket of their own, and all that comes back; no client may tidy them up."""
    target = URL(url)
    assert target.host
    assert target.port
    with anyio.fail_after(10):
        async with await anyio.connect_tcp(target.host, target.port) as stream:
            await stream.send(lines)
            return b"".join([chunk async for chunk in stream])
