"""Odd answers that somebody's registry, or what stands before it, was reported to give: looks, uploads, words."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import structlog
from aiohttp import web

from ocisync.content.openers import BytesOpener
from ocisync.errors import RateLimited, RegistryError, SizeMismatch
from ocisync.model.descriptor import describe
from ocisync.model.digest import Digest
from tests.integration.hooked import HTML, NAME, Hooked, answering, open_client
from tests.integration.registries import QUICK, blob_desc, manifest_desc, read
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


# --- HEAD that fails where GET works


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 409, 410, 418, 451, 500, 501, 502, 504, 520, 530])
async def test_a_head_that_fails_is_followed_by_one_get(registry: Hooked, status: int) -> None:
    registry.hook = answering("HEAD", "/manifests/", lambda: error(status))
    async with open_client(registry) as client:
        assert (await client.source(registry.host, NAME).resolve("1")).digest == IMAGE.digest
    assert registry.methods("/manifests/") == ["HEAD", "GET"]


@pytest.mark.parametrize("status", [400, 403, 405, 500, 501])
async def test_a_blob_is_looked_for_by_its_first_byte_where_head_is_refused(registry: Hooked, status: int) -> None:
    registry.hook = answering("HEAD", "/blobs/", lambda: error(status))
    async with open_client(registry) as client:
        repository = client.repository(registry.host, NAME)
        assert await repository.exists(LAYER)
        assert not await repository.exists(replace(LAYER, size=LAYER.size + 1))
        assert not await repository.exists(blob_desc(b"another"))
    assert set(registry.methods("/blobs/")) == {"HEAD", "GET"}


async def test_a_look_for_blobs_that_is_refused_in_both_ways_is_not_tried_twice(registry: Hooked) -> None:
    registry.hook = lambda request: error(403) if "/blobs/" in request.path and request.method in "HEAD GET" else None
    async with open_client(registry) as client:
        repository = client.repository(registry.host, NAME)
        for _ in range(3):
            assert not await repository.exists(LAYER)
    assert registry.methods("/blobs/") == ["HEAD", "GET", "HEAD", "HEAD"]


async def test_storage_that_refuses_head_is_asked_for_a_byte(registry: Hooked) -> None:
    class Storage(Hooked):
        async def route(self, request: web.Request) -> Reply:
            return error(403) if request.method == "HEAD" else web.Response(body=BLOB)

    with simulated("", Storage) as storage:
        registry.hook = lambda request: (
            web.Response(status=307, headers={"Location": f"{storage.url}/x?sig=a b"})
            if f"/blobs/{LAYER.digest}" in request.path
            else None
        )
        async with open_client(registry) as client:
            assert await client.repository(registry.host, NAME).exists(LAYER)
            assert await read(client.source(registry.host, NAME), LAYER) == BLOB
        assert {one.path for one in storage.asked} == {"/x?sig=a%20b"}


async def test_a_page_is_no_manifest_and_no_blob(registry: Hooked) -> None:
    registry.hook = lambda request: web.Response(body=b"<html>log in", headers=HTML)
    async with open_client(registry) as client:
        repository = client.repository(registry.host, NAME)
        assert not await repository.exists(manifest_desc(IMAGE))
        assert not await repository.exists(LAYER)
        with pytest.raises(SizeMismatch, match="a web page"):
            await read(repository, LAYER)
        with pytest.raises(RegistryError, match="web page"):
            await repository.publish({"2": describe(IMAGE.manifest, IMAGE.media_type)})
        with pytest.raises(RegistryError, match="web page"):
            await repository.push(LAYER, BytesOpener(BLOB))
        with pytest.raises(RegistryError, match="web page"):
            await repository.tags()


async def test_an_error_in_a_list_that_says_200_is_no_empty_list(registry: Hooked) -> None:
    registry.hook = answering("GET", "/tags/list", lambda: web.json_response({"errors": [{"code": "UNKNOWN"}]}))
    async with open_client(registry) as client:
        with pytest.raises(RegistryError, match="UNKNOWN"):
            await client.source(registry.host, NAME).tags()


@pytest.mark.parametrize("link", ["", "same", "last"])
async def test_a_registry_that_cuts_its_list_and_does_not_go_on(registry: Hooked, link: str) -> None:
    """GHCR did so for a time: `n` was heeded, and `last` was not."""
    tags = [f"t{number:04}" for number in range(1500)]

    def answer(request: web.Request) -> Reply | None:
        if "/tags/list" not in request.path:
            return None
        count = int(request.query.get("n", len(tags)))
        following = f"{request.path}?n={count}" + (f"&last={tags[count - 1]}" if link == "last" else "")
        headers = {"Link": f'<{following}>; rel="next"'} if link and "n" in request.query else {}
        return web.json_response({"tags": tags[:count]}, headers=headers)

    registry.hook = answer
    async with open_client(registry) as client:
        assert list(await client.source(registry.host, NAME).tags()) == tags
    assert len(registry.methods("/tags/list")) <= 3


async def test_a_link_on_every_page_ends_with_an_empty_one(registry: Hooked) -> None:
    """Gitea."""
    tags = [f"t{number}" for number in range(5)]

    def answer(request: web.Request) -> Reply | None:
        if "/tags/list" not in request.path:
            return None
        page = [tag for tag in tags if tag > request.query.get("last", "")][:2]
        headers = {"Link": f'<{request.path}?n=2&last={page[-1]}>; rel="next"'} if page else {}
        return web.json_response({"tags": page}, headers=headers)

    registry.hook = answer
    async with open_client(registry) as client:
        assert list(await client.source(registry.host, NAME).tags()) == tags
    assert len(registry.methods("/tags/list")) == 4


# --- where an upload goes on


@pytest.mark.parametrize(
    "headers",
    [
        {"Location": "/v2/library/app/blobs/uploads/1?_state=a%2Fb"},
        {"Location": "//HOST/v2/library/app/blobs/uploads/1"},
        {"Location": "HOST/v2/library/app/blobs/uploads/1"},
        {"Location": "http://HOST/v2/library/app/blobs/uploads/1"},
        {"Location": "HTTP://HOST/v2/library/app/blobs/uploads/1"},
        {"Location": " /v2/library/app/blobs/uploads/1 "},
        {"Location": "1"},
        {"Docker-Upload-UUID": "1"},
    ],
)
async def test_the_place_of_an_upload(registry: Hooked, headers: dict[str, str]) -> None:
    told = {name: value.replace("HOST", registry.host) for name, value in headers.items()}
    registry.hook = answering("POST", "/blobs/uploads/", lambda: web.Response(status=202, headers=told))
    registry.blobs.clear()
    async with open_client(registry) as client:
        await client.repository(registry.host, NAME).push(LAYER, BytesOpener(BLOB))
    assert registry.blobs[LAYER.digest] == BLOB
    (put,) = [one.path for one in registry.asked if one.method == "PUT"]
    assert put.partition("?")[0] == "/v2/library/app/blobs/uploads/1"
    assert ("_state=a%2Fb" in put) is ("_state" in str(headers))


@pytest.mark.parametrize("form", ["0-{}", "bytes=0-{}", "bytes 0-{}/*", "BYTES 0-{}", "0-{}/999999999", ""])
async def test_how_far_an_upload_is(registry: Hooked, form: str) -> None:
    body = images.noise(3 << 20, "chunks")

    class Forms(Hooked):
        def session_headers(self, request: web.Request, name: str, session: str) -> dict[str, str]:
            told = super().session_headers(request, name, session)
            return {**told, "Range": form.format(max(len(self.uploads[session]) - 1, 0))}

    with simulated("", Forms) as target:
        async with open_client(target, replace(QUICK, chunk_size=1 << 20)) as client:
            await client.repository(target.host, NAME).push(blob_desc(body), BytesOpener(body))
        assert target.blobs[blob_desc(body).digest] == body


class Places(Hooked):
    """Refuses chunks out of place, and says of its progress what `says` makes of first, last and all bytes."""

    says: Callable[[int, int, int], int] = staticmethod(lambda first, last, held: held)
    takes_half_of = -1  # the first byte of a chunk of which half is taken

    async def upload(self, request: web.Request, name: str, session: str) -> Reply:
        held = len(self.uploads[session])
        if request.method != "PATCH":
            return await super().upload(request, name, session)
        body = await request.read()
        first = int(request.headers["Content-Range"].partition("-")[0])
        if first != held:
            return error(416, Range=f"0-{held - 1}")
        self.uploads[session] += body[: len(body) // 2] if first == self.takes_half_of else body
        told = self.says(first, first + len(body), len(self.uploads[session]))
        headers = self.session_headers(request, name, session) | {"Range": f"0-{told - 1}"}
        return web.Response(status=202, headers=headers)


@pytest.mark.parametrize(
    ("says", "patches"),
    [
        (lambda first, last, held: held, 4),
        (lambda first, last, held: 1 << 20, 4),  # ECR: stays at the end of the first chunk
        (lambda first, last, held: last - first, 4),  # zot: the length of the chunk
        (lambda first, last, held: max(first, 1 << 20), 4),  # a chunk late
        (lambda first, last, held: held - 1000, 5),  # always a little less
    ],
    ids=["right", "stuck", "chunk", "late", "less"],
)
async def test_progress_that_is_told_wrong(says: Callable[[int, int, int], int], patches: int) -> None:
    body = images.noise((3 << 20) + 5000, "chunks")

    class Registry(Places):
        pass

    Registry.says = staticmethod(says)
    with simulated("", Registry) as target:
        async with open_client(target, replace(QUICK, chunk_size=1 << 20)) as client:
            await client.repository(target.host, NAME).push(blob_desc(body), BytesOpener(body))
        assert target.blobs[blob_desc(body).digest] == body
        assert [one.method for one in target.asked].count("PATCH") == patches
        assert [one.method for one in target.asked].count("POST") == 1


async def test_a_chunk_of_which_a_part_was_taken_is_gone_on_with() -> None:
    body = images.noise(3 << 20, "chunks")

    class Registry(Places):
        takes_half_of = 1 << 20

    with simulated("", Registry) as target:
        async with open_client(target, replace(QUICK, chunk_size=1 << 20)) as client:
            await client.repository(target.host, NAME).push(blob_desc(body), BytesOpener(body))
        assert target.blobs[blob_desc(body).digest] == body
        assert 416 not in [one.status for one in target.asked]


async def test_a_gateway_that_gave_up_after_the_commit(registry: Hooked) -> None:
    class Late(Hooked):
        async def route(self, request: web.Request) -> Reply:
            reply = await super().route(request)
            return web.Response(status=524) if request.method == "PUT" else reply

    with simulated("", Late) as target:
        async with open_client(target) as client:
            repository = client.repository(target.host, NAME)
            for digest, body in IMAGE.blobs.items():
                await repository.push(replace(blob_desc(body), digest=Digest(digest)), BytesOpener(body))
            await repository.publish({"1": describe(IMAGE.manifest, IMAGE.media_type)})
        assert len([one for one in target.asked if one.method == "PUT"]) == len(IMAGE.blobs) + 1


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_conflict_with_another_writer_passes(registry: Hooked, is_stored: bool) -> None:
    def conflict() -> Reply:
        if is_stored:
            registry.put(NAME, "2", IMAGE.media_type, IMAGE.manifest)
        return error(409, "CONFLICT", "being written")

    registry.hook = answering("PUT", "/manifests/", conflict, times=1)
    async with open_client(registry) as client:
        await client.repository(registry.host, NAME).publish({"2": describe(IMAGE.manifest, IMAGE.media_type)})
    assert registry.manifests[NAME, "2"][1] == IMAGE.manifest
    assert registry.methods("/manifests/").count("PUT") == (1 if is_stored else 2)


async def test_a_whole_blob_that_comes_as_a_part(registry: Hooked) -> None:
    part = {"Content-Range": f"bytes 0-{len(BLOB) - 1}/{len(BLOB)}"}
    registry.hook = answering("GET", "/blobs/", lambda: web.Response(status=206, body=BLOB, headers=part))
    async with open_client(registry) as client:
        assert await read(client.source(registry.host, NAME), LAYER) == BLOB


async def test_a_registry_that_knows_ranges_with_an_end_only(registry: Hooked) -> None:
    """The one within go-containerregistry."""
    body = images.noise(2 << 20, "broken")
    registry.blobs[blob_desc(body).digest] = body
    asked: list[str] = []

    async def broken(request: web.Request) -> Reply:
        reply = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await reply.prepare(request)
        await reply.write(body[: 1 << 20])
        assert request.transport is not None
        request.transport.close()
        return reply

    class Closed(Hooked):
        async def route(self, request: web.Request) -> Reply:
            if "/blobs/" not in request.path:
                return await super().route(request)
            asked.append(told := request.headers.get("Range", ""))
            if not told:
                return await broken(request)
            first, _, last = told.removeprefix("bytes=").partition("-")
            if not last:
                return error(416)
            part = body[int(first) : int(last) + 1]
            headers = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
            return web.Response(status=206, body=part, headers=headers)

    with simulated("", Closed) as server:
        async with open_client(server) as client:
            assert await read(client.source(server.host, NAME), blob_desc(body)) == body
    assert [one.endswith("-") for one in asked] == [False, True, False]


async def test_a_repository_from_which_nothing_may_be_mounted_is_asked_once(registry: Hooked) -> None:
    registry.hook = lambda request: error(401) if "mount" in request.query else None
    async with open_client(registry) as client:
        repository = client.repository(registry.host, "mine/new")
        for digest, body in IMAGE.blobs.items():
            assert not await repository.mount(replace(blob_desc(body), digest=Digest(digest)), NAME)
    assert len([one for one in registry.asked if "mount=" in one.path]) == 1


async def test_an_answer_that_a_proxy_transformed(registry: Hooked) -> None:
    listed = web.json_response({"tags": ["1"]}, status=203)
    registry.hook = answering("GET", "/tags/list", lambda: listed)
    async with open_client(registry) as client:
        assert await client.source(registry.host, NAME).tags() == ["1"]


# --- what the registry says


@pytest.mark.parametrize("status", [403, 429, 500, 502, 503, 504])
async def test_a_time_that_is_named_is_waited_for_with_any_status(registry: Hooked, status: int) -> None:
    registry.hook = answering("GET", "/tags/list", lambda: error(status, **{"Retry-After": "0.2"}), times=1)
    async with open_client(registry) as client:
        with structlog.testing.capture_logs() as logs:
            assert await client.source(registry.host, NAME).tags() == ["1"]
    assert [one["seconds"] for one in logs if one["event"] == "registry.paused"] == [0.2]


async def test_a_limit_that_is_told_with_403_is_one(registry: Hooked) -> None:
    registry.hook = answering("GET", "/tags/list", lambda: error(403, **{"Retry-After": "0.01"}))
    async with open_client(registry, replace(QUICK, retries=1)) as client:
        with pytest.raises(RateLimited, match="status 403"):
            await client.source(registry.host, NAME).tags()


async def test_warnings_are_told_once(registry: Hooked) -> None:
    told = {"Warning": '299 - "Your token expires \\"soon\\"", 199 - "not this"'}
    registry.hook = answering("GET", "/tags/list", lambda: web.json_response({"tags": []}, headers=told))
    async with open_client(registry) as client:
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                await client.source(registry.host, NAME).tags()
    warned = [(one["log_level"], one["warning"]) for one in logs if one["event"] == "registry.warned"]
    assert warned == [("warning", 'Your token expires "soon"')]
