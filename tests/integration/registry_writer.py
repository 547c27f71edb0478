"""A process that publishes to a static registry shared with others: tags of its own, or one that moves about.

`python -m tests.integration.registry_writer '{"where": …, "writer": 3, "tags": 50}'`; `turns` instead of `tags` moves
one tag among a few images, each of which is checked to be whole after its publication and before the next.
"""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from ocisync.content.memory import MemoryRepository
from ocisync.content.protocols import ObjectStore, Source, Target
from ocisync.spec.locator import Locator, StaticLocator, TargetLocator
from ocisync.stores.static.directory import DirectoryStore
from ocisync.stores.static.options import StaticOptions
from ocisync.stores.static.repository import StaticRepository
from ocisync.stores.static.s3 import open_s3
from ocisync.stores.static.s3_options import S3Options
from ocisync.stores.static.s3_probe import Abilities
from ocisync.stores.static.target import StaticRegistry
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport
from ocisync.sync.run import run_job
from ocisync.sync.select import TagSelection
from ocisync.sync.stores import Tools
from tests.contract.graphs import Image, make_image, publish_image

NAME = "shared"
VARIANTS = 3  # images among which a tag moves: what one turn leaves behind, a later one uses again


@asynccontextmanager
async def opened(where: dict[str, object], conditional: bool = True) -> AsyncIterator[ObjectStore]:
    """A directory (`path`) or a bucket (S3Options' fields)."""
    if "path" in where:
        yield DirectoryStore(Path(str(where["path"])), fsync=False)
        return
    async with open_s3(S3Options(**where)) as store:  # type: ignore[arg-type]
        if not conditional:
            store._abilities = Abilities(conditional_writes=False)
        yield store


class OneTarget:
    """`sync.stores.Stores` with one source and one target."""

    def __init__(self, source: MemoryRepository, target: StaticRepository) -> None:
        self._source = source
        self._target = target

    @asynccontextmanager
    async def source(self, locator: Locator) -> AsyncIterator[Source]:
        yield self._source

    @asynccontextmanager
    async def target(self, locator: TargetLocator) -> AsyncIterator[Target]:
        yield self._target


async def bring(target: StaticRepository, tag: str, image: Image) -> JobReport:
    """Copy an image as a rule would."""
    source = MemoryRepository()
    await publish_image(source, image, tag)
    job = Job("writer", StaticLocator("memory", "x"), TargetLocator("out", NAME), TagSelection({tag: tag}), recheck=0.0)
    return await run_job(job, Tools(OneTarget(source, target)))


def variant(writer: int, turn: int) -> Image:
    """An image of which other writers have a part too."""
    return make_image(f"variant {(writer + turn) % VARIANTS}", layers=2)


async def missing(target: StaticRepository, image: Image) -> list[str]:
    """What an image lacks."""
    parts = [image.desc, *(desc for desc, _ in image.blobs)]
    return [desc.digest for desc in parts if not await target.exists(desc)]


async def write_tags(store: ObjectStore, writer: int, count: int) -> None:
    """So many tags, one publication each."""
    repository = StaticRegistry(store).repository(NAME)
    for number in range(count):
        await publish_image(repository, make_image(f"{writer}", layers=1), f"w{writer}-{number:03}")


async def move_tag(store: ObjectStore, writer: int, turns: int, grace: float) -> int:
    """One tag among the variants; how often its image lacked something."""
    lost = 0
    for turn in range(turns):
        repository = StaticRegistry(store, options=StaticOptions(grace=grace)).repository(NAME)
        if turn and await _is_published(repository, writer, turn - 1):
            lost += bool(await missing(repository, variant(writer, turn - 1)))
        report = await bring(repository, f"w{writer}", variant(writer, turn))
        if report.ok:
            lost += bool(await missing(repository, variant(writer, turn)))
    return lost


async def _is_published(repository: StaticRepository, writer: int, turn: int) -> bool:
    return bool((await repository.resolve(f"w{writer}")).digest == variant(writer, turn).desc.digest)


async def main(asked: dict[str, object]) -> int:
    """Do it; the number of losses."""
    where, writer = asked["where"], int(str(asked["writer"]))
    assert isinstance(where, dict)
    async with opened(where, bool(asked.get("conditional", True))) as store:
        if "tags" in asked:
            await write_tags(store, writer, int(str(asked["tags"])))
            return 0
        return await move_tag(store, writer, int(str(asked["turns"])), float(str(asked["grace"])))


if __name__ == "__main__":
    sys.exit(anyio.run(main, json.loads(sys.argv[1])))
