"""Verify: every seeded damage is found, and mended where a source or a sibling still has what is missing."""

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from ocisync.content.memory import MemoryRepository
from ocisync.content.object_store import ObjectKind
from ocisync.content.repository import Source
from ocisync.maintenance.findings import Fault, Finding, Verified
from ocisync.maintenance.repair import Origins, no_origins, verify_and_repair
from ocisync.maintenance.verify import Depth, ReadRate, verify
from ocisync.model import media_types
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.s3.store import S3Store
from ocisync.stores.static import layout
from ocisync.stores.static.registry import StaticRegistry
from tests.contract.graphs import Image, make_image, make_index, publish_image
from tests.integration.static_targets import KINDS, Kind, contents, keys, make_artifact, open_store, put, read
from tests.servers.seaweed import Seaweed

Store = DirectoryStore | S3Store
Damage = Callable[[Store, str], Awaitable[None]]
NAME = "team/app"
INDEX = make_index(make_image("amd64", layers=3), make_image("arm64", layers=3))
NOTE = make_artifact(INDEX.desc.digest, "note")
PLAIN = make_image("plain", layers=3)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path, s3: Seaweed) -> AsyncIterator[Store]:
    kind: Kind = request.param
    async with open_store(kind, tmp_path, s3) as opened:
        yield opened


async def fill(store: Store, name: str = NAME) -> dict[str, bytes]:
    """An index, a referrer and a plain image; every object."""
    repository = StaticRegistry(store).repository(name)
    for tag, image in (("1.0", INDEX), ("note", NOTE), ("plain", PLAIN)):
        await publish_image(repository, image, tag)
    return dict(await contents(store))


def origins(*images: tuple[str, Image]) -> Origins:
    """A source that has these images."""

    @asynccontextmanager
    async def opened(_: str) -> AsyncIterator[Sequence[Source]]:
        source = MemoryRepository()
        for tag, image in images:
            await publish_image(source, image, tag)
        yield [source]

    return opened


ALL = origins(("1.0", INDEX), ("note", NOTE), ("plain", PLAIN))


async def verified(store: Store, *, deep: bool = True) -> Verified:
    """As another process."""
    return await verify(StaticRegistry(store).audit(), Depth(deep=deep))


async def repaired(store: Store, sources: Origins = ALL) -> Verified:
    """Mend."""
    return await verify_and_repair(StaticRegistry(store).audit(), Depth(deep=True), sources)


def of(report: Verified) -> set[tuple[ObjectKind, str, Fault]]:
    """What was found."""
    return {(finding.kind, finding.reference, finding.fault) for finding in report.findings}


async def test_what_is_whole_is_found_whole(store: Store) -> None:
    before = await fill(store)
    report = await verified(store)
    assert report.ok
    assert report.findings == []
    assert (report.repositories, report.tags, report.manifests) == (1, 3, 5)
    assert report.blobs == len([key for key in before if "/blobs/" in key])
    assert report.bytes == sum(len(body) for key, body in before.items() if "/blobs/" in key)
    assert (await verified(store, deep=False)).bytes == 0


def blob(image: Image, number: int = 1) -> str:
    """The key of one of an image's blobs."""
    return layout.blob_key(NAME, image.blobs[number][0].digest)


async def remove(store: Store, key: str) -> None:
    await store.delete([key])


async def truncate(store: Store, key: str) -> None:
    await _rewrite(store, key, (await read(store, key) or b"")[:-3])


async def lengthen(store: Store, key: str) -> None:
    await _rewrite(store, key, (await read(store, key) or b"") + b"x")


