"""Referrers and the catalog of static registries: derived, complete, and cheap."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from ocisync.content.object_store import ObjectHeaders, ObjectInfo
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import Opener
from ocisync.errors import StoreError
from ocisync.model import media_types
from ocisync.model.descriptor import descriptor_to_json
from ocisync.model.digest import Digest
from ocisync.model.digest_tags import fallback_tag
from ocisync.model.subjects import format_referrers
from ocisync.serve.app import registry_app
from ocisync.serve.server import serve
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.s3.store import S3Store
from ocisync.stores.static import layout
from ocisync.stores.static.options import StaticOptions
from ocisync.stores.static.registry import StaticRegistry
from ocisync.stores.static.repository import StaticRepository
from tests.contract.graphs import Image, described, make_image, make_index, publish_image, push_image
from tests.integration.static_targets import (
    KINDS,
    Counted,
    Kind,
    contents,
    keys,
    make_artifact,
    open_store,
    put,
    read,
    read_json,
)
from tests.servers.client import fetch
from tests.servers.seaweed import Bucket, Seaweed

NAME = "team/app"
Store = DirectoryStore | S3Store


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path, s3: Seaweed) -> AsyncIterator[Store]:
    kind: Kind = request.param
    async with open_store(kind, tmp_path, s3) as opened:
        yield opened


async def referrers(store: Store, digest: Digest, name: str = NAME) -> list[dict[str, object]]:
    """What a manifest's list of referrers names."""
    document = await read_json(store, layout.referrers_key(name, digest))
    assert (document["schemaVersion"], document["mediaType"]) == (2, media_types.OCI_INDEX)
    found = document["manifests"]
    assert isinstance(found, list)
    return found


async def check_all_or_nothing(store: Store, name: str = NAME) -> None:
    """Every manifest of the repository has a list, and nothing else has."""
    prefix = layout.repository_prefix(name)
    manifests = {key.rpartition("/")[2] for key in await keys(store, f"{prefix}manifests/sha")}
    assert {key.rpartition("/")[2] for key in await keys(store, f"{prefix}referrers/")} == manifests
    assert manifests


async def test_every_manifest_has_a_list_of_referrers(store: Store) -> None:
    index = make_index(make_image("amd64"), make_image("arm64"))
    repository = StaticRegistry(store).repository(NAME)
    await publish_image(repository, index, "1.0")
    await check_all_or_nothing(store)
    for image in (index, *index.children):
        assert await referrers(store, image.desc.digest) == []


async def test_an_artifact_stands_in_its_subjects_list(store: Store) -> None:
    image = make_image("signed")
    repository = StaticRegistry(store).repository(NAME)
    await publish_image(repository, image, "1.0")
    note = make_artifact(image.desc.digest, "first")
    on_note = make_artifact(note.desc.digest, "a note on the note", artifact_type="")
    await push_image(repository, note)
    await repository.push(note.desc, BytesOpener(note.raw))
    await publish_image(repository, on_note, "note")
    await check_all_or_nothing(store)
    (entry,) = await referrers(store, image.desc.digest)
    assert entry == {
        "mediaType": media_types.OCI_MANIFEST,
        "digest": note.desc.digest,
        "size": len(note.raw),
        "artifactType": "application/x.note",
        "annotations": {"note": "first"},
    }
    (entry,) = await referrers(store, note.desc.digest)
    assert (entry["digest"], entry["artifactType"]) == (on_note.desc.digest, media_types.OCI_EMPTY)
    assert await referrers(store, on_note.desc.digest) == []


