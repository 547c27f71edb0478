"""A registry's catalog: page by page, refused, endless; and the scope that is asked for."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from ocisync.errors import LimitExceeded, OcisyncError, RegistryError
from ocisync.stores.registry import listing
from ocisync.stores.registry.auth.scopes import Grant
from ocisync.stores.registry.client import open_registries
from ocisync.stores.registry.options import RegistryOptions
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import make_image, push
from tests.servers.loop import serve_app

QUICK = RegistryOptions(first_wait=0.001, longest_wait=0.01, retries=2)
NAMES = [f"team/app-{number:04}" for number in range(1500)]

Answer = Callable[[web.Request], web.Response]


@contextmanager
def catalog(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """A registry with this catalog; its host, and the queries that came."""
    asked: list[str] = []

    async def answered(request: web.Request) -> web.Response:
        asked.append(request.query_string)
        return answer(request)

    app = web.Application()
    app.router.add_get("/v2/_catalog", answered)
    with serve_app(app) as url:
        yield urlsplit(url).netloc, asked


def page(names: object, link: str = "") -> web.Response:
    """One page of a catalog."""
    body = json.dumps({"repositories": names}).encode()
    return web.Response(body=body, headers={"Link": link} if link else {})


async def names_of(host: str) -> list[str]:
    """What a client lists."""
    async with open_registries({host: QUICK}) as client:
        return list(await client.catalog(host))


async def test_the_catalog_of_a_registry(registry: DockerRegistry) -> None:
    for name in ("b/app", "a", "b/other"):
        push(registry.client, name, "1", make_image(layers=1, size=100))
    assert await names_of(registry.host) == ["a", "b/app", "b/other"]


async def test_fault_27_the_catalog_goes_on_from_page_to_page() -> None:
    def answer(request: web.Request) -> web.Response:
        last = request.query.get("last", "")
        return page([name for name in NAMES if name > last][:1000])

    with catalog(answer) as (host, asked):
        assert await names_of(host) == NAMES
    assert len(asked) == 2


async def test_fault_27_a_catalog_that_links_in_a_circle_ends() -> None:
    with catalog(lambda request: page(["a", "b"], '<?n=1000>; rel="next"')) as (host, asked):
        assert await names_of(host) == ["a", "b"]
    assert len(asked) <= 2


async def test_fault_27_an_endless_catalog_meets_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_PAGES", 20)

    def answer(request: web.Request) -> web.Response:
        number = int(request.query.get("at", "0"))
        return page([f"name{number}"], f'<?at={number + 1}>; rel="next"')

    with catalog(answer) as (host, asked):
        with pytest.raises(LimitExceeded, match="the list of repositories does not end"):
            await names_of(host)
        assert len(asked) == 20


@pytest.mark.parametrize("status", [401, 403, 404, 405, 501])
async def test_a_catalog_that_is_refused_says_what_to_do(status: int) -> None:
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    with catalog(lambda request: web.Response(status=status, headers=challenge)) as (host, _):
        with pytest.raises(RegistryError) as caught:
            await names_of(host)
        assert f"{host} does not show its catalog" in caught.value.message
        assert "Name the repositories one by one" in caught.value.message
        assert not caught.value.retryable


async def test_a_catalog_that_is_out_of_order_for_now_is_asked_for_again_later() -> None:
    with catalog(lambda request: web.Response(status=503)) as (host, asked):
        with pytest.raises(OcisyncError) as caught:
            await names_of(host)
        assert caught.value.retryable
        assert len(asked) == 3


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"repositories": {}}', b"\xff"])
async def test_a_body_that_is_no_catalog(body: bytes) -> None:
    reply = web.Response(body=body)
    with catalog(lambda request: reply) as (host, _), pytest.raises(RegistryError, match="not a list of repositories"):
        await names_of(host)


async def test_names_that_are_no_repositories_are_left_out() -> None:
    with catalog(lambda request: page(["b", "a", "b", "../x", "UP", 7, None, "a//b", "c\n"])) as (host, _):
        assert await names_of(host) == ["a", "b"]


def test_the_catalog_has_a_scope_of_its_own() -> None:
    assert Grant("").scopes == ("registry:catalog:*",)
    assert Grant("a/b").scopes == ("repository:a/b:pull",)