async def flip(store: Store, key: str) -> None:
    body = bytearray(await read(store, key) or b"")
    body[len(body) // 2] ^= 1
    await _rewrite(store, key, bytes(body))


async def empty(store: Store, key: str) -> None:
    await _rewrite(store, key, b"")


async def _rewrite(store: Store, key: str, body: bytes) -> None:
    info = await store.head(key)
    assert info is not None
    await put(store, key, body, info.content_type)


CHILD = INDEX.children[0]
BLOB, MANIFEST = ObjectKind.BLOB, ObjectKind.MANIFEST
CONTENT = [
    (remove, Fault.MISSING),
    (truncate, Fault.SIZE),
    (lengthen, Fault.SIZE),
    (empty, Fault.SIZE),
    (flip, Fault.DAMAGED),
]
PLACES = [
    (BLOB, blob(CHILD, 0), "config of a child"),
    (BLOB, blob(CHILD, 2), "layer of a child"),
    (BLOB, blob(PLAIN, 3), "layer"),
    (MANIFEST, layout.manifest_key(NAME, CHILD.desc.digest), "child manifest"),
    (MANIFEST, layout.manifest_key(NAME, INDEX.desc.digest), "index"),
]


@pytest.mark.parametrize(("kind", "key"), [place[:2] for place in PLACES], ids=[place[2] for place in PLACES])
@pytest.mark.parametrize(
    ("damage", "fault"), [row[:2] for row in CONTENT], ids=lambda row: getattr(row, "__name__", "")
)
async def test_damaged_content_is_found_and_brought_again(
    tmp_path: Path, kind: ObjectKind, key: str, damage: Damage, fault: Fault
) -> None:
    """25 damages, on a directory; those of S3 are together in one test below."""
    store = DirectoryStore(tmp_path / "registry", fsync=False)
    before = await fill(store)
    await damage(store, key)
    report = await verified(store)
    assert not report.ok
    assert (kind, key.rpartition("/")[2], fault) in of(report)
    report = await repaired(store)
    assert report.ok, report.as_json()
    assert await contents(store) == before


LISTS = {
    "tags list gone": (layout.tags_key(NAME), remove),
    "tags list damaged": (layout.tags_key(NAME), truncate),
    "referrers gone": (layout.referrers_key(NAME, INDEX.desc.digest), remove),
    "referrers damaged": (layout.referrers_key(NAME, INDEX.desc.digest), empty),
    "catalog gone": (layout.CATALOG_KEY, remove),
    "catalog damaged": (layout.CATALOG_KEY, flip),
}


@pytest.mark.parametrize("case", LISTS)
async def test_wrong_lists_are_found_and_derived_anew(store: Store, case: str) -> None:
    before = await fill(store)
    key, damage = LISTS[case]
    await damage(store, key)
    report = await verified(store, deep=False)
    assert len(report.findings) == 1
    report = await repaired(store, no_origins)
    assert report.ok
    assert await contents(store) == before


FALSE_REFERRER = json.dumps({"manifests": [{"digest": PLAIN.desc.digest}]}).encode()


@pytest.mark.parametrize(
    "stale",
    [
        (layout.tags_key(NAME), layout.tags_list_body(NAME, ["plain", "note", "1.0"], as_given=True)),
        (layout.tags_key(NAME), layout.tags_list_body(NAME, ["1.0", "gone", "note", "plain"])),
        (layout.tags_key(NAME), layout.tags_list_body(NAME, ["1.0"])),
        (layout.CATALOG_KEY, b'{"repositories":["gone","team/app"]}'),
        (layout.referrers_key(NAME, INDEX.desc.digest), b'{"schemaVersion":2,"manifests":[]}'),
        (
            layout.referrers_key(NAME, CHILD.desc.digest),
            json.dumps({"manifests": [{"digest": PLAIN.desc.digest}]}).encode(),
        ),
        (layout.referrers_key(NAME, make_image("never").desc.digest), b'{"manifests":[]}'),
    ],
    ids=[
        "unsorted",
        "tag too many",
        "tags missing",
        "repository too many",
        "referrer missing",
        "false referrer",
        "no manifest",
    ],
)
async def test_stale_lists_are_found(store: Store, stale: tuple[str, bytes]) -> None:
    before = await fill(store)
    key, body = stale
    await put(store, key, body, layout.content_type_of(key))
    (finding,) = (await verified(store, deep=False)).findings
    assert finding.fault is Fault.LIST
    assert (await repaired(store, no_origins)).ok
    assert await contents(store) == before


async def test_dangling_and_damaged_tags(store: Store) -> None:
    before = await fill(store)
    tag = layout.manifest_key(NAME, "plain")
    await remove(store, tag)
    await put(store, tag, b"garbage", PLAIN.media_type)
    assert (ObjectKind.TAG, "plain", Fault.DAMAGED) in of(await verified(store))
    assert (await repaired(store)).ok
    assert await contents(store) == before
    await store.delete([layout.manifest_key(NAME, PLAIN.desc.digest), *(blob(PLAIN, number) for number in range(4))])
    report = await repaired(store)
    assert report.ok, report.as_json()
    assert await contents(store) == before


async def test_a_tag_with_a_flipped_byte_is_taken_from_the_source(tmp_path: Path, s3: Seaweed) -> None:
    """Its bytes are a manifest still, of another digest: what another tool may have published under a tag only."""
    async with open_store("s3", tmp_path, s3) as store:
        before = await fill(store)
        tag = layout.manifest_key(NAME, "plain")
        await put(store, tag, PLAIN.raw.replace(b"schemaVersion", b"schemaversion"), PLAIN.media_type)
        assert not (await verified(store, deep=False)).ok
        assert (await repaired(store)).ok
        assert await contents(store) == before


async def test_a_tag_tells_its_manifest_when_no_source_does(tmp_path: Path, s3: Seaweed) -> None:
    async with open_store("s3", tmp_path, s3) as store:
        before = await fill(store)
        await flip(store, layout.manifest_key(NAME, PLAIN.desc.digest))
        assert not (await verified(store, deep=False)).ok
        assert (await repaired(store, no_origins)).ok
        assert await contents(store) == before


async def test_wrong_content_types_on_s3(tmp_path: Path, s3: Seaweed) -> None:
    async with open_store("s3", tmp_path, s3) as store:
        await fill(store)
        wrong = [
            layout.manifest_key(NAME, "plain"),
            layout.manifest_key(NAME, CHILD.desc.digest),
            layout.tags_key(NAME),
            layout.referrers_key(NAME, PLAIN.desc.digest),
        ]
        for key in wrong:
            await put(store, key, await read(store, key) or b"", "binary/octet-stream")
        report = await verified(store, deep=False)
        assert {finding.fault for finding in report.findings} == {Fault.TYPE}
        assert len(report.findings) == 4
        assert (await repaired(store, no_origins)).ok
        info = await store.head(wrong[3])
        assert info is not None
        assert info.content_type == media_types.OCI_INDEX


async def test_a_wrong_type_of_a_blob_is_seen_when_it_is_read(tmp_path: Path, s3: Seaweed) -> None:
    """A front may compress or rewrite what is called text."""
    async with open_store("s3", tmp_path, s3) as store:
        await fill(store)
        key = blob(PLAIN)
        await put(store, key, PLAIN.blobs[1][1], "text/plain")
        assert (await verified(store, deep=False)).ok
        (finding,) = (await verified(store)).findings
        assert (finding.kind, finding.fault) == (ObjectKind.BLOB, Fault.TYPE)
        assert (await repaired(store, no_origins)).ok
        info = await store.head(key)
        assert info is not None
        assert info.content_type == media_types.OCTET_STREAM
        assert (await verified(store)).ok


@pytest.mark.parametrize("damage", [remove, truncate], ids=["gone", "damaged"])
async def test_what_clients_ask_for_first_is_looked_at(store: Store, damage: Damage) -> None:
    before = await fill(store)
    for key in layout.ROOT_KEYS if damage is remove else [layout.ROOT_INDEX]:
        await damage(store, key)
    report = await verified(store, deep=False)
    assert {finding.fault for finding in report.findings} == {Fault.ROOT}
    assert layout.ROOT_INDEX in {finding.reference for finding in report.findings}
    assert (await repaired(store, no_origins)).ok
    assert await contents(store) == before


async def test_newest_first_is_no_fault_where_it_is_wanted(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "registry", fsync=False)
    await fill(store)
    body = layout.tags_list_body(NAME, ["plain", "note", "1.0"], as_given=True)
    await put(store, layout.tags_key(NAME), body)
    assert (await verify(StaticRegistry(store).audit(), Depth(in_order=False))).ok


async def test_a_sibling_helps_where_there_is_no_source(store: Store) -> None:
    await fill(store, "sibling")
    before = await fill(store)
    hit = [blob(PLAIN, 1), layout.manifest_key(NAME, CHILD.desc.digest)]
    await store.delete(hit)
    report = await repaired(store, no_origins)
    assert report.ok, report.as_json()
    assert await contents(store) == before


async def test_what_nobody_has_stays_a_fault_and_a_damaged_sibling_replaces_nothing(store: Store) -> None:
    await fill(store, "sibling")
    await fill(store)
    for name in ("sibling", NAME):
        await flip(store, layout.blob_key(name, PLAIN.blobs[1][0].digest))
    report = await repaired(store, no_origins)
    assert not report.ok
    assert len(report.findings) == 2
    assert not any(finding.repaired for finding in report.findings)


async def test_thirty_damages_at_once(store: Store) -> None:
    """All kinds in one registry of several repositories, seeded."""
    names = [f"r{number}" for number in range(10)]
    for name in names:
        await fill(store, name)
    before = await contents(store)
    pick, plain = random.Random(7), {desc.digest for desc, _ in PLAIN.blobs}  # below no manifest that is hit
    blobs = [key for key in before if "/blobs/" in key and key.rpartition("/")[2] in plain and "/r9/" not in key]
    lists = [key for key in before if "/referrers/" in key or "/tags/" in key]
    hit = [*pick.sample(blobs, 11), *pick.sample(lists, 9), layout.CATALOG_KEY]
    hit += [layout.manifest_key(name, INDEX.desc.digest) for name in names[:4]]
    hit.insert(22, layout.manifest_key("r9", "plain"))
    hit += [layout.manifest_key(name, CHILD.desc.digest) for name in names[5:9]]
    assert len(hit) == 30
    for number, key in enumerate(hit):
        await (remove, truncate, flip)[number % 3](store, key)
    found = {(finding.repository, finding.reference) for finding in (await verified(store)).findings}
    places = {key: (key.split("/")[1], key.rpartition("/")[2]) for key in hit} | {layout.CATALOG_KEY: ("", "_catalog")}
    assert [key for key, place in places.items() if place not in found] == []
    report = await repaired(store)
    assert report.ok, report.as_json()
    assert await contents(store) == before


async def test_a_deep_verification_goes_on_where_it_stopped(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "registry", fsync=False)
    await fill(store)
    seen = Remembered()
    first = await verify(StaticRegistry(store).audit(), Depth(deep=True, seen=seen))
    seen.digests.pop()
    second = await verify(StaticRegistry(store).audit(), Depth(deep=True, seen=seen))
    assert (second.skipped, second.blobs) == (first.blobs - 1, first.blobs)
    assert 0 < second.bytes < first.bytes


class Remembered:
    """What was read, in memory."""

    def __init__(self) -> None:
        self.digests: set[str] = set()

    def has(self, repository: str, digest: str) -> bool:
        return digest in self.digests

    async def add(self, repository: str, digest: str) -> None:
        self.digests.add(digest)


async def test_reading_keeps_below_the_rate(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "registry", fsync=False)
    await fill(store)
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)
        await anyio.lowlevel.checkpoint()

    report = await verify(StaticRegistry(store).audit(), Depth(deep=True, pace=ReadRate(1000.0, note)))
    assert max(waits) == pytest.approx(report.bytes / 1000, rel=0.1)


def test_the_report_is_plain_json() -> None:
    report = Verified(findings=[Finding("a", BLOB, "sha256:0", Fault.MISSING, tags=("1",))])
    assert json.loads(json.dumps(report.as_json()))["findings"][0]["fault"] == "missing"
    assert not report.ok


async def test_keys_that_are_no_part_of_a_registry_do_not_matter(store: Store) -> None:
    await fill(store)
    for key in ("v2/team/app/manifests/not a tag", "v2/x", "v2/team/app/blobs/sha256:short", "other/file"):
        await put(store, key, b"x")
    assert (await verified(store)).ok
    assert len(await keys(store, "v2/x")) == 1
