"""A process that publishes to a static registry shared with others: tags of its own, or one that moves about.

`python -m tests.integration.registry_writer '{"where": …, "writer": 3, "tags": 50}'`; `turns` instead of `tags` moves
one tag among a few images, each of which is checked to be whole after its publication and before the next.
"""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from ocisync.content.memory import MemoryRepository
from ocisync.content.object_store import ObjectStore
from ocisync.content.repository import Source, Target
from ocisync.model.locator import Locator, StaticLocator, TargetLocator
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.s3.capabilities import Capabilities
from ocisync.stores.s3.options import S3Options
from ocisync.stores.s3.store import open_s3
from ocisync.stores.static.options import StaticOptions
from ocisync.stores.static.registry import StaticRegistry
from ocisync.stores.static.repository import StaticRepository
from ocisync.sync.context import JobContext
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport
from ocisync.sync.run import run_job
from ocisync.sync.select import TagSelection
from tests.contract.graphs import Image, make_image, publish_image

NAME = "shared"


@asynccontextmanager
async def opened(where: dict[str, object], conditional: bool = True) -> AsyncIterator[ObjectStore]:
    """A directory (`path`) or a bucket (S3Options' fields)."""
    if "path" in where:
        yield DirectoryStore(Path(str(where["path"])), fsync=False)
        return
    async with open_s3(S3Options(**where)) as store:  # type: ignore[arg-type]
        if not conditional:
            store._capabilities = Capabilities(conditional_writes=False)
        yield store


class OneTarget:
    """`sync.context.Stores` with one source and one target."""

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
    return await run_job(job, JobContext(OneTarget(source, target)))


@dataclass(frozen=True, slots=True)
class Moves:
    """A tag that moves among images which all writers share: what one turn leaves behind, a later one uses again."""

    turns: int
    variants: int
    grace: float  # seconds

    def image(self, writer: int, turn: int) -> Image:
        """What the writer's tag points at."""
        return make_image(f"variant {(writer + turn) % self.variants}", layers=2)


async def missing(target: StaticRepository, image: Image) -> list[str]:
    """What an image lacks."""
    parts = [image.desc, *(desc for desc, _ in image.blobs)]
    return [desc.digest for desc in parts if not await target.exists(desc)]


async def write_tags(store: ObjectStore, writer: int, count: int) -> None:
    """So many tags, one publication each."""
    repository = StaticRegistry(store).repository(NAME)
    for number in range(count):
        await publish_image(repository, make_image(f"{writer}", layers=1), f"w{writer}-{number:03}")


async def move_tag(store: ObjectStore, writer: int, moves: Moves) -> int:
    """Move it, each turn in a mirror of its own; how often a published image lacked something."""
    lost, published = 0, None
    for turn in range(moves.turns):
        repository = StaticRegistry(store, options=StaticOptions(grace=moves.grace)).repository(NAME)
        if published is not None:
            lost += bool(await missing(repository, published))
        image = moves.image(writer, turn)
        report = await bring(repository, f"w{writer}", image)
        if report.ok:
            published = image
            lost += bool(await missing(repository, image))
    return lost


async def main(asked: dict[str, object]) -> int:
    """Do it; the number of losses."""
    where, writer = asked["where"], int(str(asked["writer"]))
    assert isinstance(where, dict)
    async with opened(where, bool(asked.get("conditional", True))) as store:
        if "tags" in asked:
            await write_tags(store, writer, int(str(asked["tags"])))
            return 0
        moves = Moves(int(str(asked["turns"])), int(str(asked["variants"])), float(str(asked["grace"])))
        return await move_tag(store, writer, moves)


if __name__ == "__main__":
    sys.exit(anyio.run(main, json.loads(sys.argv[1])))
