"""Listing tags: a real registry's pages, and servers that follow the specification less well; FAULTS 27."""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlsplit

import anyio
import pytest
from aiohttp import web

from ocisync.errors import LimitExceeded, NetworkError, RegistryError
from ocisync.stores.registry import listing
from tests.integration.big import MIB, measured
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


async def test_fault_27_a_link_to_another_host_never_leaves_the_registry(registry_proxy: FaultProxy) -> None:
    def answer(request: web.Request) -> web.Response:
        rest = [tag for tag in ALL if tag > request.query.get("last", "")]
        link = f'<{registry_proxy.url}/v2/{NAME}/tags/list?last={rest[999]}>; rel="next"' if len(rest) > 1000 else None
        return page(rest[:1000], link)

    with lister(answer) as (host, asked):
        assert await tags_of(host) == ALL
    assert len(asked) == 3
    assert registry_proxy.requests == []


@pytest.mark.parametrize("link", [f'</v2/{NAME}/tags/list>; rel="next"', '"next"', '<?last=a b>; rel="next"'])
async def test_fault_27_a_link_that_cannot_be_understood_does_not_end_the_list(link: str) -> None:
    with lister(lambda request: page(["a"], link)) as (host, _), pytest.raises(RegistryError, match="may not be whole"):
        await tags_of(host)


async def test_a_document_that_says_where_it_goes_on() -> None:
    def answer(request: web.Request) -> web.Response:
        if "last" in request.query:
            return web.json_response({"tags": ["b"], "next": None})
        return web.json_response({"tags": ["a"], "next": f"http://inner.example/v2/{NAME}/tags/list?last=a"})

    with lister(answer) as (host, asked):
        assert await tags_of(host) == ["a", "b"]
    assert asked == ["n=1000", "last=a"]


@pytest.mark.parametrize(("most", "asked_for"), [(100, ["n=1000", ""]), (0, ["n=1000", "", "n=100"])])
async def test_a_page_size_that_is_refused_is_left_out_and_then_made_smaller(most: int, asked_for: list[str]) -> None:
    def answer(request: web.Request) -> web.Response:
        n = int(request.query.get("n", most))
        if not 0 < n <= 100:
            error = {"code": "PAGINATION_NUMBER_INVALID", "message": "invalid number of results requested"}
            return web.json_response({"errors": [error]}, status=400)
        rest = [tag for tag in ALL if tag > request.query.get("last", "")]
        link = f'<?n={n}&last={rest[n - 1]}>; rel="next"' if len(rest) > n else None
        return page(rest[:n], link)

    with lister(answer) as (host, asked):
        async with repository_at(host, QUICK) as repository:
            assert list(await repository.tags()) == ALL
            assert asked[: len(asked_for)] == asked_for
            before = len(asked)
            assert list(await repository.tags()) == ALL
            assert asked[before] == asked_for[-1], "what was taken is remembered"
            assert not await repository.is_empty()


@contextmanager
def serve_body(body: bytes, headers: dict[str, str]) -> Iterator[str]:
    with lister(lambda request: web.Response(body=body, headers=headers)) as (host, _):
        yield host


async def test_a_list_that_comes_compressed_is_read_within_bounds() -> None:
    packed = gzip.compress(json.dumps({"tags": ALL}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    with lister(lambda request: web.Response(body=packed, headers=headers)) as (host, _):
        assert await tags_of(host) == ALL
    bomb = gzip.compress(bytes(65 << 20))
    bodies = [bomb, packed[:-20], b"{}"]
    wrong: tuple[type[Exception], ...] = (LimitExceeded, NetworkError, RegistryError)
    for body, error in zip(bodies, wrong, strict=True):
        with serve_body(body, headers) as host, pytest.raises(error):
            await tags_of(host)


async def test_a_web_page_is_called_that() -> None:
    html = b"<!DOCTYPE html><html><title>Sign in</title></html>"
    told = pytest.raises(RegistryError, match=r"web page \(HTML\).*Sign in")
    with serve_body(html, {"Content-Type": "text/html"}) as host, told:
        await tags_of(host)


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


async def test_a_list_without_end_is_refused_before_it_fills_the_memory() -> None:
    def answer(request: web.Request) -> web.Response:
        first = int(request.query.get("last", "x0")[1:]) + 1
        tags = [f"x{number:0127}" for number in range(first, first + 20_000)]
        return page(tags, f'<?last={tags[-1]}>; rel="next"')

    with lister(answer) as (host, _):
        done = await anyio.to_thread.run_sync(partial(measured, "tags", f"docker://{host}/{NAME}", env={}, timeout=60))
    assert done.code == 1
    assert "the list of tags is longer than 1,000,000 names or 32 MiB" in done.output
    assert done.peak < 160 * MIB


async def test_a_page_of_millions_of_values_takes_no_more_memory_than_its_bytes() -> None:
    body = b'{"other": [%s], "tags": ["a"]}' % b",".join([b"{}"] * 5_000_000)
    with lister(lambda request: web.Response(body=body)) as (host, _):
        done = await anyio.to_thread.run_sync(partial(measured, "tags", f"docker://{host}/{NAME}", env={}, timeout=60))
    assert (done.code, done.output) == (0, "a\n")
    assert done.peak < 160 * MIB


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"tags": {}}', b"\xff", b'{"tags": "a"}', b"[" * 100_000])
async def test_a_body_that_is_no_list_of_tags(registry_proxy: FaultProxy, body: bytes) -> None:
    registry_proxy.on("GET", "/tags/list", faults.Reply(200, body=body))
    with pytest.raises(RegistryError, match="not a list of tags"):
        await tags_of(registry_proxy.host)
