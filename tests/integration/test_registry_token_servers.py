"""Challenges and token servers as they were reported: forms, redirects, other ways to ask."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web

from ocisync.errors import AuthError, OcisyncError
from ocisync.stores.registry.options import RegistryOptions
from tests.integration.hooked import HTML, NAME, Hook, Hooked, open_client
from tests.integration.registries import QUICK, blob_desc
from tests.servers import images
from tests.servers.simulated import BASIC, PASSWORD, USER, Reply, Simulated, error
from tests.servers.simulated_kinds import simulated

IMAGE = images.make_image()
BLOB = next(iter(IMAGE.blobs.values()))
LAYER = blob_desc(BLOB)
LOGIN = replace(QUICK, username=USER, password=PASSWORD)


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
    async with open_client(registry, options) as client:
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


async def test_basic_alone_for_a_token_that_is_not_enough(guarded: Tokens) -> None:
    """Harbor answers so, and the login itself need not be taken."""

    class Harbor(Tokens):
        async def route(self, request: web.Request) -> Reply:
            shown = request.headers.get("Authorization", "")
            if "private" in request.path and shown.startswith("Bearer"):
                return error(401, **{"WWW-Authenticate": 'Basic realm="harbor"'})
            if shown.startswith("Basic") and not request.path.startswith("/token"):
                return error(401, **{"WWW-Authenticate": 'Basic realm="harbor"'})
            return await super().route(request)

    with simulated("", Harbor) as harbor:
        harbor.put(NAME, "1", IMAGE.media_type, IMAGE.manifest)
        async with open_client(harbor, LOGIN) as client:
            for _ in range(2):
                with pytest.raises(AuthError):
                    await client.source(harbor.host, "private/app").tags()
                assert await client.source(harbor.host, NAME).tags() == ["1"]
        assert not [one for one in harbor.asked if one.authorization == BASIC and not one.path.startswith("/token")], (
            "the login goes to the token server"
        )


async def test_a_scope_within_the_realm_is_that_of_one_repository(guarded: Tokens) -> None:
    """nvcr.io writes it there."""
    scopes: list[list[str]] = []

    def server(request: web.Request) -> Reply:
        scopes.append(request.query.getall("scope", []))
        return web.json_response({"token": "t"})

    class Nvidia(Tokens):
        async def route(self, request: web.Request) -> Reply:
            name = "/".join(request.path.split("/")[2:4])
            self.challenge = (f'Bearer realm="/token?scope=repository:{name}:pull&x=1"',)
            return await super().route(request)

    with simulated("", Nvidia) as nvidia:
        assert isinstance(nvidia, Nvidia)
        nvidia.server = server
        for name in (NAME, "library/other"):
            nvidia.put(name, "1", IMAGE.media_type, IMAGE.manifest)
        async with open_client(nvidia, QUICK) as client:
            for name in (NAME, "library/other"):
                assert await client.source(nvidia.host, name).tags() == ["1"]
    assert [set(one) for one in scopes] == [{f"repository:{name}:pull"} for name in (NAME, "library/other")]


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


@pytest.mark.parametrize("status", [403, 404, 405])
async def test_a_root_that_redirects_or_tells_with_another_status(guarded: Tokens, status: int) -> None:
    class Odd(Tokens):
        async def route(self, request: web.Request) -> Reply:
            if request.path == "/v2/":
                return web.Response(status=301, headers={"Location": "/v2"})
            if request.path == "/v2":
                return error(status, **{"WWW-Authenticate": 'Basic realm="r"'})
            if request.headers.get("Authorization") != BASIC:
                return error(404)
            return await super().route(request)

    with simulated("", Odd) as odd:
        assert isinstance(odd, Odd)
        odd.accepted = BASIC
        odd.put(NAME, "1", IMAGE.media_type, IMAGE.manifest)
        assert await listed(odd) == ["1"]


async def test_a_page_of_the_token_server_is_called_that(guarded: Tokens) -> None:
    guarded.server = lambda _: web.Response(body=b"<html>log in", headers=HTML)
    with pytest.raises(OcisyncError, match="web page"):
        await listed(guarded, QUICK)
