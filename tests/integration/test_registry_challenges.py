"""Authentication that follows what each repository asks for, and secrets that stay where they are meant for."""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

import pytest
from aiohttp import web

from ocisync.errors import AuthError
from ocisync.stores.registry.client import open_registries
from ocisync.stores.registry.options import RegistryOptions
from tests.integration.registries import QUICK, read
from tests.servers import images
from tests.servers.simulated import BASIC, PASSWORD, USER, Simulated, error
from tests.servers.simulated_kinds import Bearer, simulated

LOGIN = replace(QUICK, username=USER, password=PASSWORD)
IMAGE = images.make_image()
ONE, TWO, PRIVATE = "one/app", "two/app", "private/app"


def fill(registry: Simulated, *names: str) -> None:
    for name in names or (ONE, TWO, PRIVATE):
        registry.put(name, "1", IMAGE.media_type, IMAGE.manifest)


class RealmPerRepository(Bearer):
    """Each part of the host has a token server of its own, which knows nothing of the other."""

    def refuse(self, request: web.Request, name: str) -> web.Response | None:
        part = name.partition("/")[0]
        if not name or request.headers.get("Authorization") == f"Bearer {part}":
            return None
        challenge = f'Bearer realm="{self.url}/{part}/token",service="{part}",scope="repository:{name}:pull"'
        return error(401, "UNAUTHORIZED", "", **{"WWW-Authenticate": challenge})

    async def route(self, request: web.Request) -> web.StreamResponse:
        part, _, rest = request.path.strip("/").partition("/")
        if rest != "token":
            return await super().route(request)
        if not request.query["scope"].startswith(f"repository:{part}/"):
            return error(403, "DENIED", "unknown repository")
        return web.json_response({"token": part, "expires_in": 300})


async def test_a_realm_per_repository_is_followed() -> None:
    with simulated("", RealmPerRepository) as registry:
        fill(registry)
        async with open_registries({registry.host: LOGIN}) as client:
            for name in (ONE, TWO, ONE, TWO):
                assert await client.source(registry.host, name).tags() == ["1"]
    refused = [one for one in registry.asked if one.status == 403]
    assert len(refused) == 1, "one guess for the second repository, and none after it"


class NamesAnother(Bearer):
    """A proxy that rewrites names: the scope that counts is the challenge's."""

    def refuse(self, request: web.Request, name: str) -> web.Response | None:
        if not name or "inner/app=pull" in request.headers.get("Authorization", ""):
            return None
        challenge = f'Bearer realm="{self.url}/token",service="s",scope="repository:inner/app:pull"'
        return error(401, "UNAUTHORIZED", "", **{"WWW-Authenticate": challenge})

    def allowed(self, name: str, actions: list[str], *, is_stranger: bool) -> list[str] | None:
        return actions


async def test_the_scope_that_a_challenge_names_is_asked_for() -> None:
    with simulated("", NamesAnother) as registry:
        fill(registry)
        async with open_registries({registry.host: QUICK}) as client:
            assert await client.source(registry.host, ONE).tags() == ["1"]
    assert len([one for one in registry.asked if one.path.startswith("/token")]) == 1


class Silent(Simulated):
    """401 without a challenge everywhere but at /v2/."""

    def refuse(self, request: web.Request, name: str) -> web.Response | None:
        if request.headers.get("Authorization") == BASIC:
            return None
        headers = {} if name else {"WWW-Authenticate": 'Basic realm="r"'}
        return error(401, "UNAUTHORIZED", "", **headers)


async def test_a_401_without_a_challenge_is_looked_up() -> None:
    with simulated("", Silent) as registry:
        fill(registry)
        async with open_registries({registry.host: LOGIN}) as client:
            assert await client.source(registry.host, ONE).tags() == ["1"]
        async with open_registries({registry.host: QUICK}) as client:
            for _ in range(2):
                with pytest.raises(AuthError, match="username and password"):
                    await client.source(registry.host, ONE).tags()
    assert [one.path for one in registry.asked].count("/v2/") == 2, "once per client, for each of them"


class Moved(Simulated):
    """A vanity host: everything is another registry's."""

    def __init__(self, to: str) -> None:
        super().__init__()
        self.to = to

    async def route(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": f"{self.to}{request.raw_path}"})


def moved(to: str) -> Callable[[], Moved]:
    return lambda: Moved(to)


@pytest.mark.parametrize("options", [QUICK, LOGIN], ids=["a stranger", "with a login for the first"])
async def test_a_redirect_to_another_registry_gets_an_anonymous_token_there_and_no_secret(
    options: RegistryOptions,
) -> None:
    with simulated("", Bearer) as other, simulated("", moved(other.url)) as front:
        fill(other)
        secret = replace(options, headers={"X-Own": "s3cr3t"})
        async with open_registries({front.host: secret}) as client:
            source = client.source(front.host, ONE)
            assert await source.tags() == ["1"]
            assert await read(source, await source.resolve("1")) == IMAGE.manifest
            with pytest.raises(AuthError):
                await client.source(front.host, PRIVATE).tags()
    assert not [one for one in other.asked if BASIC in one.authorization]
    tokens = [one for one in other.asked if one.path.startswith("/token") and "one" in one.path]
    assert len(tokens) == 1, "kept for the requests that follow"


class Busy(Bearer):
    """A token server that asks for a pause."""

    until = 0.0
    refusals = 0

    def token(self, request: web.Request) -> web.Response:
        self.until = self.until or monotonic() + 1.0
        if monotonic() < self.until:
            self.refusals += 1
            return web.Response(status=429, headers={"Retry-After": "1"}, text="Too Many Requests")
        return super().token(request)


async def test_fault_15_the_token_servers_pause_is_kept() -> None:
    with simulated("", Busy) as registry:
        fill(registry)
        began = monotonic()
        async with open_registries({registry.host: QUICK}) as client:
            for name in (ONE, TWO):
                assert await client.source(registry.host, name).tags() == ["1"]
        assert isinstance(registry, Busy)
        assert registry.refusals == 1
        assert monotonic() - began >= 1.0


async def test_a_refused_write_does_not_end_reading() -> None:
    with simulated("", Simulated) as registry:
        fill(registry)
        async with open_registries({registry.host: QUICK}) as client:
            repository = client.repository(registry.host, ONE)
            assert await repository.tags() == ["1"]
            for _ in range(2):
                with pytest.raises(AuthError, match="username and password"):
                    await repository.untag(["1"])
                assert await repository.tags() == ["1"]
