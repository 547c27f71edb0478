"""Garbage collection: what no tag reaches goes, nothing else does, and writers may work beside it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from ocisync.content.object_store import ObjectStore
from ocisync.content.openers import BytesOpener
from ocisync.errors import ConfigError
from ocisync.maintenance.gc import Collected
from ocisync.maintenance.gc_files import Collection
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.s3.store import open_s3
from ocisync.stores.static import layout
from ocisync.stores.static.registry import StaticRegistry
from tests.contract.graphs import Image, make_image, make_index, publish_image, push_image
from tests.contract.test_s3 import options_for
from tests.integration.static_targets import KINDS, Kind, keys, make_artifact, open_store, put, read, read_json
from tests.servers.seaweed import Seaweed

NAME = "team/app"
GRACE = 1.0  # seconds: the resolution of S3's dates
Store = ObjectStore


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path, s3: Seaweed) -> AsyncIterator[Store]:
    kind: Kind = request.param
    async with open_store(kind, tmp_path, s3) as opened:
        yield opened


def collection(store: Store, tmp_path: Path, grace: float = GRACE, limit: float = 1.0) -> Collection:
    """As a process of its own."""
    return Collection(StaticRegistry(store).audit(), "out", grace, limit, tmp_path / "journal.jsonl")


async def gc(store: Store, tmp_path: Path, grace: float = GRACE) -> Collected:
    """Collect, and expect it to go well."""
    _, done = await collection(store, tmp_path, grace).run()
    assert done.ok, (done.problems, done.failures)
    return done


async def grow_old(store: Store, seconds: float = GRACE) -> None:
    """Wait until everything that is stored now is older than this, by the store's own clock."""
    audit = StaticRegistry(store).audit()
    begin = await audit.now()
    with anyio.fail_after(30):
        while await audit.now() < begin + seconds + 0.01:  # noqa: ASYNC110 (the store's clock tells nobody)
            await anyio.sleep(0.02)


async def untag(store: Store, name: str, *tags: str) -> None:
    """Remove tags, and bring the list up to date."""
    await store.delete([layout.manifest_key(name, tag) for tag in tags])
    await StaticRegistry(store).repository(name).reconcile()


def keys_of(name: str, *images: Image) -> set[str]:
    """Every key of images by digest."""
    found = set()
    for image in images:
        found |= {layout.manifest_key(name, image.desc.digest), layout.referrers_key(name, image.desc.digest)}
        found |= {layout.blob_key(name, desc.digest) for desc, _ in image.blobs} | keys_of(name, *image.children)
    return found


async def content_keys(store: Store, name: str = NAME) -> set[str]:
    """What lies under digests."""
    return {key for key in await keys(store, layout.repository_prefix(name)) if "sha256:" in key}


async def test_what_no_tag_reaches_goes_and_nothing_else(store: Store, tmp_path: Path) -> None:
    repository = StaticRegistry(store).repository(NAME)
    kept = make_index(make_image("kept"), make_image("shared"))
    gone = make_index(make_image("gone"), make_image("shared"))
    other = make_image("gone")
    await publish_image(repository, kept, "kept")
    await publish_image(repository, gone, "gone")
    await publish_image(StaticRegistry(store).repository("other"), other, "1")
    await untag(store, NAME, "gone")
    await grow_old(store)
    done = await gc(store, tmp_path)
    assert await content_keys(store) == keys_of(NAME, kept)
    assert await content_keys(store, "other") == keys_of("other", other)
    assert (await read_json(store, layout.tags_key(NAME)))["tags"] == ["kept"]
    journal = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert {one["digest"] for one in journal} == {
        key.rpartition("/")[2] for key in keys_of(NAME, gone) - keys_of(NAME, kept)
    }
    assert (done.removed, done.bytes) == (len(journal), sum(one["size"] for one in journal))
    assert (await gc(store, tmp_path)).removed == 0


