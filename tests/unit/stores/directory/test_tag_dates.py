"""When each tag was published, although tags of one manifest are links to one file."""

import os
import shutil
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import pytest

from ocisync.content.object_store import ObjectKind
from ocisync.maintenance.retention import KeepPolicy, TagAge, decide
from ocisync.serve.app import registry_app
from ocisync.serve.server import serve
from ocisync.stores.directory.store import DirectoryStore
from ocisync.stores.static.options import StaticOptions
from ocisync.stores.static.registry import StaticRegistry
from tests.contract.graphs import Image, make_image, publish_image

pytestmark = pytest.mark.anyio
DAY = 24 * 3600.0  # seconds
NOW = float(int(time.time()))
DATES = {"old": NOW - 30 * DAY, "middle": NOW - 3 * DAY, "young": NOW - DAY}


def marker(root: Path, tag: str) -> Path:
    return root / ".ocisync/published/v2/app/manifests" / tag


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "registry")


@pytest.fixture
async def image(store: DirectoryStore) -> Image:
    """One image under three tags, published on different days in another order than that of their names."""
    made = make_image()
    registry = StaticRegistry(store)
    for tag, date in DATES.items():
        await publish_image(registry.repository("app"), made, tag)
        os.utime(marker(store.root, tag), (date, date))
    assert len({path.stat().st_ino for path in (store.root / "v2/app/manifests").iterdir()}) == 1
    return made


async def dates(store: DirectoryStore) -> dict[str, float]:
    """What a listing says, and that a look says the same."""
    repository = StaticRegistry(store).audit().repository("app")
    found = {}
    async for entry in repository.list_objects(ObjectKind.TAG):
        seen = await repository.stat(ObjectKind.TAG, entry.reference)
        assert seen is not None
        assert seen.modified == entry.modified
        found[entry.reference] = entry.modified
    return found


async def test_each_tag_has_its_own_date(store: DirectoryStore, image: Image) -> None:
    assert await dates(store) == DATES
    ages = [TagAge(tag, date, image.desc.digest) for tag, date in (await dates(store)).items()]
    gone = [one.tag for one in decide(ages, KeepPolicy(newest=2), NOW) if not one.stays]
    assert gone == ["old"]


async def test_content_that_is_made_young_leaves_the_tags_their_dates(store: DirectoryStore, image: Image) -> None:
    assert await StaticRegistry(store).repository("app").touch(image.desc.digest)
    assert await dates(store) == DATES


async def test_a_tag_that_is_published_unchanged_keeps_its_date(store: DirectoryStore, image: Image) -> None:
    await StaticRegistry(store).repository("app").publish({"old": image.desc})
    assert await dates(store) == DATES


async def test_a_tag_that_moves_is_as_young_as_its_move(store: DirectoryStore, image: Image) -> None:
    await publish_image(StaticRegistry(store).repository("app"), make_image("another"), "old")
    found = await dates(store)
    assert abs(found.pop("old") - time.time()) < 60
    assert found == {tag: date for tag, date in DATES.items() if tag != "old"}


async def test_newest_first_is_by_the_tags_dates(store: DirectoryStore, image: Image) -> None:
    repository = StaticRegistry(store, options=StaticOptions(order="newest")).repository("app")
    await repository.reconcile()
    assert (store.root / "v2/app/tags/list").read_bytes() == b'{"name":"app","tags":["young","middle","old"]}'


async def test_a_tag_without_a_date_of_its_own_has_its_files(store: DirectoryStore, image: Image) -> None:
    shutil.rmtree(store.root / ".ocisync/published")
    file = store.root / "v2/app/manifests/old"
    os.utime(file, (NOW - 5 * DAY, NOW - 5 * DAY))
    assert set((await dates(store)).values()) == {NOW - 5 * DAY}


async def test_a_tag_that_another_tool_wrote_has_its_files_date(store: DirectoryStore, image: Image) -> None:
    file = store.root / "v2/app/manifests/old"
    file.unlink()
    file.write_bytes(image.raw)
    os.utime(file, (NOW - 2 * DAY, NOW - 2 * DAY))
    assert (await dates(store))["old"] == NOW - 2 * DAY


async def test_the_date_goes_with_the_tag(store: DirectoryStore, image: Image) -> None:
    await StaticRegistry(store).repository("app").untag(["old"])
    assert not marker(store.root, "old").exists()
    assert marker(store.root, "young").exists()
    assert await StaticRegistry(store).repository("app").tags() == ["middle", "young"]


async def test_the_server_tells_when_a_tag_was_published(store: DirectoryStore, image: Image) -> None:
    async with serve(registry_app(store), "127.0.0.1", 0) as url, aiohttp.ClientSession() as client:
        for tag, date in DATES.items():
            for method in ("GET", "HEAD"):
                async with client.request(method, f"{url}/v2/app/manifests/{tag}") as answer:
                    assert parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp() == date