async def test_a_repository_tells_its_referrers_from_its_lists_or_from_those_under_tags(store: Store) -> None:
    image = make_image("signed")
    note = make_artifact(image.desc.digest, "first")
    kept = StaticRegistry(store).repository("kept")
    await publish_image(kept, note, "note")
    (told,) = await kept.referrers(image.desc.digest)
    assert (told, told.artifact_type) == (described(note.raw, note.media_type), "application/x.note")
    assert list(await kept.referrers(note.desc.digest)) == []

    by_tag = StaticRegistry(store, options=StaticOptions(referrers=False)).repository("tagged")
    entries = format_referrers({note.desc.digest: descriptor_to_json(told)})
    await put(store, layout.manifest_key("tagged", fallback_tag(image.desc.digest)), entries)
    assert [desc.digest for desc in await by_tag.referrers(image.desc.digest)] == [note.desc.digest]
    assert list(await by_tag.referrers(note.desc.digest)) == []
    await put(store, layout.referrers_key("kept", image.desc.digest), b"garbage")
    with pytest.raises(StoreError, match="ocisync reconcile repairs it"):
        await kept.referrers(image.desc.digest)


async def test_the_order_of_pushes_does_not_matter_to_the_bytes(tmp_path: Path) -> None:
    image = make_image("signed")
    notes = [make_artifact(image.desc.digest, str(number)) for number in range(4)]
    found = []
    for number, order in enumerate((notes, notes[::-1])):
        store = DirectoryStore(tmp_path / str(number), fsync=False)
        repository = StaticRegistry(store).repository(NAME)
        for position, note in enumerate(order):
            await publish_image(repository, note, f"n{notes.index(note)}")
            if position == 1:
                await publish_image(repository, image, "1.0")
        found.append(await contents(store))
        assert len(await referrers(store, image.desc.digest)) == 4
    assert found[0] == found[1]


async def test_a_subject_that_is_not_there_yet_has_its_list(store: Store) -> None:
    image = make_image("later")
    repository = StaticRegistry(store).repository(NAME)
    note = make_artifact(image.desc.digest, "early")
    await publish_image(repository, note, "note")
    assert [entry["digest"] for entry in await referrers(store, image.desc.digest)] == [note.desc.digest]
    await publish_image(repository, image, "1.0")
    await check_all_or_nothing(store)
    assert [entry["digest"] for entry in await referrers(store, image.desc.digest)] == [note.desc.digest]


async def test_what_was_published_before_the_lists_were_kept_gets_them(store: Store) -> None:
    image, note = make_image("old"), make_artifact(make_image("old").desc.digest, "old note")
    before = StaticRegistry(store, options=StaticOptions(referrers=False, catalog=False)).repository(NAME)
    await publish_image(before, image, "1.0")
    await publish_image(before, note, "note")
    assert not [key for key in await keys(store) if "referrers" in key or "_catalog" in key]
    await publish_image(StaticRegistry(store).repository(NAME), make_image("new"), "2.0")
    await check_all_or_nothing(store)
    assert [entry["digest"] for entry in await referrers(store, image.desc.digest)] == [note.desc.digest]


async def test_a_manifest_of_another_tool_that_cannot_be_read_has_an_empty_list(store: Store) -> None:
    digest = described(b'garbage with a "subject"').digest
    await put(store, layout.manifest_key(NAME, digest), b'garbage with a "subject"')
    await publish_image(StaticRegistry(store).repository(NAME), make_image("fine"), "1.0")
    await check_all_or_nothing(store)
    assert await referrers(store, digest) == []


async def test_writers_of_referrers_converge(store: Store) -> None:
    image = make_image("signed")
    await publish_image(StaticRegistry(store).repository(NAME), image, "1.0")
    notes = [make_artifact(image.desc.digest, str(number)) for number in range(12)]

    async def write(number: int) -> None:
        repository = StaticRegistry(store).repository(NAME)  # a process of its own, as far as it remembers
        for note in notes[number::4]:
            await publish_image(repository, note, f"note-{notes.index(note)}")

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(write, number)
    assert {entry["digest"] for entry in await referrers(store, image.desc.digest)} == {
        note.desc.digest for note in notes
    }
    await check_all_or_nothing(store)


async def test_the_catalog_names_what_has_an_image(store: Store) -> None:
    registry = StaticRegistry(store)
    for name in ("z", "a/b", "a", "m/n/o"):
        await publish_image(registry.repository(name), make_image(name), "1")
    assert await read(store, layout.CATALOG_KEY) == b'{"repositories":["a","a/b","m/n/o","z"]}'