async def test_young_content_stays(store: Store, tmp_path: Path) -> None:
    repository = StaticRegistry(store).repository(NAME)
    await publish_image(repository, make_image("gone"), "gone")
    await untag(store, NAME, "gone")
    before = await content_keys(store)
    assert (await gc(store, tmp_path, grace=3600)).removed == 0
    assert await content_keys(store) == before


async def test_a_young_manifest_keeps_what_is_old_below_it(store: Store, tmp_path: Path) -> None:
    image = make_index(make_image("about to be tagged"))
    repository = StaticRegistry(store).repository(NAME)
    await push_image(repository, image)
    await grow_old(store)
    await repository.push(image.desc, BytesOpener(image.raw))
    await gc(store, tmp_path)
    assert {key for key in keys_of(NAME, image) if "referrers" not in key} == await content_keys(store)


async def test_referrers_stay_with_their_subject(store: Store, tmp_path: Path) -> None:
    repository = StaticRegistry(store).repository(NAME)
    image, gone = make_image("signed"), make_image("untagged")
    note = make_artifact(image.desc.digest, "note")
    on_note = make_artifact(note.desc.digest, "note on the note")
    orphan = make_artifact(gone.desc.digest, "note on what goes")
    for each in (image, gone, note, on_note, orphan):
        await publish_image(repository, each, "t" + each.desc.digest[-8:])
    await untag(store, NAME, *("t" + each.desc.digest[-8:] for each in (gone, note, on_note, orphan)))
    await grow_old(store)
    await gc(store, tmp_path)
    assert await content_keys(store) == keys_of(NAME, image, note, on_note)


async def test_a_tag_that_comes_after_the_plan_spares_its_image(store: Store, tmp_path: Path) -> None:
    repository = StaticRegistry(store).repository(NAME)
    saved, gone = make_image("saved"), make_image("gone")
    for image in (saved, gone):
        await push_image(repository, image)
        await repository.push(image.desc, BytesOpener(image.raw))
    await grow_old(store)
    collecting, file = collection(store, tmp_path), tmp_path / "plan.jsonl"
    totals = await collecting.plan(file)
    assert totals.doomed == 8
    await repository.publish({"saved": saved.desc})
    done = await collecting.apply(file)
    assert (done.removed, done.spared) == (4, 4)
    assert {key for key in await content_keys(store) if "referrers" not in key} == {
        key for key in keys_of(NAME, saved) if "referrers" not in key
    }


async def test_what_was_made_young_after_the_plan_is_spared(store: Store, tmp_path: Path) -> None:
    repository = StaticRegistry(store).repository(NAME)
    image = make_image("reused", layers=1)
    await push_image(repository, image)
    await grow_old(store)
    collecting, file = collection(store, tmp_path), tmp_path / "plan.jsonl"
    await collecting.plan(file)
    for desc, _ in image.blobs:
        assert await repository.touch(desc.digest)
    done = await collecting.apply(file)
    assert (done.removed, done.spared) == (0, 2)


@pytest.mark.parametrize("damage", ["corrupt", "no manifest", "schema 1"])
async def test_of_a_repository_that_cannot_be_read_nothing_goes(store: Store, tmp_path: Path, damage: str) -> None:
    for name in (NAME, "other"):
        repository = StaticRegistry(store).repository(name)
        await publish_image(repository, make_index(make_image("kept")), "kept")
        await publish_image(repository, make_image("gone"), "gone")
        await untag(store, name, "gone")
    child = make_image("kept").desc
    assert child.data is not None
    if damage == "corrupt":
        await put(store, layout.manifest_key(NAME, child.digest), child.data[:-1] + b" ", child.media_type)
    else:
        await put(
            store, layout.manifest_key(NAME, "bad"), b"{}" if damage == "no manifest" else b'{"schemaVersion": 1}'
        )
    await grow_old(store)
    before = await content_keys(store)
    _, done = await collection(store, tmp_path).run()
    assert [problem for problem in done.problems if NAME in problem]
    assert await content_keys(store) == before
    assert await content_keys(store, "other") == keys_of("other", make_index(make_image("kept")))


