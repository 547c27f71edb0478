"""A target that tells cheaply that all tags are where they were is not listed; whatever differs is still noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ocisync.content.capabilities import RepositoryListing
from ocisync.sync.job import Job, WritePolicy
from ocisync.sync.reports import Verdict
from ocisync.sync.run import run_job
from tests.unit.sync.graphs import image, tag
from tests.unit.sync.recording import Recording, job, tools_for

pytestmark = pytest.mark.anyio

TAGS = "1", "2", "3", "4"


class Listed(Recording):
    """Counts its listings."""

    def __init__(self) -> None:
        super().__init__()
        self.listings = 0

    async def list_manifests(self) -> RepositoryListing:
        """Count, then list."""
        self.listings += 1
        return await super().list_manifests()


class Site:
    """A source with some tags, and their mirror."""

    def __init__(self) -> None:
        self.source, self.target = Recording(), Listed()
        for name in TAGS:
            tag(self.source, name, image(self.source, b"base layer", name.encode()))
        self.tools = tools_for(self.source, app=self.target)

    async def run(self, job: Job) -> dict[str, tuple[Verdict, str]]:
        """One pass, and what came of its tags."""
        self.target.listings = 0
        report = await run_job(job, self.tools)
        return {one.tag: (one.verdict, one.reason) for one in report.tags}


async def test_nothing_is_listed_when_all_tags_are_in_place() -> None:
    site = Site()
    await site.run(job())
    assert set((await site.run(job())).values()) == {(Verdict.UNCHANGED, "unchanged")}
    assert site.target.listings == 0


async def test_what_another_writer_did_to_a_tag_is_noticed() -> None:
    site = Site()
    await site.run(job())
    site.target.tagged["1"] = site.target.tagged["2"]
    del site.target.tagged["3"]
    found = await site.run(job())
    assert {name: verdict for name, (verdict, _) in found.items()} == {
        "1": Verdict.COPIED, "2": Verdict.UNCHANGED, "3": Verdict.COPIED, "4": Verdict.UNCHANGED,
    }  # fmt: skip
    assert {name: desc.digest for name, desc in site.target.tagged.items()} == {
        name: site.source.tagged[name].digest for name in TAGS
    }


async def test_a_manifest_that_is_gone_is_brought_again() -> None:
    site = Site()
    await site.run(job())
    lost = site.source.tagged["1"].digest
    del site.target.content[lost]
    await site.run(job())
    assert lost in site.target.content


async def test_what_the_source_changed_is_copied_beside_a_whole_listing() -> None:
    """Blobs that are there are not sent again, though the target was not listed at first."""
    site = Site()
    await site.run(job())
    tag(site.source, "1", image(site.source, b"base layer", b"new"))
    site.target.pushed.clear()
    found = await site.run(job())
    assert (found["1"][0], found["2"][0]) == (Verdict.COPIED, Verdict.UNCHANGED)
    assert len(site.target.pushed) == 1


async def test_a_new_tag_and_prune_want_a_listing() -> None:
    site = Site()
    await site.run(job())
    tag(site.source, "5", image(site.source, b"base layer", b"5"))
    assert (await site.run(job()))["5"][0] is Verdict.COPIED
    assert site.target.listings > 0
    del site.source.tagged["5"]
    pruning = replace(job(), policy=WritePolicy(prune=True))
    assert (await site.run(pruning))["5"][0] is Verdict.PRUNED
    assert set(site.target.tagged) == set(TAGS)
