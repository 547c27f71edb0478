"""The flow of a job, over memory: order, once-ness, verdicts, failures that stay with their tag."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ocisync.content.capabilities import RepositoryListing
from ocisync.content.memory import MemoryRepository
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream
from ocisync.errors import NotFound
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.context import Limits
from ocisync.sync.reports import Verdict
from ocisync.sync.run import plan_job, run_job
from ocisync.sync.select import TagSelection, TagSet
from tests.unit.sync.graphs import image, index, tag
from tests.unit.sync.recording import Recording, job, tools_for

pytestmark = pytest.mark.anyio


def source_with(*tags: str) -> Recording:
    source = Recording()
    base = b"base layer"
    for name in tags:
        amd64 = image(source, base, f"amd64 {name}".encode())
        arm64 = image(source, base, f"arm64 {name}".encode())
        tag(source, name, index(source, amd64, arm64))
    return source


async def test_everything_arrives_children_before_parents_and_each_digest_once() -> None:
    source, target = source_with("1", "2"), Recording()
    report = await run_job(job(), tools_for(source, app=target))
    assert report.ok
    assert [tag.verdict for tag in report.tags] == [Verdict.COPIED, Verdict.COPIED]
    assert target.content.keys() == source.content.keys()
    assert len(target.pushed) == len(set(target.pushed))
    assert len(source.opened) == len(set(source.opened))
    for name in "12":
        root = source.tagged[name]
        tagged = target.events.index(f"tag {name} {root.digest}")
        below = await _below(source, root)
        assert all(target.events.index(f"push {digest}") < tagged for digest in below)


async def test_the_second_pass_moves_nothing() -> None:
    source, target = source_with("1", "2", "3", "4"), Recording()
    tools = tools_for(source, app=target)
    await run_job(job(), tools)
    source.opened.clear()
    target.pushed.clear()
    report = await run_job(job(), tools)
    assert {tag.verdict for tag in report.tags} == {Verdict.UNCHANGED}
    assert source.opened == target.pushed == []


async def test_without_a_ledger_a_whole_target_is_looked_through_but_nothing_is_sent() -> None:
    source, target = source_with("1", "2"), Recording()
    await run_job(job(), tools_for(source, app=target))
    source.opened.clear()
    target.pushed.clear()
    report = await run_job(job(), tools_for(source, app=target))
    assert {tag.verdict for tag in report.tags} == {Verdict.UNCHANGED}
    assert source.opened == target.pushed == []


async def test_a_manifest_whose_blob_is_missing_is_mended() -> None:
    source, target = source_with("1"), Recording()
    await run_job(job(), tools_for(source, app=target))
    lost = next(digest for digest, (_, data) in target.content.items() if data == b"base layer")
    del target.content[lost]
    report = await run_job(job(), tools_for(source, app=target))
    assert lost in target.content
    assert [(tag.verdict, tag.reason) for tag in report.tags] == [(Verdict.COPIED, "mended")]


async def test_only_the_moved_tag_travels() -> None:
    source, target = source_with("1", "2"), Recording()
    tools = tools_for(source, app=target)
    await run_job(job(), tools)
    tag(source, "2", image(source, b"base layer", b"new"))
    target.pushed.clear()
    report = await run_job(job(), tools)
    assert {tag.tag: tag.verdict for tag in report.tags} == {"1": Verdict.UNCHANGED, "2": Verdict.COPIED}
    assert len(target.pushed) == 1  # the new layer; the base and the configuration are there, the manifest is the root


async def test_one_bad_tag_does_not_stop_the_others() -> None:
    source, target = source_with("bad", "good"), Recording()
    bad = next(digest for digest, (_, data) in source.content.items() if data == b"amd64 bad")
    source.content[bad] = (source.content[bad][0], b"amd64 BAD")
    report = await run_job(job(), tools_for(source, app=target))
    assert {tag.tag: tag.verdict for tag in report.tags} == {"bad": Verdict.FAILED, "good": Verdict.COPIED}
    assert [tag.failure.code for tag in report.failed if tag.failure] == ["verify.digest"]
    assert sorted(target.tagged) == ["good"]
    assert bad not in target.content


async def test_fault_28_sparse_index_fails_its_tag_only() -> None:
    source, target = source_with("sparse", "whole"), Recording()
    root = source.tagged["sparse"]
    child = next(digest for digest in await _below(source, root) if b"manifest.v1" in source.content[digest][1])
    del source.content[child]
    report = await run_job(job(), tools_for(source, app=target))
    assert [(tag.tag, tag.failure and tag.failure.code) for tag in report.failed] == [("sparse", "source.missing")]
    assert sorted(target.tagged) == ["whole"]


async def test_fault_29_deeply_nested_indexes_are_refused() -> None:
    source, target = Recording(), Recording()
    root = image(source, b"layer")
    for _ in range(20):
        root = index(source, root)
    tag(source, "deep", root)
    report = await run_job(job(), tools_for(source, app=target))
    assert [tag.failure and tag.failure.code for tag in report.failed] == ["limit.exceeded"]
    assert target.tagged == {}


async def test_nested_indexes_do_not_deadlock_with_one_slot() -> None:
    source, target = Recording(), Recording()
    root = index(
        source, index(source, image(source, b"a"), image(source, b"b", note="b")), image(source, b"c", note="c")
    )
    tag(source, "nested", root)
    report = await run_job(job(), tools_for(source, Limits(images=1, blobs=1), app=target))
    assert report.ok
    assert target.content.keys() == source.content.keys()
    assert target.most == 1


async def test_the_blob_limit_holds_over_many_images() -> None:
    source, target = source_with(*(str(number) for number in range(30))), Recording()
    limits = Limits(images=8, blobs=3)
    assert (await run_job(job(), tools_for(source, limits, app=target))).ok
    assert target.most == limits.blobs


async def test_the_largest_blobs_of_an_image_begin_first() -> None:
    source, target = Recording(), Recording()
    tag(source, "1", image(source, b"small", b"largest" * 1000, b"large" * 1000, note="x" * 2000))
    assert (await run_job(job(), tools_for(source, Limits(blobs=1), app=target))).ok
    pushed = [source.content[Digest(digest)][0] for digest in target.pushed]
    assert [desc.size for desc in pushed if desc.media_type == media_types.OCI_LAYER_GZIP] == [7000, 5000, 5]
    assert pushed[2].media_type == media_types.OCI_CONFIG


async def test_a_selection_that_fits_nothing_is_a_warning() -> None:
    source, target = source_with("1"), Recording()
    report = await run_job(job(tags=TagSelection(sets=(TagSet(("9.*",)),))), tools_for(source, app=target))
    assert report.ok
    assert len(report.warnings) == 1


async def test_a_source_that_cannot_be_listed_fails_the_job() -> None:
    class Absent(Recording):
        async def tags(self) -> list[str]:
            raise NotFound("no such repository")

    report = await run_job(job(), tools_for(Absent(), app=Recording()))
    assert report.failure is not None
    assert report.failure.code == "source.missing"
    assert not report.ok


async def test_plan_changes_nothing_and_gives_reasons() -> None:
    source, target = source_with("1", "2"), Recording()
    _, plan = await plan_job(job(), tools_for(source, app=target))
    assert [(planned.tag, planned.action.value, planned.reason) for planned in plan] == [
        ("1", "copy", "new"),
        ("2", "copy", "new"),
    ]
    assert target.content == {}


async def test_fault_46_a_blob_that_vanishes_before_the_tag_is_brought_again() -> None:
    class Vanishing(Recording):
        listings = 0

        async def list_all(self, outline: RepositoryListing | None = None) -> RepositoryListing:
            self.listings += 1
            if self.listings == 2:  # the first is the survey's, the second the look before the tag
                lost = next(digest for digest, (_, data) in self.content.items() if data == b"base layer")
                del self.content[lost]
            return await super().list_all(outline)

    source, target = source_with("1"), Vanishing()
    report = await run_job(job(), tools_for(source, app=target))
    assert report.ok
    assert target.content.keys() == source.content.keys()


async def test_two_repositories_share_one_upload_through_a_mount() -> None:
    class Mounting(Recording):
        siblings: dict[str, MemoryRepository]
        name = ""

        def find_sibling(self, source: object) -> str | None:
            return None

        async def mount(self, desc: Descriptor, from_repository: str) -> bool:
            self.content[desc.digest] = self.siblings[from_repository].content[desc.digest]
            return True

    source, one, two = source_with("1"), Mounting(), Mounting()
    one.siblings = two.siblings = {"one": one, "two": two}
    one.name, two.name = "one", "two"
    tools = tools_for(source, one=one, two=two)
    assert (await run_job(job("one"), tools)).ok
    report = await run_job(job("two"), tools)
    assert report.ok
    assert (report.traffic.blobs, report.traffic.mounted) == (0, 4)  # base, two layers, one shared configuration


async def _below(source: MemoryRepository, root: Descriptor) -> set[Digest]:
    document = json.loads(source.content[root.digest][1])
    children = [*document.get("manifests", []), *document.get("layers", [])]
    children += [document["config"]] if "config" in document else []
    found: set[Digest] = set()
    for child in children:
        digest = Digest(child["digest"])
        found.add(digest)
        if "manifest" in child["mediaType"]:
            found |= await _below(source, source.content[digest][0])
    return found


async def test_tags_that_share_an_image_cost_one_read_of_it() -> None:
    source, target = source_with("1.0"), Recording()
    for name in ("1", "latest"):
        tag(source, name, source.tagged["1.0"])
    report = await run_job(job(), tools_for(source, app=target))
    assert sorted(tag.tag for tag in report.tags) == ["1", "1.0", "latest"]
    assert len(source.opened) == len(set(source.opened))
    assert set(target.tagged) == {"1", "1.0", "latest"}


async def test_fault_20_a_blob_damaged_on_its_way_once_is_read_again() -> None:
    class Flaky(Recording):
        damaged = False

        @asynccontextmanager
        async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
            held = self.content[desc.digest]
            if held[1] == b"base layer" and not self.damaged:
                self.damaged = True
                async with BytesOpener(b"base lAyer")() as stream:
                    yield stream
                return
            async with super().open(desc, start) as stream:
                yield stream

    source, target = Flaky(), Recording()
    tag(source, "1", image(source, b"base layer"))
    report = await run_job(job(), tools_for(source, app=target))
    assert source.damaged
    assert report.ok
    assert target.content.keys() == source.content.keys()
