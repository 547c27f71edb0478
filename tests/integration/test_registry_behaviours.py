"""Odd answers that somebody's registry, or what stands before it, was reported to give; each where it may be met."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import structlog
from aiohttp import web

from ocisync.content.openers import BytesOpener
from ocisync.errors import AuthError, OcisyncError, RateLimited, RegistryError, SizeMismatch
from ocisync.model.descriptor import describe
from ocisync.model.digest import Digest
from ocisync.stores.registry.client import open_registries
from ocisync.stores.registry.options import RegistryOptions
from tests.integration.registries import QUICK, blob_desc, manifest_desc, read
from tests.servers import images
from tests.servers.simulated import BASIC, PASSWORD, USER, Reply, Simulated, error
from tests.servers.simulated_kinds import simulated

IMAGE = images.make_image()
BLOB = next(iter(IMAGE.blobs.values()))
LAYER = blob_desc(BLOB)
NAME = "library/app"
LOGIN = replace(QUICK, username=USER, password=PASSWORD)
HTML = {"Content-Type": "text/html"}
Hook = Callable[[web.Request], Reply | None]


@dataclass
class Hooked(Simulated):
    """A registry that wants no login; a hook may answer before it."""

    hook: Hook = field(default=lambda _: None)

    async def route(self, request: web.Request) -> Reply:
        if (reply := self.hook(request)) is not None:
            await request.read()
            return reply
        return await super().route(request)

    def refuse(self, request: web.Request, name: str) -> web.Response | None:
        return None

    def methods(self, part: str) -> list[str]:
        """The methods of the requests for something."""
        return [one.method for one in self.asked if part in one.path]


@pytest.fixture
def registry() -> Iterator[Hooked]:
    with simulated("", Hooked) as running:
        assert isinstance(running, Hooked)
        running.put(NAME, "1", IMAGE.media_type, IMAGE.manifest)
        running.blobs |= {Digest(digest): body for digest, body in IMAGE.blobs.items()}
        yield running


def opened(registry: Simulated, options: RegistryOptions = QUICK) -> Any:  # a context manager
    return open_registries({registry.host: options})


def answering(method: str, part: str, reply: Callable[[], Reply], times: int = 1000) -> Hook:
    """A hook that answers some requests so."""
    left = [times]

    def answer(request: web.Request) -> Reply | None:
        if request.method != method or part not in request.path or not left[0]:
            return None
        left[0] -= 1
        return reply()

    return answer


# --- HEAD that fails where GET works


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 409, 410, 418, 451, 500, 501, 502, 504, 520, 530])
async def test_a_head_that_fails_is_followed_by_one_get(registry: Hooked, status: int) -> None:
    registry.hook = answering("HEAD", "/manifests/", lambda: error(status))
    async with opened(registry) as client:
        assert (await client.source(registry.host, NAME).resolve("1")).digest == IMAGE.digest
    assert registry.methods("/manifests/") == ["HEAD", "GET"]


@pytest.mark.parametrize("status", [400, 403, 405, 500, 501])
async def test_a_blob_is_looked_for_by_its_first_byte_where_head_is_refused(registry: Hooked, status: int) -> None:
    registry.hook = answering("HEAD", "/blobs/", lambda: error(status))
    async with opened(registry) as client:
        repository = client.repository(registry.host, NAME)
        assert await repository.exists(LAYER)
        assert not await repository.exists(replace(LAYER, size=LAYER.size + 1))
        assert not await repository.exists(blob_desc(b"another"))
    assert set(registry.methods("/blobs/")) == {"HEAD", "GET"}


async def test_a_look_for_blobs_that_is_refused_in_both_ways_is_not_tried_twice(registry: Hooked) -> None:
    registry.hook = lambda request: error(403) if "/blobs/" in request.path and request.method in "HEAD GET" else None
    async with opened(registry) as client:
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
        async with opened(registry) as client:
            assert await client.repository(registry.host, NAME).exists(LAYER)
            assert await read(client.source(registry.host, NAME), LAYER) == BLOB
        assert {one.path for one in storage.asked} == {"/x?sig=a%20b"}


async def test_a_page_is_no_manifest_and_no_blob(registry: Hooked) -> None:
    registry.hook = lambda request: web.Response(body=b"<html>log in", headers=HTML)
    async with opened(registry) as client:
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
    async with opened(registry) as client:
        with pytest.raises(RegistryError, match="UNKNOWN"):
            await client.source(registry.host, NAME).tags()


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
    async with opened(registry) as client:
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
        async with opened(target, replace(QUICK, chunk_size=1 << 20)) as client:
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
        async with opened(target, replace(QUICK, chunk_size=1 << 20)) as client:
            await client.repository(target.host, NAME).push(blob_desc(body), BytesOpener(body))
        assert target.blobs[blob_desc(body).digest] == body
        assert [one.method for one in target.asked].count("PATCH") == patches
        assert [one.method for one in target.asked].count("POST") == 1


async def test_a_chunk_of_which_a_part_was_taken_is_gone_on_with() -> None:
    body = images.noise(3 << 20, "chunks")

    class Registry(Places):
        takes_half_of = 1 << 20

    with simulated("", Registry) as target:
        async with opened(target, replace(QUICK, chunk_size=1 << 20)) as client:
            await client.repository(target.host, NAME).push(blob_desc(body), BytesOpener(body))
        assert target.blobs[blob_desc(body).digest] == body
        assert 416 not in [one.status for one in target.asked]


async def test_a_gateway_that_gave_up_after_the_commit(registry: Hooked) -> None:
    class Late(Hooked):
        async def route(self, request: web.Request) -> Reply:
            reply = await super().route(request)
            return web.Response(status=524) if request.method == "PUT" else reply

    with simulated("", Late) as target:
        async with opened(target) as client:
            repository = client.repository(target.host, NAME)
            for digest, body in IMAGE.blobs.items():
                await repository.push(replace(blob_desc(body), digest=Digest(digest)), BytesOpener(body))
            await repository.publish({"1": describe(IMAGE.manifest, IMAGE.media_type)})
        assert len([one for one in target.asked if one.method == "PUT"]) == len(IMAGE.blobs) + 1


async def test_a_whole_blob_that_comes_as_a_part(registry: Hooked) -> None:
    part = {"Content-Range": f"bytes 0-{len(BLOB) - 1}/{len(BLOB)}"}
    registry.hook = answering("GET", "/blobs/", lambda: web.Response(status=206, body=BLOB, headers=part))
    async with opened(registry) as client:
        assert await read(client.source(registry.host, NAME), LAYER) == BLOB


async def test_an_answer_that_a_proxy_transformed(registry: Hooked) -> None:
    listed = web.json_response({"tags": ["1"]}, status=203)
    registry.hook = answering("GET", "/tags/list", lambda: listed)
    async with opened(registry) as client:
        assert await client.source(registry.host, NAME).tags() == ["1"]


# --- what the registry says


@pytest.mark.parametrize("status", [403, 429, 500, 502, 503, 504])
async def test_a_time_that_is_named_is_waited_for_with_any_status(registry: Hooked, status: int) -> None:
    registry.hook = answering("GET", "/tags/list", lambda: error(status, **{"Retry-After": "0.2"}), times=1)
    async with opened(registry) as client:
        with structlog.testing.capture_logs() as logs:
            assert await client.source(registry.host, NAME).tags() == ["1"]
    assert [one["seconds"] for one in logs if one["event"] == "registry.paused"] == [0.2]


async def test_a_limit_that_is_told_with_403_is_one(registry: Hooked) -> None:
    registry.hook = answering("GET", "/tags/list", lambda: error(403, **{"Retry-After": "0.01"}))
    async with opened(registry, replace(QUICK, retries=1)) as client:
        with pytest.raises(RateLimited, match="status 403"):
            await client.source(registry.host, NAME).tags()


async def test_warnings_are_told_once(registry: Hooked) -> None:
    told = {"Warning": '299 - "Your token expires \\"soon\\"", 199 - "not this"'}
    registry.hook = answering("GET", "/tags/list", lambda: web.json_response({"tags": []}, headers=told))
    async with opened(registry) as client:
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                await client.source(registry.host, NAME).tags()
    warned = [(one["log_level"], one["warning"]) for one in logs if one["event"] == "registry.warned"]
    assert warned == [("warning", 'Your token expires "soon"')]


# --- referrers


@pytest.mark.parametrize("media_type", ["application/vnd.oci.image.index.v1+json", "application/json"])
async def test_referrers_of_either_type(registry: Hooked, media_type: str) -> None:
    entry = f'{{"mediaType": "{IMAGE.media_type}", "digest": "{IMAGE.digest}", "size": {len(IMAGE.manifest)}}}'
    body = f'{{"schemaVersion": 2, "manifests": [{entry}]}}'
    registry.hook = answering(
        "GET", "/referrers/", lambda: web.Response(text=body, headers={"Content-Type": media_type})
    )
    async with opened(registry) as client:
        found = await client.source(registry.host, NAME).referrers(Digest(IMAGE.digest))
    assert [one.digest for one in found] == [IMAGE.digest]


@pytest.mark.parametrize("body", ["{}", "[]", '{"manifests": null}', '{"errors": []}', "no JSON"])
async def test_json_that_is_no_index_means_no_api(registry: Hooked, body: str) -> None:
    headers = {"Content-Type": "application/json"}
    registry.hook = answering("GET", "/referrers/", lambda: web.Response(text=body, headers=headers))
    async with opened(registry) as client:
        assert await client.source(registry.host, NAME).referrers(Digest(IMAGE.digest)) == []


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_a_list_of_referrers_is_stored_with_any_2xx(registry: Hooked, status: int) -> None:
    registry.has_referrers, registry.stored = False, status
    signature = images.make_artifact(IMAGE)
    registry.put(NAME, signature.digest, signature.media_type, signature.manifest)
    async with opened(registry) as client:
        await client.repository(registry.host, NAME).add_referrers(Digest(IMAGE.digest), [manifest_desc(signature)])
        found = await client.source(registry.host, NAME).referrers(Digest(IMAGE.digest))
    assert [one.digest for one in found] == [signature.digest]
    assert registry.methods("/manifests/sha256-").count("PUT") == 1


@pytest.mark.parametrize("status", [403, 404, 405, 500])
async def test_a_list_of_referrers_that_head_does_not_show(registry: Hooked, status: int) -> None:
    registry.has_referrers = False
    signature = images.make_artifact(IMAGE)
    kept = images.referrers_list(signature)
    registry.put(NAME, signature.digest, signature.media_type, signature.manifest)
    registry.put(NAME, IMAGE.digest.replace(":", "-"), kept.media_type, kept.manifest)
    registry.hook = answering("HEAD", "/manifests/", lambda: error(status))
    async with opened(registry) as client:
        source = client.source(registry.host, NAME)
        assert (await source.resolve("1")).digest == IMAGE.digest
        found = await source.referrers(Digest(IMAGE.digest))
    assert [one.digest for one in found] == [signature.digest]


# --- token servers


@dataclass
class Tokens(Hooked):
    """A registry whose token server is its own; `server` answers for that."""

    challenge: tuple[str, ...] = ('Bearer realm="/token",service="s"',)
    server: Hook = field(default=lambda _: web.json_response({"token": "t"}))
    accepted: str = "Bearer t"

    async def route(self, request: web.Request) -> Reply:
        if request.path.startswith("/token"):
            if request.method == "POST":
                await request.post()
            return self.server(request) or error(404)
        if request.headers.get("Authorization") == self.accepted:
            return await super().route(request)
        reply = error(401)
        for one in self.challenge:
            reply.headers.add("WWW-Authenticate", one)
        return reply


@pytest.fixture
def guarded() -> Iterator[Tokens]:
    with simulated("", Tokens) as running:
        assert isinstance(running, Tokens)
        running.put(NAME, "1", IMAGE.media_type, IMAGE.manifest)
        yield running


async def listed(registry: Simulated, options: RegistryOptions = LOGIN) -> list[str]:
    async with opened(registry, options) as client:
        return list(await client.source(registry.host, NAME).tags())


@pytest.mark.parametrize(
    "challenge",
    [
        ('Bearer realm="/token",service="s"',),
        ('Bearer realm="/token"',),
        ("bearer realm=/token",),
        ('Basic realm="x", Bearer realm="/token",service="a,b",scope="repository:library/app:pull"',),
        ("Negotiate", 'Bearer realm="/token" , error="invalid_token"'),
        ('Digest realm="d", nonce="a=b,c", Bearer realm = "/token"',),
    ],
)
async def test_forms_of_a_challenge(guarded: Tokens, challenge: tuple[str, ...]) -> None:
    guarded.challenge = challenge
    for options in (QUICK, LOGIN):
        assert await listed(guarded, options) == ["1"]


@pytest.mark.parametrize(
    "body",
    [
        {"token": "t"},
        {"access_token": "t", "issued_at": "yesterday", "expires_in": "300"},
        {"token": "", "access_token": "t", "expires_in": -5},
        {"token": "t", "access_token": "other", "refresh_token": "r", "expires_in": 0.01},
    ],
)
@pytest.mark.parametrize("status", [200, 201, 203])
async def test_forms_of_a_token(guarded: Tokens, body: dict[str, object], status: int) -> None:
    guarded.server = lambda _: web.json_response(body, status=status)
    assert await listed(guarded) == ["1"]


@pytest.mark.parametrize("status", [405, 501])
async def test_a_token_server_that_takes_forms_only(guarded: Tokens, status: int) -> None:
    guarded.server = lambda request: error(status) if request.method == "GET" else web.json_response({"token": "t"})
    assert await listed(guarded) == ["1"]
    posts = [one for one in guarded.asked if one.path.startswith("/token") and one.method == "POST"]
    assert posts
    assert "s3cr3t" not in str([one.path for one in guarded.asked])


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_token_server_that_redirects_within_its_origin(guarded: Tokens, status: int) -> None:
    def answer(request: web.Request) -> Reply:
        if request.path == "/token":
            return web.Response(status=status, headers={"Location": f"/token/v2?{request.query_string}"})
        return web.json_response({"token": "t" if request.headers.get("Authorization") == BASIC else "none"})

    guarded.server = answer
    assert await listed(guarded) == ["1"]


async def test_a_token_server_that_redirects_elsewhere_is_followed_with_nothing_to_show(guarded: Tokens) -> None:
    with simulated("", Tokens) as other:
        guarded.server = lambda _: web.Response(status=302, headers={"Location": f"{other.url}/token"})
        assert await listed(guarded, QUICK) == ["1"]
        other.asked.clear()
        with pytest.raises(AuthError, match="redirects"):
            await listed(guarded)
        assert other.asked == []


async def test_a_login_itself_where_the_token_server_gives_nothing(guarded: Tokens) -> None:
    guarded.challenge = ('Bearer realm="/token"', 'Basic realm="r"')
    guarded.server, guarded.accepted = (lambda _: error(403)), BASIC
    assert await listed(guarded) == ["1"]
    with pytest.raises(AuthError):
        await listed(guarded, QUICK)


async def test_a_busy_look_at_the_root_is_repeated(guarded: Tokens) -> None:
    guarded.challenge = ('Basic realm="r"',)
    guarded.accepted = BASIC
    busy = [1]

    def hook(request: web.Request) -> Reply | None:
        return error(429) if request.path == "/v2/" and busy and busy.pop() else None

    class Hidden(Tokens):
        async def route(self, request: web.Request) -> Reply:
            if (reply := hook(request)) is not None:
                return reply
            if request.path != "/v2/" and request.headers.get("Authorization") != BASIC:
                return error(404)
            return await super().route(request)

    with simulated("", Hidden) as hidden:
        assert isinstance(hidden, Hidden)
        hidden.challenge, hidden.accepted = guarded.challenge, BASIC
        hidden.put(NAME, "1", IMAGE.media_type, IMAGE.manifest)
        assert await listed(hidden) == ["1"]


async def test_a_page_of_the_token_server_is_called_that(guarded: Tokens) -> None:
    guarded.server = lambda _: web.Response(body=b"<html>log in", headers=HTML)
    with pytest.raises(OcisyncError, match="web page"):
        await listed(guarded, QUICK)
