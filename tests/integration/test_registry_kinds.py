"""The conversation with each kind of registry: a stranger, a login, pages, a new repository, a mount, a deletion.

docs/registries.md has the same as a table.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from ocisync.content.openers import BytesOpener
from ocisync.errors import AuthError, NotFound, OcisyncError, RegistryError
from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.digest import Digest
from ocisync.stores.registry.client import RegistryClient, open_registries
from tests.integration.registries import QUICK, blob_desc, read
from tests.servers import images
from tests.servers.simulated import BASIC, PASSWORD, USER, Simulated
from tests.servers.simulated_kinds import KINDS, simulated

LOGIN = replace(QUICK, username=USER, password=PASSWORD)
IMAGE = images.make_image()
TAGS = ["1.0", "1.1", "1.2", "1.3", "1.4"]
PUBLIC, PRIVATE, NEW = "library/app", "private/app", "mine/new"
NO_REPOSITORY = {"ECR", "GAR", "Harbor"}  # that make none by themselves
NO_MOUNT = {"GHCR", "ECR"}
NO_DELETION = {"Docker Hub", "GHCR", "ECR"}
NO_CATALOG = {"Docker Hub", "GitLab"}
IMMUTABLE = {"ECR", "Harbor"}
NO_STRANGERS = {"ECR"}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def registry(kind: str) -> Iterator[Simulated]:
    with simulated(kind) as running:
        for name in (PUBLIC, PRIVATE):
            for tag in TAGS:
                running.put(name, tag, IMAGE.media_type, IMAGE.manifest)
        running.blobs |= {Digest(digest): body for digest, body in IMAGE.blobs.items()}
        yield running


@asynccontextmanager
async def client_of(registry: Simulated, *, logs_in: bool) -> AsyncIterator[RegistryClient]:
    async with open_registries({registry.host: LOGIN if logs_in else QUICK}) as client:
        yield client


def root(more: bytes = b"") -> Descriptor:
    return describe(IMAGE.manifest + more, IMAGE.media_type)


async def push_image(client: RegistryClient, registry: Simulated, name: str, tag: str = "1.0") -> None:
    repository = client.repository(registry.host, name)
    for digest, body in IMAGE.blobs.items():
        await repository.push(replace(blob_desc(body), digest=Digest(digest)), BytesOpener(body))
    await repository.publish({tag: root()})


async def test_a_stranger_reads_what_is_public_and_is_refused_what_is_not(registry: Simulated, kind: str) -> None:
    async with client_of(registry, logs_in=False) as client:
        for name in (PRIVATE, PUBLIC, PRIVATE):  # what is refused changes nothing for the others
            source = client.source(registry.host, name)
            if name == PRIVATE or kind in NO_STRANGERS:
                with pytest.raises((AuthError, NotFound)):
                    await source.tags()
                continue
            assert await source.tags() == TAGS
            assert await read(source, await source.resolve("1.4")) == IMAGE.manifest
    assert not [one for one in registry.asked if BASIC in one.authorization]
    assert not [one for one in registry.asked if one.path == "/v2/"], "without credentials nobody looks there"


async def test_a_login_reads_everything_from_the_start(registry: Simulated, kind: str) -> None:
    async with client_of(registry, logs_in=True) as client:
        for name in (PUBLIC, PRIVATE):
            source = client.source(registry.host, name)
            assert await source.tags() == TAGS
            assert (await source.resolve("1.4")).digest == IMAGE.digest
            for digest, body in IMAGE.blobs.items():
                assert await read(source, replace(blob_desc(body), digest=Digest(digest))) == body
        if kind not in NO_CATALOG:
            assert await client.catalog(registry.host) == [PUBLIC, PRIVATE]
    assert [one.path for one in registry.asked].count("/v2/") == 1
    storage = [one for one in registry.asked if one.path.startswith("/storage/")]
    assert not [one for one in storage if one.authorization]


async def test_a_push_into_a_new_repository(registry: Simulated, kind: str) -> None:
    async with client_of(registry, logs_in=True) as client:
        if kind in NO_REPOSITORY:
            with pytest.raises(NotFound, match="create it there first") as caught:
                await push_image(client, registry, NEW)
            assert caught.value.code == "target.missing"
            assert NEW in caught.value.message
            return
        repository = client.repository(registry.host, NEW)
        assert await repository.is_empty()  # the look at what is not there asks for what the push needs
        await push_image(client, registry, NEW)
        assert (await client.source(registry.host, NEW).resolve("1.0")).digest == IMAGE.digest
        for _ in range(2):
            assert await repository.referrers(Digest(IMAGE.digest)) == []


async def test_a_push_in_chunks_and_the_pull_of_it(registry: Simulated, kind: str) -> None:
    body = images.noise((3 << 20) + 1000, "large")
    async with open_registries({registry.host: replace(LOGIN, chunk_size=1 << 20)}) as client:
        repository = client.repository(registry.host, PRIVATE)
        assert not await repository.exists(blob_desc(body))
        await repository.push(blob_desc(body), BytesOpener(body))
        assert await repository.exists(blob_desc(body)), "also where HEAD is refused by storage"
        assert await read(repository, blob_desc(body)) == body
    assert [one.method for one in registry.asked].count("PATCH") == 4
    assert not [one for one in registry.asked if one.path.startswith("/storage/") and one.authorization]


async def test_a_mount(registry: Simulated, kind: str) -> None:
    body = next(iter(IMAGE.blobs.values()))
    async with client_of(registry, logs_in=True) as client:
        repository = client.repository(registry.host, PRIVATE)
        desc = next(replace(blob_desc(body), digest=Digest(digest)) for digest, body in IMAGE.blobs.items())
        assert await repository.mount(desc, PUBLIC) is (kind not in NO_MOUNT)
        await repository.push(desc, BytesOpener(body))  # a session that was opened instead is used
    posts = [one for one in registry.asked if one.method == "POST" and "/blobs/" in one.path]
    assert len([one for one in posts if one.status == 202]) == 1


async def test_a_tag_that_is_removed(registry: Simulated, kind: str) -> None:
    if kind == "Harbor" or kind == "ECR":
        pytest.skip("its tags are immutable here")
    async with client_of(registry, logs_in=True) as client:
        repository = client.repository(registry.host, PRIVATE)
        if kind in NO_DELETION:
            with pytest.raises(RegistryError, match="deletes neither tags nor manifests"):
                await repository.untag(["1.1"])
            assert registry.tags(PRIVATE) == TAGS
            return
        await repository.untag(["1.1"])
    assert registry.manifests.get((PRIVATE, "1.1"), ("", b""))[1] != IMAGE.manifest
    assert [tag for tag in registry.tags(PRIVATE) if tag != "1.1"] == [tag for tag in TAGS if tag != "1.1"]


async def test_an_immutable_tag_is_told_with_the_cure(registry: Simulated, kind: str) -> None:
    async with client_of(registry, logs_in=True) as client:
        repository = client.repository(registry.host, PRIVATE)
        await repository.publish({"1.0": root()})  # what it is already may be written to any tag
        other = root(b"\n")
        if kind not in IMMUTABLE:
            await repository.publish({"1.0": other})
            return
        with pytest.raises(RegistryError, match="overwrite: never") as caught:
            await repository.publish({"1.0": other})
    assert "immutable" in caught.value.message


async def test_a_wrong_login_is_refused_in_words_and_does_not_hide_what_is_public(
    registry: Simulated, kind: str
) -> None:
    async with open_registries({registry.host: replace(LOGIN, password="wrong")}) as client:
        with pytest.raises(OcisyncError) as caught:
            await client.source(registry.host, PRIVATE).tags()
        assert isinstance(caught.value, AuthError | NotFound)
        assert "wrong" not in caught.value.message
        if type(registry).refuse is Simulated.refuse:  # no token server: the login is a header, which it may leave out
            assert await client.source(registry.host, PUBLIC).tags() == TAGS


async def test_bodies_that_are_too_large_for_it_are_sent_in_chunks() -> None:
    body = images.noise(11 << 20, "large")
    with simulated("GHCR") as registry:
        options = replace(LOGIN, chunk_size=6 << 20)
        async with open_registries({registry.host: options}) as client:
            await client.repository(registry.host, NEW).push(blob_desc(body), BytesOpener(body))
        assert registry.blobs[blob_desc(body).digest] == body
    assert {one.status for one in registry.asked if one.method == "PATCH"} == {202, 416}
