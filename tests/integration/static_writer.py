"""A process that publishes one image to a static registry: what the kill tests kill and the memory tests measure.

`python -m tests.integration.static_writer '{"path": …}' publish NOTE TAG…` or `… push BYTES`. Prints its peak memory in
bytes.
"""

import hashlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio import to_thread

from ocisync.content.object_store import ObjectStore
from ocisync.content.repository import ByteStream, Opener
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.s3.options import S3Options
from ocisync.stores.s3.store import open_s3
from ocisync.stores.static.registry import StaticRegistry
from tests.contract.graphs import make_image, make_index, publish_image

MIB = 1024 * 1024
_BLOCK = bytes(range(256)) * 1024  # 256 KiB


@asynccontextmanager
async def opened(where: dict[str, object]) -> AsyncIterator[ObjectStore]:
    """A directory (`path`) or a bucket (S3Options' fields)."""
    if "path" in where:
        yield DirectoryStore(Path(str(where["path"])))
        return
    async with open_s3(S3Options(**where)) as store:  # type: ignore[arg-type]
        yield store


async def publish(store: ObjectStore, note: str, *tags: str) -> None:
    """A two-platform image, one of whose layers is large enough for parts of 5 MiB."""
    image = make_index(make_image(f"{note} amd64"), make_image(f"{note} arm64"))
    repository = StaticRegistry(store).repository("library/app")
    layer = Descriptor(media_types.OCI_LAYER, _digest(11 * MIB), 11 * MIB)
    await repository.push(layer, generated(11 * MIB))
    await publish_image(repository, image, *tags)


async def push(store: ObjectStore, size: str) -> None:
    """One generated layer."""
    count = int(size)
    layer = Descriptor(media_types.OCI_LAYER, _digest(count), count)
    await StaticRegistry(store).repository("library/app").push(layer, generated(count))


def generated(size: int) -> Opener:
    """An opener of so many bytes, made as they are read."""

    @asynccontextmanager
    async def opened(start: int) -> AsyncIterator[ByteStream]:
        yield _blocks(start, size)

    return opened


async def _blocks(start: int, size: int) -> AsyncIterator[bytes]:
    """From one byte on: whoever takes up an upload that was cut off needs no more."""
    while start < size:
        block = _BLOCK[start % len(_BLOCK) :][: size - start]
        yield block
        start += len(block)


def _digest(size: int) -> Digest:
    hasher = hashlib.sha256()
    for start in range(0, size, len(_BLOCK)):
        hasher.update(_BLOCK[: size - start])
    return Digest("sha256:" + hasher.hexdigest())


def _peak() -> int:
    """This program's peak memory in bytes; getrusage would count the process that it was forked from as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


async def main(where: str, what: str, arguments: list[str]) -> None:
    """Do it."""
    async with opened(json.loads(where)) as store:
        if what == "publish":
            await publish(store, *arguments)
        else:
            await push(store, *arguments)
    print(await to_thread.run_sync(_peak))  # noqa: T201


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3:])
