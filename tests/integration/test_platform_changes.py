"""Omitted images as time goes by: other platforms, a lost ledger, damage, and a collection; over both static stores."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ocisync.content.memory import MemoryRepository
from ocisync.maintenance.findings import Verified
from ocisync.maintenance.gc import Collected, collect, plan_collection
from ocisync.maintenance.gc_plan import Totals
from ocisync.maintenance.verify import Depth, verify
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.locator import StaticLocator, TargetLocator
from ocisync.model.media_types import OCI_INDEX
from ocisync.model.platform import parse_platform
from ocisync.model.platform_filter import Attestations, PlatformChoice
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.s3.store import S3Store
from ocisync.stores.static import layout
from ocisync.stores.static.registry import StaticRegistry
from ocisync.stores.static.repository import StaticRepository
from ocisync.sync.context import JobContext
from ocisync.sync.job import Job
from ocisync.sync.ledger import MemoryLedger
from ocisync.sync.run import plan_job, run_job
from tests.integration.registry_writer import OneTarget
from tests.integration.static_targets import KINDS, Kind, keys, open_store
from tests.servers.images import Image, Index, make_image, make_index
from tests.servers.seaweed import Seaweed
from tests.unit.sync.graphs import put

NAME = "team/app"
UNKNOWN = ("unknown", "unknown", "")
IMAGES = [
    make_image(one, layers=1, size=300, platform=("linux", one, variant))
    for one, variant in (("amd64", ""), ("arm64", "v8"), ("arm", "v7"), ("s390x", ""))
]
SAID = {one.digest: make_image(f"about {one.digest}", layers=1, platform=UNKNOWN) for one in IMAGES[:2]}
INDEX = make_index(IMAGES, statements=SAID)
AMD64, ARM64, ARM, S390X, OF_AMD64, OF_ARM64 = (image.digest for image in INDEX.children)


def kept(repository: MemoryRepository, image: Image) -> None:
    """Store an image without a tag."""
    for blob in image.blobs.values():
        put(repository, blob, "application/octet-stream")
    put(repository, image.manifest, image.media_type)


def source_with(index: Index) -> MemoryRepository:
    """An index under the tag 1."""
    source = MemoryRepository()
    for image in index.children:
        kept(source, image)
    source.tagged["1"] = put(source, index.manifest, OCI_INDEX)
    return source


@dataclass
class Mirror:
    """A source and a static repository; the rule's platforms change."""

    store: DirectoryStore | S3Store
    source: MemoryRepository = field(default_factory=lambda: source_with(INDEX))
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    repository: type[StaticRepository] = StaticRepository  # what writes

    @property
    def registry(self) -> StaticRegistry:
        """The target's registry."""
        return StaticRegistry(self.store)

    async def actions(self, *platforms: str) -> list[str]:
        """What a pass would do."""
        _, plan = await plan_job(self._job(platforms), self._tools())
        return [planned.action.value for planned in plan]

    async def mirror(self, *platforms: str, attestations: Attestations = "matching") -> set[str]:
        """One pass; the manifests that are there then."""
        report = await run_job(self._job(platforms, attestations), self._tools())
        assert report.ok, report
        return await self.manifests()

    async def manifests(self) -> set[str]:
        """Their digests, but for the index's."""
        found = await keys(self.store, f"v2/{NAME}/manifests/sha256")
        return {key.rpartition("/")[2] for key in found} - {INDEX.digest}

    async def verified(self) -> Verified:
        """What a verification finds."""
        return await verify(self.registry.audit(), Depth(deep=True))

    def _job(self, platforms: tuple[str, ...], attestations: Attestations = "matching") -> Job:
        choice = PlatformChoice(tuple(map(parse_platform, platforms)), attestations)
        return Job("rule", StaticLocator("memory", "x"), TargetLocator("out", NAME), platforms=choice)

    def _tools(self) -> JobContext:
        return JobContext(OneTarget(self.source, self.repository(self.registry._context, NAME)), self.ledger)


