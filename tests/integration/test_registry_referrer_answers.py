"""What registries without the referrers API were reported to answer, and how lists of referrers are stored."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from aiohttp import web

from ocisync.errors import AuthError, RegistryError
from ocisync.model.digest import Digest
from tests.integration.hooked import NAME, Hooked, answering, open_client
from tests.integration.registries import QUICK, blob_desc, manifest_desc
from tests.servers import images
from tests.servers.simulated import PASSWORD, USER, Reply, error
from tests.servers.simulated_kinds import simulated

IMAGE = images.make_image()
BLOB = next(iter(IMAGE.blobs.values()))
LAYER = blob_desc(BLOB)
LOGIN = replace(QUICK, username=USER, password=PASSWORD)


@pytest.fixture
def registry() -> Iterator[Hooked]:
    with simulated("", Hooked) as running:
        assert isinstance(running, Hooked)
        running.put(NAME, "1", IMAGE.media_type, IMAGE.manifest)
        running.blobs |= {Digest(digest): body for digest, body in IMAGE.blobs.items()}
        yield running


@pytest.mark.parametrize("media_type", ["application/vnd.oci.image.index.v1+json", "application/json"])
async def test_referrers_of_either_type(registry: Hooked, media_type: str) -> None:
    entry = f'{{"mediaType": "{IMAGE.media_type}", "digest": "{IMAGE.digest}", "size": {len(IMAGE.manifest)}}}'
    body = f'{{"schemaVersion": 2, "manifests": [{entry}]}}'
    registry.hook = answering(
        "GET", "/referrers/", lambda: web.Response(text=body, headers={"Content-Type": media_type})
    )
    async with open_client(registry) as client:
        found = await client.source(registry.host, NAME).referrers(Digest(IMAGE.digest))
    assert [one.digest for one in found] == [IMAGE.digest]


@pytest.mark.parametrize("body", ["{}", "[]", '{"manifests": null}', '{"errors": []}', "no JSON"])
async def test_json_that_is_no_index_means_no_api(registry: Hooked, body: str) -> None:
    headers = {"Content-Type": "application/json"}
    registry.hook = answering("GET", "/referrers/", lambda: web.Response(text=body, headers=headers))
    async with open_client(registry) as client:
        assert await client.source(registry.host, NAME).referrers(Digest(IMAGE.digest)) == []


def kept_list(registry: Hooked) -> str:
    """A signature, and the list of it under a tag; its digest."""
    registry.has_referrers = False
    signature = images.make_artifact(IMAGE)
    kept = images.referrers_list(signature)
    registry.put(NAME, signature.digest, signature.media_type, signature.manifest)
    registry.put(NAME, IMAGE.digest.replace(":", "-"), kept.media_type, kept.manifest)
    return signature.digest


def elsewhere() -> Reply:
    """What GHCR answers."""
    return web.Response(status=303, headers={"Location": "http://127.0.0.1:1/-/v2/packages"})


@pytest.mark.parametrize("reply", [elsewhere, lambda: error(401), lambda: error(410)], ids=["GHCR", "Harbor", "gone"])
async def test_ways_to_say_that_there_is_no_referrers_api(registry: Hooked, reply: Callable[[], Reply]) -> None:
    signature = kept_list(registry)
    registry.hook = answering("GET", "/referrers/", reply)
    async with open_client(registry) as client:
        source = client.source(registry.host, NAME)
        for _ in range(2):
            assert [one.digest for one in await source.referrers(Digest(IMAGE.digest))] == [signature]
        assert len(await client.repository(registry.host, NAME).tags()) == 2
    assert len(registry.methods("/referrers/")) == 1


async def test_a_login_that_is_wanted_for_everything_is_no_missing_api(registry: Hooked) -> None:
    kept_list(registry)
    registry.hook = lambda request: error(401)
    async with open_client(registry) as client:
        with pytest.raises(AuthError):
            await client.source(registry.host, NAME).referrers(Digest(IMAGE.digest))


async def test_a_registry_that_takes_the_tag_of_a_list_for_a_digest(registry: Hooked) -> None:
    """GitLab answers for the tag with the subject itself, whose images are not its referrers."""
    registry.has_referrers = False
    index = images.multi_platform()
    subject = Digest(registry.put(NAME, "multi", index.media_type, index.manifest))

    def hook(request: web.Request) -> Reply | None:
        is_list = request.method in ("GET", "HEAD") and request.path.endswith(subject.replace(":", "-"))
        headers = {"Content-Type": index.media_type, "Docker-Content-Digest": subject}
        return web.Response(body=index.manifest, headers=headers) if is_list else None

    registry.hook = hook
    signature = images.make_artifact(index)
    registry.put(NAME, signature.digest, signature.media_type, signature.manifest)
    async with open_client(registry) as client:
        assert await client.source(registry.host, NAME).referrers(subject) == []
        with pytest.raises(RegistryError, match="is the image itself"):
            await client.repository(registry.host, NAME).add_referrers(subject, [manifest_desc(signature)])
    assert (NAME, subject.replace(":", "-")) not in registry.manifests, "and it is not overwritten"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_a_list_of_referrers_is_stored_with_any_2xx(registry: Hooked, status: int) -> None:
    registry.has_referrers, registry.stored = False, status
    signature = images.make_artifact(IMAGE)
    registry.put(NAME, signature.digest, signature.media_type, signature.manifest)
    async with open_client(registry) as client:
        await client.repository(registry.host, NAME).add_referrers(Digest(IMAGE.digest), [manifest_desc(signature)])
        found = await client.source(registry.host, NAME).referrers(Digest(IMAGE.digest))
    assert [one.digest for one in found] == [signature.digest]
    assert registry.methods("/manifests/sha256-").count("PUT") == 1


@pytest.mark.parametrize("status", [403, 404, 405, 500])
async def test_a_list_of_referrers_that_head_does_not_show(registry: Hooked, status: int) -> None:
    signature = kept_list(registry)
    registry.hook = answering("HEAD", "/manifests/", lambda: error(status))
    async with open_client(registry) as client:
        source = client.source(registry.host, NAME)
        assert (await source.resolve("1")).digest == IMAGE.digest
        found = await source.referrers(Digest(IMAGE.digest))
    assert [one.digest for one in found] == [signature]