async def test_a_damaged_catalog_is_written_anew(store: Store) -> None:
    await publish_image(StaticRegistry(store).repository("old"), make_image("old"), "1")
    for damage in (b"garbage", b'{"repositories":null}', b"[]"):
        await put(store, layout.CATALOG_KEY, damage)
        await publish_image(StaticRegistry(store).repository("new"), make_image("new"), "1")
        assert await read_json(store, layout.CATALOG_KEY) == {"repositories": ["new", "old"]}


async def test_writers_of_the_catalog_converge(store: Store) -> None:
    async def write(number: int) -> None:
        await publish_image(StaticRegistry(store).repository(f"app{number}"), make_image(str(number), layers=1), "1")

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(write, number)
    assert await read_json(store, layout.CATALOG_KEY) == {"repositories": sorted(f"app{n}" for n in range(12))}


async def test_content_types_and_cache_headers(s3: Seaweed, tmp_path: Path) -> None:
    async with open_store("s3", tmp_path, s3) as store:
        image = make_image("typed")
        await publish_image(StaticRegistry(store).repository(NAME), image, "1.0")
        bucket = Bucket(str(store).split("'")[1], s3.endpoint, s3.client)
    listed = bucket.get(layout.referrers_key(NAME, image.desc.digest))
    assert (listed.content_type, listed.cache_control) == (media_types.OCI_INDEX, "no-cache")
    catalog = bucket.get(layout.CATALOG_KEY)
    assert (catalog.content_type, catalog.cache_control) == ("application/json", "no-cache")


async def test_what_a_publication_costs(s3: Seaweed, tmp_path: Path) -> None:
    async with open_store("s3", tmp_path, s3) as store:
        counted = Counted(store)
        registry = StaticRegistry(counted)  # type: ignore[arg-type]
        repository = registry.repository(NAME)
        await publish_image(repository, make_image("first"), "first")
        images = {f"t{number}": make_image(str(number), layers=1) for number in range(20)}
        for image in images.values():
            await push_image(repository, image)
        counted.calls.clear()
        await repository.publish({tag: image.desc for tag, image in images.items()})
        added = [call for call in counted.calls if "referrers" in call or "_catalog" in call]
        assert sum(call.startswith("put") for call in added) == 20  # a list for each new manifest
        assert [call for call in added if not call.startswith("put")] == [f"list v2/{NAME}/referrers/"]
        assert not [call for call in counted.calls if call.startswith("open v2") and "tags" not in call]
        counted.calls.clear()
        await repository.publish({tag: image.desc for tag, image in images.items()})
        assert not [call for call in counted.calls if call.startswith("put")]


async def test_a_job_lists_no_more_than_it_must(s3: Seaweed, tmp_path: Path) -> None:
    async with open_store("s3", tmp_path, s3) as store:
        counted = Counted(store)
        repository = StaticRegistry(counted).repository(NAME)  # type: ignore[arg-type]
        images = {f"t{number}": make_image(str(number), layers=1) for number in range(3)}
        await repository.list_all(await repository.list_manifests())
        await _publish_as_jobs_do(repository, images)
        prefix = f"list {layout.repository_prefix(NAME)}"
        lists = Counter(call.removeprefix(prefix) for call in counted.calls if call.startswith(prefix))
        assert lists == {"manifests/": 3, "blobs/": 2, "referrers/": 1}
        asked = Counter(call for call in counted.calls if "tags/list" in call or "_catalog" in call)
        assert set(asked.values()) == {1}  # what was written is not read again
        assert (await read_json(store, layout.tags_key(NAME)))["tags"] == sorted(images)
        await check_all_or_nothing(store)


async def test_a_tag_that_moves_to_and_fro_within_one_job(store: Store) -> None:
    repository = StaticRegistry(store).repository(NAME)
    one, other = make_image("one"), make_image("other")
    await publish_image(repository, one, "latest")
    await push_image(repository, other)
    await repository.push_manifests([one.desc, other.desc])
    await repository.list_manifests()
    for image in (other, one):
        await repository.publish({"latest": image.desc})
        assert (await repository.resolve("latest")).digest == image.desc.digest


