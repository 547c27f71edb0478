"""What the tests of the registry client share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from ocisync.content.verify import verify_stream
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, sha256
from ocisync.stores.registry.client import open_registries
from ocisync.stores.registry.options import RegistryOptions
from ocisync.stores.registry.repository import RegistryRepository
from tests.integration.bulk_engines import Engine
from tests.servers import images

NAME = "some/image"
BLOB = images.noise(3_000_000, "a layer")
LAYER = Descriptor(media_types.OCI_LAYER, sha256(BLOB), len(BLOB))
BLOB_PATH = f"/v2/{NAME}/blobs/{LAYER.digest}"
QUICK = RegistryOptions(first_wait=0.001, longest_wait=0.01, idle_timeout=20.0)


def blob_desc(data: bytes) -> Descriptor:
    """A layer's descriptor."""
    return Descriptor(media_types.OCI_LAYER, sha256(data), len(data))


def manifest_desc(image: images.Image | images.Index) -> Descriptor:
    """A manifest's descriptor, without its bytes."""
    return Descriptor(image.media_type, Digest(image.digest), len(image.manifest))


async def read(repository: RegistryRepository, desc: Descriptor) -> bytes:
    """Content, as a copier reads it: verified."""
    async with repository.open(desc) as stream:
        return b"".join([chunk async for chunk in verify_stream(stream, desc)])


@asynccontextmanager
async def repository_at(
    host: str, options: RegistryOptions = QUICK, name: str = NAME
) -> AsyncIterator[RegistryRepository]:
    """One repository, with a client of its own."""
    async with open_registries({host: replace(options, bulk_from=Engine.bulk_from)}) as client:
        yield client.repository(host, name)