@pytest.fixture(params=KINDS)
async def mirror(request: pytest.FixtureRequest, tmp_path: Path, s3: Seaweed) -> AsyncIterator[Mirror]:
    """An empty target."""
    kind: Kind = request.param
    async with open_store(kind, tmp_path, s3) as store:
        yield Mirror(store)


async def test_more_platforms_are_brought_and_the_omissions_follow(mirror: Mirror) -> None:
    assert await mirror.mirror("linux/amd64") == {AMD64, OF_AMD64}
    assert await mirror.actions("linux/amd64") == ["skip"]
    assert await mirror.actions("linux/x86_64") == ["skip"]
    assert await mirror.actions("linux/amd64", "linux/arm64") == ["check"]
    assert await mirror.mirror("linux/amd64", "linux/arm64") == {AMD64, OF_AMD64, ARM64, OF_ARM64}
    assert await mirror.actions("linux/amd64", "linux/arm64") == ["skip"]
    found = await mirror.verified()
    assert (found.findings, found.omitted) == ([], 2)
    assert await mirror.mirror() == {image.digest for image in INDEX.children}
    found = await mirror.verified()
    assert (found.findings, found.omitted) == ([], 0)
    assert [key for key in await keys(mirror.store) if "omitted" in key] == []


async def test_fewer_platforms_remove_nothing_and_excuse_nothing_that_is_there(mirror: Mirror) -> None:
    everything = await mirror.mirror()
    assert await mirror.mirror("linux/amd64") == everything
    found = await mirror.verified()
    assert (found.findings, found.omitted) == ([], 0)
    await mirror.registry.repository(NAME).delete([Digest(ARM64)])
    assert {finding.reference for finding in (await mirror.verified()).findings} == {ARM64}


async def test_two_rules_with_different_platforms_share_a_repository(mirror: Mirror) -> None:
    await mirror.mirror("linux/amd64", attestations="none")
    assert await mirror.mirror("linux/arm", attestations="none") == {AMD64, ARM}
    found = await mirror.verified()
    assert (found.findings, found.omitted) == ([], 4)
    await mirror.registry.repository(NAME).delete([Digest(AMD64)])
    assert {finding.reference for finding in (await mirror.verified()).findings} == {AMD64}


class Raced(StaticRepository):
    """A writer whose index, as it lay there untagged, is collected in the moment before it is staged anew."""

    async def push_manifests(self, roots: Sequence[Descriptor]) -> None:
        await self._store.delete([layout.omitted_key(self.name, root.digest) for root in roots])
        await super().push_manifests(roots)


async def test_what_a_collector_takes_away_meanwhile_is_remembered_again(mirror: Mirror) -> None:
    await mirror.mirror("linux/amd64")
    before = await keys(mirror.store)
    await mirror.registry.repository(NAME).untag(["1"])
    mirror.repository = Raced
    await mirror.mirror("linux/amd64")
    assert await keys(mirror.store) == before
    found = await mirror.verified()
    assert (found.findings, found.omitted) == ([], 4)


async def test_without_the_ledger_nothing_is_sent_again(mirror: Mirror) -> None:
    await mirror.mirror("linux/amd64")
    before = await keys(mirror.store)
    mirror.ledger = MemoryLedger()
    assert await mirror.actions("linux/amd64") == ["check"]
    await mirror.mirror("linux/amd64")
    assert await keys(mirror.store) == before
    assert (await mirror.verified()).omitted == 4


async def test_a_collection_keeps_what_is_there_and_takes_the_omissions_with_their_index(mirror: Mirror) -> None:
    await mirror.mirror("linux/amd64")
    audit, repository = mirror.registry.audit(), mirror.registry.repository(NAME)
    doomed = [one async for one in plan_collection(audit, 0.0, Totals())]
    assert doomed == []
    await repository.untag(["1"])
    doomed = [one async for one in plan_collection(audit, 0.0, Totals())]
    done = Collected()
    await collect(audit, NAME, doomed, 0.0, _noted, done)
    assert done.ok
    assert [key for key in await keys(mirror.store) if NAME in key] == []


async def _noted(_: object) -> None:
    """The journal is not looked at."""
