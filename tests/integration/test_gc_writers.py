"""Garbage collection beside writers, and writers of many processes. `make prove` runs the same for longer."""

import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import anyio
import pytest

from ocisync.content.capabilities import RepositoryListing
from ocisync.content.object_store import ObjectStore
from ocisync.errors import ConfigError
from ocisync.maintenance.gc import Collected, collect, plan_collection
from ocisync.maintenance.gc_files import Collection
from ocisync.maintenance.gc_plan import Garbage, Totals
from ocisync.maintenance.reconcile import reconcile
from ocisync.maintenance.verify import Depth, verify
from ocisync.model.descriptor import Descriptor
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.static import layout
from ocisync.stores.static.options import StaticOptions
from ocisync.stores.static.registry import StaticRegistry
from ocisync.stores.static.registry_context import RegistryContext
from ocisync.stores.static.repository import StaticRepository
from ocisync.sync.reports import JobReport
from tests.contract.graphs import make_image, publish_image, push_image
from tests.integration.registry_writer import NAME, Moves, bring, missing, opened
from tests.integration.static_targets import KINDS, Kind, keys, put, read_json
from tests.integration.test_gc import gc, grow_old, untag
from tests.servers.command import started
from tests.servers.forks import Process
from tests.servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, Seaweed

MOVES: dict[Kind, Moves] = {
    "directory": Moves(turns=30, variants=16, grace=0.3),
    "s3": Moves(turns=16, variants=40, grace=3.0),  # its dates are whole seconds
}


def new_place(kind: Kind, folder: Path, s3: Seaweed) -> dict[str, object]:
    """Where writers of other processes find a new registry."""
    if kind == "directory":
        return {"path": str(folder / "registry")}
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "region": REGION, "path_style": True}
    return {"bucket": s3.bucket().name, "endpoint": s3.endpoint, **keys}


