"""Reconcile: what other tools wrote to the registry becomes whole again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ocisync.content.object_store import ObjectKind
from ocisync.content.openers import BytesOpener
from ocisync.maintenance.reconcile import reconcile
from ocisync.model import media_types
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.s3.store import S3Store
from ocisync.stores.static import layout
from ocisync.stores.static.options import StaticOptions
from ocisync.stores.static.registry import StaticRegistry
from tests.contract.graphs import make_image, make_index, publish_image, push_image
from tests.integration.static_targets import (
    KINDS,
    Counted,
    Kind,
    contents,
    keys,
    make_artifact,
    open_store,
    put,
    read_json,
)
from tests.servers.seaweed import Seaweed

NAME = "team/app"
Store = DirectoryStore | S3Store


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path, s3: Seaweed) -> AsyncIterator[Store]:
    kind: Kind = request.param
    async with open_store(kind, tmp_path, s3) as opened:
        yield opened


async def healed(store: Store, options: StaticOptions | None = None) -> set[str]:
    """Reconcile as another process would; the keys that were changed."""
    done = await reconcile(StaticRegistry(store, options=options).audit())
    assert done.ok, done.failures
    return set(done.changed)


async def fill(store: Store) -> dict[str, bytes]:
    """Two repositories with an artifact; every object."""
    registry = StaticRegistry(store)
    index = make_index(make_image("amd64"), make_image("arm64"))
    await publish_image(registry.repository(NAME), index, "1.0", "latest")
    await publish_image(registry.repository(NAME), make_artifact(index.desc.digest, "note"), "note")
    await publish_image(registry.repository("other"), make_image("other"), "1")
    return dict(await contents(store))


async def test_what_is_right_is_left_alone(store: Store) -> None:
    before = await fill(store)
    counted = Counted(store)
    done = await reconcile(StaticRegistry(counted).audit())  # type: ignore[arg-type]
    assert (done.repositories, done.changed) == (2, [])
    assert not [call for call in counted.calls if call.startswith(("put", "delete"))]
    assert await contents(store) == before


async def test_every_derived_object_comes_back(store: Store) -> None:
    before = await fill(store)
    derived = [key for key in before if "/tags/" in key or "/referrers/" in key or key in (layout.CATALOG_KEY, "v2/")]
    derived += ["v2/index.html"]
    assert len(derived) >= 9
    await store.delete(derived)
    assert await healed(store) | set(layout.ROOT_KEYS) == {*derived, *layout.ROOT_KEYS}
    assert await contents(store) == before


@pytest.mark.parametrize("damage", [b"", b"garbage", b'{"name":"team/app","tags":["gone"]}', b"[]"])
async def test_clobbered_lists_are_mended(store: Store, damage: bytes) -> None:
    before = await fill(store)
    digest = next(key.rpartition("/")[2] for key in before if "referrers" in key)
    hit = [layout.tags_key(NAME), layout.CATALOG_KEY, f"v2/{NAME}/referrers/{digest}", "v2/index.html"]
    for key in hit:
        await put(store, key, damage)
    assert await healed(store) == set(hit)
    assert await contents(store) == before


async def test_a_writer_that_only_adds_a_tag_and_its_own_list(store: Store) -> None:
    """albatros: the manifest under the tag, its blobs, and a list that names this tag alone."""
    before = await fill(store)
    image = make_image("albatros")
    await push_image(StaticRegistry(store).repository("team/new"), image)
    for name in (NAME, "team/new"):
        await push_image(StaticRegistry(store).repository(name), image)
        await put(store, layout.manifest_key(name, "2.0"), image.raw, image.media_type)
        await put(store, layout.tags_key(name), layout.tags_list_body(name, ["2.0"]))
    changed = await healed(store)
    assert {layout.manifest_key(name, image.desc.digest) for name in (NAME, "team/new")} <= changed
    assert (await read_json(store, layout.tags_key(NAME)))["tags"] == ["1.0", "2.0", "latest", "note"]
    assert (await read_json(store, layout.CATALOG_KEY))["repositories"] == ["other", NAME, "team/new"]
    assert (
        await StaticRegistry(store).repository("team/new").resolve(image.desc.digest)
    ).media_type == image.media_type
    assert await healed(store) == set()
    assert before.items() - (await contents(store)).items() <= {
        (key, before[key]) for key in (layout.tags_key(NAME), layout.CATALOG_KEY)
    }


async def test_a_writer_that_writes_no_lists_at_all(store: Store) -> None:
    """`oc image mirror`: manifests under tag and digest, blobs, nothing else, into an empty registry."""
    image = make_index(make_image("a"), make_image("b"))
    repository = StaticRegistry(store).repository(NAME)
    await push_image(repository, image)
    for reference in ("1.0", image.desc.digest):
        await put(store, layout.manifest_key(NAME, reference), image.raw, image.media_type)
    await healed(store)
    expected = StaticRegistry(store).repository(NAME)
    found = await contents(store)
    assert sum("/referrers/" in key for key in found) == 3
    assert {layout.tags_key(NAME), layout.CATALOG_KEY, "v2/index.html"} <= found.keys()
    await expected.publish({"1.0": image.desc})
    assert await contents(store) == found


async def test_a_tool_that_knows_no_content_types(tmp_path: Path, s3: Seaweed) -> None:
    """`aws s3 cp`: everything is binary/octet-stream."""
    async with open_store("s3", tmp_path, s3) as store:
        image = make_image("copied")
        repository = StaticRegistry(store).repository(NAME)
        await push_image(repository, image)
        await put(store, layout.manifest_key(NAME, "1.0"), image.raw, "binary/octet-stream")
        await put(store, layout.tags_key(NAME), layout.tags_list_body(NAME, ["1.0"]), "binary/octet-stream")
        changed = await healed(store)
        assert {layout.manifest_key(NAME, "1.0"), layout.tags_key(NAME)} <= changed
        for reference in ("1.0", image.desc.digest):
            info = await store.head(layout.manifest_key(NAME, reference))
            assert info is not None
            assert info.content_type == media_types.OCI_MANIFEST


async def test_lists_of_what_was_removed_go(store: Store) -> None:
    await fill(store)
    repository = StaticRegistry(store).audit().repository(NAME)
    note = await repository.store.resolve("note")
    subject = await repository.store.resolve("1.0")
    await repository.remove(ObjectKind.TAG, ["note"])
    await repository.remove(ObjectKind.MANIFEST, [note.digest])
    changed = await healed(store)
    assert changed == {
        layout.tags_key(NAME),
        layout.referrers_key(NAME, note.digest),
        layout.referrers_key(NAME, subject.digest),
    }
    assert (await read_json(store, layout.referrers_key(NAME, subject.digest)))["manifests"] == []


async def test_a_registry_that_is_to_have_no_referrers_and_no_catalog(store: Store) -> None:
    await fill(store)
    await healed(store, StaticOptions(referrers=False, catalog=False))
    assert not [key for key in await keys(store) if "referrers" in key or "_catalog" in key]


async def test_one_bad_repository_does_not_stop_the_others(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "registry", fsync=False)
    before = await fill(store)
    (tmp_path / "registry/v2/broken/tags/list").mkdir(parents=True)
    await put(store, layout.manifest_key("broken", "1.0"), make_image("x").raw)
    await put(store, layout.tags_key(NAME), b"clobbered")
    done = await reconcile(StaticRegistry(store).audit())
    assert set(done.failures) == {"broken"}
    assert (await contents(store))[layout.tags_key(NAME)] == before[layout.tags_key(NAME)]


async def test_one_repository_alone(store: Store) -> None:
    await fill(store)
    for name in (NAME, "other"):
        await put(store, layout.tags_key(name), b"clobbered")
    done = await reconcile(StaticRegistry(store).audit(), "team")
    assert (done.repositories, done.changed) == (1, [layout.tags_key(NAME)])


async def test_the_stores_clock_dates_what_is_written(store: Store) -> None:
    audit = StaticRegistry(store).audit()
    before = await audit.now()
    await (
        StaticRegistry(store)
        .repository(NAME)
        .push(make_image("x").blobs[0][0], BytesOpener(make_image("x").blobs[0][1]))
    )
    (blob,) = [held async for held in audit.repository(NAME).list_objects(ObjectKind.BLOB)]
    assert before - 1 <= blob.modified <= await audit.now() + 1
    assert not [key for key in await keys(store) if "clock" in key]
