"""A tag's date on S3 is that of its object: what is published unchanged is not written anew, whatever ETags are.

Under SSE-KMS and with customers' keys an ETag is no MD5 of the content, so that two objects with the same bytes have
different ones (AWS, "Checking object integrity": "ETags").
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ocisync.content.object_store import ObjectInfo
from ocisync.stores.s3.store import S3Store, open_s3
from ocisync.stores.static.registry import StaticRegistry
from tests.contract.graphs import make_image, publish_image
from tests.contract.test_s3 import options_for
from tests.servers.seaweed import Bucket

pytestmark = pytest.mark.anyio


class Keyed:
    """A bucket whose ETags differ from object to object, in the form of an MD5 (SSE-KMS) or in another."""

    def __init__(self, store: S3Store, form: str) -> None:
        self._store = store
        self._form = form
        self.written: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _salt(self, info: ObjectInfo) -> ObjectInfo:
        salted = hashlib.md5(f"{info.key} {info.etag}".encode()).hexdigest()
        return info._replace(etag=self._form.format(salted)) if self._form else info

    async def head(self, key: str) -> ObjectInfo | None:
        found = await self._store.head(key)
        return self._salt(found) if found else None

    async def put(self, key: str, *arguments: Any, **more: Any) -> ObjectInfo:
        if "/manifests/" in key:
            self.written.append(key.rpartition("/")[2])
            more.pop("if_match", None)
        return self._salt(await self._store.put(key, *arguments, **more))

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        async for info in self._store.list(prefix, start_after=start_after):
            yield self._salt(info) if "/manifests/" in info.key else info

    @asynccontextmanager
    async def open(self, key: str, **more: Any) -> AsyncIterator[Any]:
        async with self._store.open(key, **more) as (info, stream):
            yield info, stream


@pytest.mark.parametrize("form", ["", '"{}"', '"{}-kms"'])
async def test_a_tag_that_is_published_unchanged_is_not_written(bucket: Bucket, form: str) -> None:
    one, two = make_image("one"), make_image("two")
    assert len(one.raw) == len(two.raw)
    async with open_s3(options_for(bucket)) as opened:
        store = Keyed(opened, form)
        await publish_image(StaticRegistry(store).repository("app"), one, "1")
        await publish_image(StaticRegistry(store).repository("app"), two, "2")
        store.written.clear()
        await StaticRegistry(store).repository("app").publish({"1": one.desc})
        assert "1" not in store.written
        await StaticRegistry(store).repository("app").publish({"1": two.desc})
        assert "1" in store.written, "a tag that moves to a manifest of the same size is written"
        assert (await StaticRegistry(store).repository("app").resolve("1")).digest == two.desc.digest
