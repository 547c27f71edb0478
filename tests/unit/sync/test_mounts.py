"""Blobs that lie in the target's registry already: in the source's repository, in another, below a path of the host."""

from __future__ import annotations

import anyio
import pytest

from ocisync.content.memory import MemoryRepository
from ocisync.model.descriptor import Descriptor
from ocisync.sync.reports import JobReport, Verdict
from ocisync.sync.run import run_job
from ocisync.sync.select import TagSelection
from tests.unit.sync.graphs import image, index, tag
from tests.unit.sync.recording import Recording, job, tools_for

pytestmark = pytest.mark.anyio


class OfRegistry(Recording):
    """A repository of a registry, which mounts from its neighbours."""

    def __init__(self, registry: dict[str, OfRegistry], name: str) -> None:
        super().__init__()
        self.name = name
        self.registry = registry
        self.asked: list[str] = []
        registry[name] = self

    def find_sibling(self, source: object) -> str | None:
        return source.name if isinstance(source, OfRegistry) and source.registry is self.registry else None

    async def mount(self, desc: Descriptor, from_repository: str) -> bool:
        self.asked.append(from_repository)
        found = self.registry.get(from_repository, MemoryRepository()).content.get(desc.digest)
        if found is not None:
            self.content[desc.digest] = found
        return found is not None


@pytest.mark.parametrize("prefix", ["", "mirror/"], ids=["root", "path"])
async def test_blobs_of_a_source_in_the_same_registry_are_mounted(prefix: str) -> None:
    registry: dict[str, OfRegistry] = {}
    source, target = OfRegistry(registry, "elsewhere/team"), OfRegistry(registry, f"{prefix}app")
    tag(source, "1", index(source, image(source, b"a layer", b"another")))
    report = await run_job(job(), tools_for(source, app=target))
    assert report.ok
    assert (report.traffic.blobs, report.traffic.mounted) == (0, 3)
    assert set(target.asked) == {"elsewhere/team"}
    assert target.content.keys() == source.content.keys()


async def test_a_blob_that_cannot_be_mounted_is_sent() -> None:
    class Refusing(OfRegistry):
        async def mount(self, desc: Descriptor, from_repository: str) -> bool:
            return False

    registry: dict[str, OfRegistry] = {}
    source, target = OfRegistry(registry, "team"), Refusing(registry, "app")
    tag(source, "1", image(source, b"a layer"))
    report = await run_job(job(), tools_for(source, app=target))
    assert (report.ok, report.traffic.blobs) == (True, 2)


async def test_a_home_is_asked_for_below_the_path_of_the_target() -> None:
    registry: dict[str, OfRegistry] = {}
    one, two = OfRegistry(registry, "mirror/one"), OfRegistry(registry, "mirror/two")
    source = Recording()
    tag(source, "1", image(source, b"a layer"))
    tools = tools_for(source, one=one, two=two)
    await run_job(job("one"), tools)
    report = await run_job(job("two"), tools)
    assert (report.traffic.blobs, report.traffic.mounted) == (0, 2)
    assert set(two.asked) == {"mirror/one"}


async def test_a_tag_that_gets_another_name_in_its_repository_moves_no_blob() -> None:
    repository = OfRegistry({}, "app")
    root = index(repository, image(repository, b"a layer"))
    tag(repository, "1", root)
    wanted = job(tags=TagSelection(literal={"2": "1"}))
    tools = tools_for(repository, app=repository)
    report = await run_job(wanted, tools)
    assert [one.verdict for one in report.tags] == [Verdict.COPIED]
    assert repository.tagged["2"].digest == root.digest
    assert set(repository.opened) <= {root.digest}
    assert (repository.pushed, repository.asked) == ([], [])
    report = await run_job(wanted, tools)
    assert [one.verdict for one in report.tags] == [Verdict.UNCHANGED]


async def test_mounts_of_one_blob_do_not_wait_for_each_other() -> None:
    """The servers copy it, which takes a while: each mount here returns only when both are under way."""
    under_way: list[str] = []
    both = anyio.Event()

    class Slow(OfRegistry):
        async def mount(self, desc: Descriptor, from_repository: str) -> bool:
            under_way.append(self.name)
            if len(set(under_way)) == 2:
                both.set()
            await both.wait()
            return await super().mount(desc, from_repository)

    registry: dict[str, OfRegistry] = {}
    one, two, three = OfRegistry(registry, "one"), Slow(registry, "two"), Slow(registry, "three")
    source = Recording()
    tag(source, "1", image(source, b"a layer"))
    tools = tools_for(source, one=one, two=two, three=three)
    await run_job(job("one"), tools)
    reports: list[JobReport] = []

    async def run(name: str) -> None:
        reports.append(await run_job(job(name), tools))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(run, "two")
            group.start_soon(run, "three")
    assert [(report.traffic.blobs, report.traffic.mounted) for report in reports] == [(0, 2), (0, 2)]
    assert set(two.asked) | set(three.asked) == {"one"}


async def test_a_blob_that_two_jobs_want_is_sent_once_and_mounted_then() -> None:
    registry: dict[str, OfRegistry] = {}
    one, two = OfRegistry(registry, "one"), OfRegistry(registry, "two")
    source = Recording()
    tag(source, "1", image(source, b"a layer"))
    tools = tools_for(source, one=one, two=two)
    reports: list[JobReport] = []

    async def run(name: str) -> None:
        reports.append(await run_job(job(name), tools))

    async with anyio.create_task_group() as group:
        group.start_soon(run, "one")
        group.start_soon(run, "two")
    assert sum(report.traffic.blobs for report in reports) == 2
    assert sum(report.traffic.mounted for report in reports) == 2
