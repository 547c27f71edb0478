"""What tests of whole static registries share: a store of each kind, artifacts with a subject, and looking at bytes."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ocisync.content.object_store import ObjectHeaders, ObjectInfo, ObjectStore
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import Opener
from ocisync.errors import NotFound
from ocisync.model import media_types
from ocisync.model.digest import Digest
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.s3.store import S3Store, open_s3
from tests.contract.graphs import Image, described
from tests.contract.test_s3 import options_for
from tests.servers.seaweed import Seaweed

Kind = Literal["directory", "s3"]
KINDS: tuple[Kind, ...] = ("directory", "s3")


@asynccontextmanager
async def open_store(
    kind: Kind, folder: Path, s3: Seaweed, **options: object
) -> AsyncIterator[DirectoryStore | S3Store]:
    """A new, empty store; `options` are S3's."""
    if kind == "directory":
        yield DirectoryStore(folder / "registry", fsync=False)
        return
    async with open_s3(options_for(s3.bucket(), **options)) as store:
        yield store


def make_artifact(subject: Digest, note: str, *, artifact_type: str = "application/x.note") -> Image:
    """An artifact that refers to a manifest."""
    config = (described(b"{}", media_types.OCI_EMPTY), b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        **({"artifactType": artifact_type} if artifact_type else {}),
        "config": {"mediaType": media_types.OCI_EMPTY, "digest": config[0].digest, "size": 2},
        "layers": [{"mediaType": media_types.OCI_EMPTY, "digest": config[0].digest, "size": 2}],
        "subject": {"mediaType": media_types.OCI_MANIFEST, "digest": subject, "size": 1},
        "annotations": {"note": note},
    }
    return Image(json.dumps(document).encode(), media_types.OCI_MANIFEST, (config,))


async def read(store: ObjectStore, key: str) -> bytes | None:
    """An object's bytes, or None."""
    try:
        async with store.open(key) as (_, stream):
            return b"".join([chunk async for chunk in stream])
    except NotFound:
        return None


async def read_json(store: ObjectStore, key: str) -> dict[str, object]:
    """A JSON document that must be there."""
    body = await read(store, key)
    assert body is not None, key
    document = json.loads(body)
    assert isinstance(document, dict)
    return document


async def put(store: ObjectStore, key: str, body: bytes, media_type: str = "application/json") -> ObjectInfo:
    """Write an object as another tool would."""
    return await store.put(key, BytesOpener(body), ObjectHeaders(media_type), size=len(body))


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    """Every key."""
    return [info.key async for info in store.list(prefix)]


async def contents(store: ObjectStore) -> Mapping[str, bytes]:
    """Every object that clients may see."""
    return {key: await read(store, key) or b"" for key in await keys(store, "v2/")}


@dataclass
class Counted:
    """A store that counts what is asked of it."""

    store: S3Store | DirectoryStore
    calls: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def __str__(self) -> str:
        return str(self.store)

    async def head(self, key: str) -> ObjectInfo | None:
        self.calls.append(f"head {key}")
        return await self.store.head(key)

    def open(self, key: str, *, start: int = 0, length: int | None = None) -> object:
        self.calls.append(f"open {key}")
        return self.store.open(key, start=start, length=length)

    def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        self.calls.append(f"list {prefix}")
        return self.store.list(prefix, start_after=start_after)

    async def put(
        self, key: str, opener: Opener, headers: ObjectHeaders, *, size: int, digest: Digest | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo:  # fmt: skip
        self.calls.append(f"put {key}")
        return await self.store.put(key, opener, headers, size=size, digest=digest, if_match=if_match)

    async def delete(self, keys: Sequence[str]) -> None:
        self.calls.append(f"delete {len(keys)}")
        await self.store.delete(keys)
