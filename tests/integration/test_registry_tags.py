"""Listing tags: a real registry's pages, and servers that follow the specification less well; FAULTS 27."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from ocisync.errors import LimitExceeded, RegistryError
from ocisync.stores.registry import listing
from tests.integration.registries import NAME, QUICK, repository_at
from tests.servers import faults, images
from tests.servers.docker_registry import DockerRegistry
from tests.servers.fault_proxy import FaultProxy
from tests.servers.loop import serve_app

ALL = sorted(f"v{number}" for number in range(2500))


@contextmanager
def lister(answer: Callable[[web.Request], web.Response]) -> Iterator[tuple[str, list[str]]]:
    """A registry that only lists; its host, and the queries it was asked."""
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.query_string)
        return answer(request)

    app = web.Application()
    app.router.add_get(f"/v2/{NAME}/tags/list", handle)
    with serve_app(app) as url:
        yield urlsplit(url).netloc, asked


def page(tags: object, link: str | None = None) -> web.Response:
    headers = {"Link": link} if link else {}
    return web.json_response({"name": NAME, "tags": tags}, headers=headers)


async def tags_of(host: str) -> list[str]:
    async with repository_at(host, QUICK) as repository:
        return list(await repository.tags())


async def test_a_real_registrys_tags(registry: DockerRegistry) -> None:
    image = images.make_image()
    for tag in ("b", "a", "Z"):
        images.push(registry.client, NAME, tag, image)
    assert await tags_of(registry.host) == ["Z", "a", "b"]


async def test_a_registry_that_pages(registry: DockerRegistry) -> None:
    def answer(request: web.Request) -> web.Response:
        after = request.query.get("last", "")
        rest = [tag for tag in ALL if tag > after][:1000]
        more = rest and rest[-1] != ALL[-1]
        return page(rest, f'</v2/{NAME}/tags/list?last={rest[-1]}&n=1000>; rel="next"' if more else None)

    with lister(answer) as (host, asked):
        assert await tags_of(host) == ALL
    assert len(asked) == 3


async def test_fault_27_n_and_last_are_ignored() -> None:
    with lister(lambda request: page(ALL)) as (host, asked):
        assert await tags_of(host) == ALL
    assert asked == ["n=1000"]


async def test_fault_27_n_and_last_are_ignored_and_a_link_is_sent_nevertheless() -> None:
    def answer(request: web.Request) -> web.Response:
        return page(ALL, f'<?n=1000&last={ALL[-1]}>; rel="next"')

    with lister(answer) as (host, asked):
        assert await tags_of(host) == ALL
    assert len(asked) == 2


async def test_fault_27_a_page_that_is_full_without_a_link_is_not_taken_for_all() -> None:
    def answer(request: web.Request) -> web.Response:
        return page([tag for tag in ALL if tag > request.query.get("last", "")][:1000])

    with lister(answer) as (host, _):
        assert await tags_of(host) == ALL


async def test_fault_27_a_link_loop_ends_complete() -> None:
    def answer(request: web.Request) -> web.Response:
        half = request.query.get("part", "0")
        tags = ALL[:1000] if half == "0" else ALL[1000:]
        return page(tags, f'<?part={"1" if half == "0" else "0"}>; rel="next"')

    with lister(answer) as (host, asked):
        assert await tags_of(host) == ALL
    assert len(asked) == 3


async def test_fault_27_an_endless_list_meets_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_PAGES", 20)

    def answer(request: web.Request) -> web.Response:
        number = int(request.query.get("at", "0"))
        return page([f"tag{number}"], f'<?at={number + 1}>; rel="next"')

    with lister(answer) as (host, asked):
        with pytest.raises(LimitExceeded, match="does not end"):
            await tags_of(host)
        assert len(asked) == 20


async def test_fault_27_endless_empty_pages_meet_a_cap() -> None:
    def answer(request: web.Request) -> web.Response:
        return page([], f'<?at={int(request.query.get("at", "0")) + 1}>; rel="next"')

    with lister(answer) as (host, asked):
        with pytest.raises(LimitExceeded):
            await tags_of(host)
        assert len(asked) < 200


async def test_fault_27_a_link_to_another_host_is_refused(registry_proxy: FaultProxy) -> None:
    link = f'<{registry_proxy.url}/v2/{NAME}/tags/list>; rel="next"'
    with lister(lambda request: page(["a"], link)) as (host, _), pytest.raises(RegistryError, match="another host"):
        await tags_of(host)
    assert registry_proxy.requests == []


@pytest.mark.parametrize("tags", [None, []])
async def test_fault_27_no_tags(tags: object) -> None:
    with lister(lambda request: page(tags)) as (host, _):
        assert await tags_of(host) == []


async def test_fault_27_doubles_and_names_that_are_no_tags_are_left_out() -> None:
    odd = ["b", "a", "b", "../x", "", 7, None, "-x", "x" * 129, "a\n"]
    with lister(lambda request: page(odd)) as (host, _):
        assert await tags_of(host) == ["a", "b"]


async def test_fault_27_a_million_tags() -> None:
    million = [f"tag-{number:07}" for number in range(1_000_000)]
    body = json.dumps({"name": NAME, "tags": million}).encode()
    with lister(lambda request: web.Response(body=body)) as (host, _):
        assert await tags_of(host) == million


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"tags": {}}', b"\xff", b'{"tags": "a"}', b"[" * 100_000])
async def test_a_body_that_is_no_list_of_tags(registry_proxy: FaultProxy, body: bytes) -> None:
    registry_proxy.on("GET", "/tags/list", faults.Reply(200, body=body))
    with pytest.raises(RegistryError, match="not a list of tags"):
        await tags_of(registry_proxy.host)