@contextmanager
def writers(count: int, asked: Mapping[str, object]) -> Iterator[Sequence[Process]]:
    """So many processes."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                started(json.dumps({**asked, "writer": number}), module="tests.integration.registry_writer")
            ).process
            for number in range(count)
        ]


async def prove_tags(where: dict[str, object], conditional: bool, processes: int, tags: int) -> None:
    """Writers of many processes publish into one repository: its list has every tag, in lexical order."""
    with writers(processes, {"where": where, "tags": tags, "conditional": conditional}) as running:
        codes = [await anyio.to_thread.run_sync(process.wait, 600) for process in running]
    assert codes == [0] * processes
    async with opened(where) as store:
        wanted = sorted(f"w{writer}-{number:03}" for writer in range(processes) for number in range(tags))
        assert await read_json(store, layout.tags_key(NAME)) == {"name": NAME, "tags": wanted}
        await put(store, layout.tags_key(NAME), layout.tags_list_body(NAME, ["only-mine"]))
        await reconcile(StaticRegistry(store).audit())
        assert await read_json(store, layout.tags_key(NAME)) == {"name": NAME, "tags": wanted}
        assert (await verify(StaticRegistry(store).audit(), Depth())).ok


async def prove_collection(where: dict[str, object], processes: int, moves: Moves, tmp_path: Path) -> tuple[int, int]:
    """Collect again and again while writers move tags among images they share; (collections, objects removed)."""
    asked, grace = {"where": where, **asdict(moves)}, moves.grace
    rounds = removed = 0
    with writers(processes, asked) as running:
        async with opened(where) as store:
            while any(process.poll() is None for process in running):
                audit = StaticRegistry(store, options=StaticOptions(grace=grace)).audit()
                try:
                    _, done = await Collection(audit, "out", grace, 1.0, tmp_path / "journal.jsonl").run()
                except ConfigError:
                    continue
                assert not done.failures, done.failures
                rounds, removed = rounds + 1, removed + done.removed
        assert [process.wait() for process in running] == [0] * processes
    async with opened(where) as store:
        report = await verify(StaticRegistry(store).audit(), Depth(deep=True))
        assert report.ok, report.as_json()
        await grow_old(store, grace)
        await gc(store, tmp_path, grace)
        await _check_nothing_left(store, moves)
    return rounds, removed


async def _check_nothing_left(store: ObjectStore, moves: Moves) -> None:
    repository = StaticRegistry(store).repository(NAME)
    roots = {(await repository.resolve(tag)).digest for tag in await repository.tags()}
    kept = [image for turn in range(moves.variants) if (image := moves.image(0, turn)).desc.digest in roots]
    wanted = {desc.digest for image in kept for desc in (image.desc, *(desc for desc, _ in image.blobs))}
    assert set((await repository.list_all()).sizes) == wanted


@pytest.mark.parametrize("conditional", [True, False], ids=["conditional", "unconditional"])
async def test_eight_processes_publish_into_one_repository(conditional: bool, tmp_path: Path, s3: Seaweed) -> None:
    await prove_tags(new_place("s3", tmp_path, s3), conditional, 8, 4)


@pytest.mark.parametrize("kind", KINDS)
async def test_collecting_beside_running_writers(kind: Kind, tmp_path: Path, s3: Seaweed) -> None:
    rounds, removed = await prove_collection(new_place(kind, tmp_path, s3), 4, MOVES[kind], tmp_path)
    assert rounds > 1
    assert removed > 10 or kind == "s3"


class Paused(StaticRepository):
    """A writer that is stopped at one point of its publication, and goes on when the world has changed."""

    at = ""
    meanwhile: Callable[[], Awaitable[object]]

    async def _pause(self, point: str) -> None:
        if point == self.at:
            self.at = ""
            await self.meanwhile()

    async def push_manifests(self, roots: Sequence[Descriptor]) -> None:
        await self._pause("before its root lies there")
        await super().push_manifests(roots)
        await self._pause("when its root lies there")

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        await self._pause("after its last look")
        await super().publish(tags)


@pytest.mark.parametrize("point", ["before its root lies there", "when its root lies there", "after its last look"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_paused_writer_publishes_nothing_that_lacks_a_blob(
    kind: Kind, point: str, tmp_path: Path, s3: Seaweed
) -> None:
    """Its existence checks found old blobs; it sleeps for longer than the grace period while gc takes them."""
    async with opened(new_place(kind, tmp_path, s3)) as store:
        image, grace = make_image("reused", layers=3), 3.0
        await push_image(StaticRegistry(store).repository(NAME), image)
        await grow_old(store, grace)
        target = StaticRegistry(store, options=StaticOptions(grace=grace)).repository(NAME)
        paused = Paused(target._context, NAME)
        paused.at, removed = point, []

        async def meanwhile() -> None:
            await grow_old(store, grace)
            removed.append((await gc(store, tmp_path, grace)).removed)

        paused.meanwhile = meanwhile
        report = await bring(paused, "tag", image)
        assert report.ok, report
        assert removed == [len(image.blobs) + (point != "before its root lies there")]
        assert await missing(target, image) == []
        assert (await target.resolve("tag")).digest == image.desc.digest
        assert (await verify(StaticRegistry(store).audit(), Depth(deep=True))).ok


@pytest.mark.parametrize("kind", KINDS)
async def test_a_writer_gives_no_list_of_referrers_to_what_was_collected_after_its_last_look(
    kind: Kind, tmp_path: Path, s3: Seaweed
) -> None:
    async with opened(new_place(kind, tmp_path, s3)) as store:
        grace = 4.0 if kind == "s3" else 1.0  # S3's dates are whole seconds
        registry, image = StaticRegistry(store), make_image("new")
        await publish_image(registry.repository(NAME), make_image("old"), "old")
        await untag(store, NAME, "old")
        await grow_old(store, grace)
        paused, removed = Paused(registry.repository(NAME)._context, NAME), []

        async def meanwhile() -> None:
            removed.append((await gc(store, tmp_path, grace)).removed)

        paused.at, paused.meanwhile = "after its last look", meanwhile
        assert (await bring(paused, "tag", image)).ok
        assert removed != [0]
        assert await keys(store, f"v2/{NAME}/referrers/") == [layout.referrers_key(NAME, image.desc.digest)]
        assert (await verify(registry.audit(), Depth(deep=True))).ok


@pytest.mark.parametrize("kind", KINDS)
async def test_a_collector_that_pauses_before_it_removes_takes_nothing_that_is_tagged_meanwhile(
    kind: Kind, tmp_path: Path, s3: Seaweed
) -> None:
    """It has looked at everything, and sleeps; a writer finds old content, and wants to tag it."""
    async with opened(new_place(kind, tmp_path, s3)) as store:
        image, grace = make_image("reused", layers=3), 60.0
        repository = StaticRegistry(store, options=StaticOptions(grace=grace)).repository(NAME)
        await push_image(repository, image)
        await grow_old(store, 1.0)
        looked, goes_on, reports = anyio.Event(), anyio.Event(), list[JobReport]()

        async def pause(_: Sequence[Garbage]) -> None:
            looked.set()
            await goes_on.wait()

        async def write() -> None:
            await looked.wait()
            reports.append(await bring(Waiting(repository._context, NAME, goes_on), "tag", image))

        audit, doomed = StaticRegistry(store).audit(), list[Garbage]()
        async for one in plan_collection(audit, 1.0, Totals()):
            doomed.append(one)
        done = Collected()
        with anyio.fail_after(100):
            async with anyio.create_task_group() as group:
                group.start_soon(write)
                await collect(audit, NAME, doomed, 1.0, pause, done)
        assert done.removed == len(image.blobs)
        assert [report.ok for report in reports] == [True]
        assert await missing(repository, image) == []
        assert not [key for key in await keys(store) if layout.COLLECTING in key]


class Waiting(StaticRepository):
    """A writer that lets a collector go on when its own listing has shown what the collector is about to remove."""

    def __init__(self, context: RegistryContext, name: str, goes_on: anyio.Event) -> None:
        super().__init__(context, name)
        self._goes_on = goes_on
        self._is_staged = False

    async def push_manifests(self, roots: Sequence[Descriptor]) -> None:
        await super().push_manifests(roots)
        self._is_staged = True

    async def list_all(self, outline: RepositoryListing | None = None) -> RepositoryListing:
        found = await super().list_all(outline)
        if self._is_staged:
            self._goes_on.set()
        return found


async def test_the_warning_of_a_collector_that_was_killed_does_not_hold_up_writers(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "registry", fsync=False)
    registry = StaticRegistry(store)
    warning = f"v2/{NAME}/manifests/{layout.COLLECTING}0123456789abcdef"
    await put(store, warning, b"")
    assert (await registry.repository(NAME).list_all()).is_collected
    _age(store, warning, 600)
    assert not (await registry.repository(NAME).list_all()).is_collected
    async with registry.audit().repository(NAME).gc_barrier():
        assert (await registry.repository(NAME).list_all()).is_collected
        assert await store.head(warning) is None
    assert await keys(store) == []


async def test_what_is_reused_is_made_young(tmp_path: Path) -> None:
    """Older than half the grace period, and not yet older than all of it."""
    store = DirectoryStore(tmp_path / "registry", fsync=False)
    image = make_image("reused")
    repository = StaticRegistry(store, options=StaticOptions(grace=1000.0)).repository(NAME)
    await push_image(repository, image)
    (old, _), (young, _), *_ = image.blobs
    _age(store, layout.blob_key(NAME, old.digest), 600)
    _age(store, layout.blob_key(NAME, young.digest), 400)
    before = (await repository.list_all()).modified
    assert (await bring(repository, "tag", image)).ok
    after = (await repository.list_all()).modified
    assert after[old.digest] > before[old.digest] + 500
    assert after[young.digest] == before[young.digest]


def _age(store: DirectoryStore, key: str, seconds: float) -> None:
    os.utime(store.root / key, (time.time() - seconds,) * 2)