async def test_what_vanished_after_it_was_staged_is_written_again(store: Store) -> None:
    repository = StaticRegistry(store).repository(NAME)
    image = make_image("vanishing")
    await repository.list_manifests()
    await push_image(repository, image)
    await repository.push_manifests([image.desc])
    await store.delete([layout.manifest_key(NAME, image.desc.digest)])
    await repository.list_all()
    await repository.publish({"1.0": image.desc})
    assert await repository.exists(image.desc)
    await check_all_or_nothing(store)


async def test_tags_of_another_writer_stay_in_the_list_all_the_time(store: Store) -> None:
    kept: list[list[str]] = []

    class Watched(Counted):
        async def put(self, key: str, opener: Opener, headers: ObjectHeaders, **how: Any) -> ObjectInfo:
            info = await super().put(key, opener, headers, **how)
            if key == layout.tags_key(NAME):
                kept.append(cast("list[str]", (await read_json(store, key))["tags"]))
            return info

    image, foreign = make_image("ours"), make_image("foreign")
    repository = StaticRegistry(Watched(store)).repository(NAME)  # type: ignore[arg-type]
    await push_image(repository, image)
    await repository.push_manifests([image.desc])
    await repository.list_all()
    await publish_image(StaticRegistry(store).repository(NAME), foreign, "foreign")  # after our last look
    await repository.publish({"ours": image.desc})
    assert kept == [["foreign", "ours"]]


async def _publish_as_jobs_do(repository: StaticRepository, images: Mapping[str, Image]) -> None:
    for image in images.values():
        await push_image(repository, image)
    await repository.push_manifests([image.desc for image in images.values()])
    await repository.list_all()
    await repository.publish({tag: image.desc for tag, image in images.items()})


async def test_the_lists_are_served(store: Store) -> None:
    image = make_image("served")
    repository = StaticRegistry(store).repository(NAME)
    await publish_image(repository, image, "1.0")
    note, other = (make_artifact(image.desc.digest, kind, artifact_type=f"application/x.{kind}") for kind in "ab")
    await publish_image(repository, note, "a")
    await publish_image(repository, other, "b")
    async with serve(registry_app(store), "127.0.0.1", 0) as url:
        reply = await anyio.to_thread.run_sync(fetch, "GET", f"{url}/v2/{NAME}/referrers/{image.desc.digest}")
        assert {one["digest"] for one in json.loads(reply.body)["manifests"]} == {note.desc.digest, other.desc.digest}
        asked = f"{url}/v2/{NAME}/referrers/{image.desc.digest}?artifactType=application/x.b"
        reply = await anyio.to_thread.run_sync(fetch, "GET", asked)
        assert [one["digest"] for one in json.loads(reply.body)["manifests"]] == [other.desc.digest]
        reply = await anyio.to_thread.run_sync(fetch, "GET", f"{url}/v2/_catalog")
        assert json.loads(reply.body) == {"repositories": [NAME]}


async def test_newest_first(store: Store) -> None:
    repository = StaticRegistry(store, options=StaticOptions(order="newest")).repository(NAME)
    images: list[Image] = [make_image(str(number), layers=1) for number in range(3)]
    for tag, image in zip(("b", "c", "a"), images, strict=True):
        await publish_image(repository, image, tag)
        await _next_second(store)
    document = await read_json(store, layout.tags_key(NAME))
    assert document["tags"] == ["a", "c", "b"]


async def _next_second(store: Store) -> None:
    """S3 knows dates to the second: write until the store's clock has moved on."""
    await put(store, ".scratch", b"")
    first = await _modified(store)
    while await _modified(store) <= first:
        await put(store, ".scratch", b"")


async def _modified(store: Store) -> float:
    found = await store.head(".scratch")
    assert found is not None
    return found.modified