async def test_when_the_listing_lacks_tags_nothing_goes(store: Store, tmp_path: Path) -> None:
    await publish_image(StaticRegistry(store).repository(NAME), make_image("a"), "a")
    await store.delete([layout.manifest_key(NAME, "a")])
    await grow_old(store)
    before = await content_keys(store)
    _, done = await collection(store, tmp_path).run()
    assert "reconcile" in done.problems[0]
    assert await content_keys(store) == before


async def test_above_the_limit_nothing_goes(store: Store, tmp_path: Path) -> None:
    for number in range(8):
        await push_image(StaticRegistry(store).repository(NAME), make_image(str(number)))
    await publish_image(StaticRegistry(store).repository(NAME), make_image("kept"), "kept")
    await grow_old(store)
    before = await content_keys(store)
    with pytest.raises(ConfigError, match=r"24 of 28 objects would be removed, more than the limit of 50%"):
        await collection(store, tmp_path, limit=0.5).run()
    assert await content_keys(store) == before


async def test_an_empty_repository_leaves_no_lists(store: Store, tmp_path: Path) -> None:
    registry = StaticRegistry(store)
    await publish_image(registry.repository(NAME), make_image("gone"), "gone")
    await publish_image(registry.repository("other"), make_image("kept"), "kept")
    await untag(store, NAME, "gone")
    await grow_old(store)
    await gc(store, tmp_path)
    assert await keys(store, layout.repository_prefix(NAME)) == []
    assert await read(store, layout.CATALOG_KEY) == b'{"repositories":["other"]}'


@pytest.mark.parametrize("cut", ["other target", "no end", "no plan", "bad line"])
async def test_a_plan_that_is_not_whole_is_refused(tmp_path: Path, cut: str) -> None:
    store = DirectoryStore(tmp_path / "registry", fsync=False)
    await push_image(StaticRegistry(store).repository(NAME), make_image("x"))
    await grow_old(store, 0.0)
    collecting, file = collection(store, tmp_path, grace=0.0), tmp_path / "plan.jsonl"
    await collecting.plan(file)
    lines = file.read_text().splitlines(keepends=True)
    spoilt = {
        "other target": [lines[0].replace('"out"', '"in"'), *lines[1:]],
        "no end": lines[:-1],
        "no plan": ["{}\n", *lines[1:]],
        "bad line": [lines[0], lines[1].replace("sha256:", "sha999:"), *lines[2:]],
    }
    file.write_text("".join(spoilt[cut]))
    before = await content_keys(store)
    with pytest.raises(ConfigError):
        await collecting.apply(file)
    assert await content_keys(store) == before


async def test_scratch_objects_of_killed_processes_go(store: Store, tmp_path: Path) -> None:
    await publish_image(StaticRegistry(store).repository(NAME), make_image("kept"), "kept")
    before = await keys(store)
    for purpose in ("probe", "provider", "clock"):
        await put(store, f"{layout.SCRATCH}{purpose}-0123456789abcdef", b"x")
    await grow_old(store)
    audit = StaticRegistry(store).audit()
    assert (await gc(store, tmp_path)).left.scratch == 0, "they may be in use"
    assert (await audit.remove_abandoned(uploads=GRACE, scratch=GRACE)).scratch == 3
    assert await keys(store) == before


async def test_collections_at_one_time_do_not_take_each_others_clock(store: Store) -> None:
    audit = StaticRegistry(store).audit()
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(audit.now)
    assert not [key for key in await keys(store) if key.startswith(layout.SCRATCH)]


async def test_uploads_that_nobody_ended_are_aborted(tmp_path: Path, s3: Seaweed) -> None:
    bucket = s3.bucket()
    async with open_s3(options_for(bucket)) as store:
        key = layout.blob_key(NAME, make_image("x").desc.digest)
        bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
        assert (await gc(store, tmp_path, grace=3600)).left.uploads == 0
        assert bucket.uploads() == [key]
        await grow_old(store)
        assert (await gc(store, tmp_path)).left.uploads == 1
    assert bucket.uploads() == []
