"""Writers that share a repository: no tag is lost, and the list of tags names them all. FAULTS 42."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from ocisync.content.object_store import ObjectStore
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.s3.capabilities import Capabilities
from ocisync.stores.s3.store import open_s3
from ocisync.stores.static.registry import StaticRegistry
from tests.contract.graphs import make_image, publish_image
from tests.contract.test_s3 import options_for
from tests.servers.command import started
from tests.servers.seaweed import Bucket

WRITERS, ROUNDS = 8, 4


@asynccontextmanager
async def writers(kind: str, folder: Path, bucket: Bucket) -> AsyncIterator[list[ObjectStore]]:
    """Stores that know nothing of each other."""
    async with AsyncExitStack() as stack:
        stores: list[ObjectStore] = []
        for _ in range(WRITERS):
            if kind == "directory":
                stores.append(DirectoryStore(folder, fsync=False))
                continue
            store = await stack.enter_async_context(open_s3(options_for(bucket)))
            if kind == "s3 without conditions":
                store._capabilities = Capabilities(conditional_writes=False)
            stores.append(store)
        yield stores


@pytest.mark.parametrize("kind", ["directory", "s3", "s3 without conditions"])
async def test_fault_42_eight_writers_lose_no_tag(kind: str, tmp_path: Path, bucket: Bucket) -> None:
    async with writers(kind, tmp_path / "registry", bucket) as stores:

        async def write(number: int) -> None:
            repository = StaticRegistry(stores[number]).repository("shared")
            for turn in range(ROUNDS):
                await publish_image(repository, make_image(f"{number} {turn}"), f"w{number}", f"w{number}-{turn}")

        async with anyio.create_task_group() as group:
            for number in range(WRITERS):
                group.start_soon(write, number)
        repository = StaticRegistry(stores[0]).repository("shared")
        last = {f"w{number}": make_image(f"{number} {ROUNDS - 1}").desc for number in range(WRITERS)}
        assert {tag: await repository.resolve(tag) for tag in last} == last
        every = sorted([*last, *(f"{tag}-{turn}" for tag in last for turn in range(ROUNDS))])
        assert list(await repository.tags()) == every
        async with stores[0].open("v2/shared/tags/list") as (_, stream):
            listed = json.loads(b"".join([chunk async for chunk in stream]))
        assert listed == {"name": "shared", "tags": every}


def test_fault_42_processes_that_share_a_directory_lose_no_tag(tmp_path: Path) -> None:
    where = json.dumps({"path": str(tmp_path / "registry")})
    words = [(where, "publish", f"image {number}", f"tag-{number}", "shared") for number in range(4)]
    with ExitStack() as stack:
        running = [stack.enter_context(started(*one, module="tests.integration.static_writer")) for one in words]
        assert [child.process.wait(60) for child in running] == [0, 0, 0, 0]
    listed = json.loads((tmp_path / "registry/v2/library/app/tags/list").read_text())
    assert listed["tags"] == ["shared", "tag-0", "tag-1", "tag-2", "tag-3"]
    assert list((tmp_path / "registry/.ocisync/tmp").iterdir()) == []
