"""The page to browse, in a real browser: from a directory through `serve`, and from a bucket."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from ocisync.content.object_store import ObjectStore
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe, descriptor_to_json
from ocisync.serve.app import registry_app
from ocisync.serve.server import serve
from ocisync.stores.static import layout
from ocisync.stores.static.page import publish_page
from tests.integration.serving import push, put, store_at
from tests.servers.chromium import MISSING, PROGRAM, Tab, browser_tab
from tests.servers.client import fetch
from tests.servers.command import run_ocisync
from tests.servers.images import make_image, oci_archive
from tests.servers.seaweed import Bucket

READY = "document.querySelector('h1') && !document.querySelector('[aria-busy]')"
BAD = "<img src=x onerror=\"window.hacked='{}'\"></script><script>window.hacked='{}'</script>"
RTL = "\u202egpj.exe\u0007"


@pytest.fixture(scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tab]:
    if PROGRAM is None:
        pytest.skip(MISSING)
    async with browser_tab(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture
async def tab(browser: Tab) -> Tab:
    """The browser's tab, with nothing left of the test before, whose page may still have asked its server."""
    await leave(browser)
    browser.errors.clear()
    return browser


async def leave(tab: Tab) -> None:
    await tab.open("about:blank")
    await tab.until("location.href === 'about:blank'")


def image(platform: dict[str, object], extra: dict[str, object], layers: int = 2) -> list[Descriptor]:
    """Layers, the configuration, and last the manifest."""
    blobs = [describe(f"layer {n} {platform}".encode() * 2000, media_types.OCI_LAYER_GZIP) for n in range(layers)]
    settings = {**platform, "created": "2024-05-04T10:20:30Z", "rootfs": {"type": "layers"}, **extra}
    config = describe(json.dumps(settings).encode(), media_types.OCI_CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": descriptor_to_json(config),
        "layers": [descriptor_to_json(blob) for blob in blobs],
    }
    return [*blobs, config, describe(json.dumps(document).encode(), media_types.OCI_MANIFEST)]


def index_of(children: list[tuple[Descriptor, dict[str, object]]], annotations: dict[str, str]) -> Descriptor:
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [{**descriptor_to_json(child), "platform": platform} for child, platform in children],
        "annotations": annotations,
    }
    return describe(json.dumps(document).encode(), media_types.OCI_INDEX)


async def publish(
    store: ObjectStore,
    name: str,
    tags: list[str],
    extra: dict[str, object],
    platforms: list[dict[str, object]],
    annotations: dict[str, str] | None = None,
) -> Descriptor:
    """An index of the same image for every platform."""
    images = [image(platform, extra) for platform in platforms]
    index = index_of([(one[-1], platform) for one, platform in zip(images, platforms, strict=True)], annotations or {})
    await push(store, name, *(desc for one in images for desc in one), index)
    for tag in tags:
        assert index.data is not None
        await put(store, layout.manifest_key(name, tag), index.data, layout.tag_headers(index))
    await put(store, layout.tags_key(name), json.dumps({"name": name, "tags": tags}).encode())
    await put(store, layout.referrers_key(name, index.digest), referrers_of([]))
    return index


def referrers_of(found: list[dict[str, object]]) -> bytes:
    """The list of what refers to a manifest, as a publication writes it."""
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": found}
    return json.dumps(document).encode()


PLATFORMS: list[dict[str, object]] = [
    {"os": "linux", "architecture": "amd64"},
    {"os": "linux", "architecture": "arm64", "variant": "v8"},
]


async def fill(store: ObjectStore) -> None:
    history = [{"created_by": "/bin/sh -c #(nop) ADD rootfs"}, {"created_by": "ENV A=1", "empty_layer": True}]
    history.append({"created_by": "RUN make install"})
    config = {"Cmd": ["/app"], "Labels": {"org.opencontainers.image.source": "https://git.example.com/team/web"}}
    extra: dict[str, object] = {"history": history, "config": config}
    await publish(store, "team/web", ["1.9", "1.10", "edge", "latest"], extra, PLATFORMS)
    await publish(store, "team/worker", ["1.0"], extra, PLATFORMS[:1])
    await put(store, layout.CATALOG_KEY, json.dumps({"repositories": ["team/web", "team/worker"]}).encode())
    await put(store, "v2/", b"{}")
    await publish_page(store)


@asynccontextmanager
async def served(store: ObjectStore, tab: Tab | None = None) -> AsyncIterator[str]:
    """The tab leaves before the server does, which would not close what the browser begins at that moment."""
    async with serve(registry_app(store), "127.0.0.1", 0) as url:
        yield url
        if tab is not None:
            await leave(tab)


@pytest.fixture(params=["directory", "bucket"])
async def site(request: pytest.FixtureRequest, tab: Tab, tmp_path: Path) -> AsyncIterator[str]:
    """The page's address, served by ocisync from a directory, and as plain objects of a bucket."""
    if request.param == "directory":
        async with store_at(tmp_path) as store, served(store, tab) as url:
            await fill(store)
            yield f"{url}/"
    else:
        bucket = request.getfixturevalue("bucket")
        assert isinstance(bucket, Bucket)
        async with store_at(bucket) as store:
            await fill(store)
        yield f"{request.getfixturevalue('bucket_url')}/index.html"


async def texts(tab: Tab, selector: str) -> list[str]:
    found = await tab.run(f"[...document.querySelectorAll({selector!r})].map((one) => one.textContent)")
    assert isinstance(found, list)
    return found


async def test_a_person_finds_an_image_and_how_to_pull_it(tab: Tab, site: str) -> None:
    await tab.show(1000, 1600)
    await tab.open(site)
    await tab.until("document.querySelectorAll('.chip').length === 5")
    assert await texts(tab, ".row .name") == ["team/web", "team/worker"]
    await tab.until("document.querySelectorAll('.row time').length === 2")
    sides = await texts(tab, ".row .side")
    assert [one.split(" · ")[0] for one in sides] == ["4 tags", "1 tag"]
    assert all(re.fullmatch(r".* tags? · [0-9.]+ KiB · \w+ \d+, \d{4}", one) for one in sides)

    await tab.run("document.querySelector('#query').focus()")
    await tab.type("web")
    await tab.until("document.querySelectorAll('.row').length === 1")
    assert await tab.run("document.querySelector('#status').textContent") == "1 of 2 repositories"

    await tab.run("document.querySelector('.row').click()")
    await tab.until("document.querySelectorAll('.row time').length === 4")
    assert await texts(tab, ".row .name") == ["latest", "1.10", "1.9", "edge"]
    assert await texts(tab, ".row:first-child .chip") == ["linux/amd64", "linux/arm64/v8"] * 4
    assert await tab.run("document.activeElement.tagName") == "H1", "the reader's place follows"

    await tab.run("[...document.querySelectorAll('.row')][1].click()")
    await tab.until("document.querySelectorAll('.layers > li').length === 4")
    host = await tab.run("location.host")
    commands = await texts(tab, ".pulls code")
    assert f"docker pull {host}/team/web:1.10" in commands
    assert f"podman pull --tls-verify=false {host}/team/web:1.10" in commands, "there is no TLS"
    assert f"skopeo copy --src-tls-verify=false docker://{host}/team/web:1.10 dir:image" in commands
    assert (await texts(tab, ".layers .made"))[:2] == ["ADD rootfs", "RUN make install"]
    assert "https://git.example.com/team/web" in await texts(tab, "dd a")
    assert (await texts(tab, "summary .name")) == ["linux/amd64", "linux/arm64/v8"]
    assert await tab.run("document.title") == f"team/web:1.10 · {host}"
    assert not tab.errors


@asynccontextmanager
async def plainly_served(root: Path) -> AsyncIterator[str]:
    """A folder as a web server that knows nothing of registries shows it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(anyio.to_thread.run_sync, server.serve_forever))
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(server.shutdown)
            server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as in the class above it)
        pass


async def test_a_date_is_called_the_tags_only_where_the_server_tells_it(tab: Tab, site: str, tmp_path: Path) -> None:
    """Links to one file share its date, and a plain web server tells no other."""
    await tab.open(f"{site}#/team/web:1.9")
    await tab.until("document.querySelector('.lead time')")
    assert (await texts(tab, ".lead time"))[0].startswith("Published ")
    async with store_at(tmp_path / "plain") as store, plainly_served(tmp_path / "plain") as url:
        await fill(store)
        await tab.open(f"{url}/#/team/web:1.9")
        await tab.until("document.querySelector('.lead time')")
        assert (await texts(tab, ".lead time"))[0].startswith("Here since ")
        await leave(tab)


async def test_the_command_is_copied(tab: Tab, site: str) -> None:
    await tab.open(f"{site}#/team/web")
    await tab.until("document.querySelector('.pulls button')")
    await tab.run("document.querySelector('.pulls button').click()")
    await tab.until("document.querySelector('#status').textContent === 'Copied.'")
    assert await tab.run("getSelection().toString()") == f"docker pull {await tab.run('location.host')}/team/web"


async def test_nothing_is_wider_than_a_phone(tab: Tab, site: str) -> None:
    await tab.show(360, 700, mobile=True)
    for view in ("#/", "#/team/web", "#/team/web:latest", "#/nothing/here"):
        await tab.open(site + view)
        await tab.until(READY)
        await tab.until("!document.querySelector('details') || document.querySelector('.layers')")
        assert await tab.run("document.documentElement.scrollWidth") == 360, view
        small = "[...document.querySelectorAll('a.row, button, summary')].filter((one) => one.offsetHeight < 36).length"
        assert await tab.run(small) == 0, "too small for a finger"


async def test_dark_and_light(tab: Tab, site: str) -> None:
    colors = []
    for dark in (False, True):
        await tab.show(800, 600, dark=dark)
        await tab.open(site)
        await tab.until(READY)
        colors.append(await tab.run("getComputedStyle(document.body).backgroundColor"))
    assert colors == ["rgb(247, 248, 248)", "rgb(18, 22, 24)"]


async def test_every_control_has_a_name_and_every_view_one_heading(tab: Tab, site: str) -> None:
    for view in ("#/", "#/team/web", "#/team/web:latest"):
        await tab.open(site + view)
        await tab.until(READY)
        assert await tab.run("document.querySelectorAll('h1').length") == 1
        tree = await tab.call("Accessibility.getFullAXTree")
        nodes = tree["nodes"]
        assert isinstance(nodes, list)
        controls = [one for one in nodes if one.get("role", {}).get("value") in ("link", "button", "searchbox")]
        assert len(controls) > 2
        assert all(one["name"]["value"].strip() for one in controls)
        roles = {one.get("role", {}).get("value") for one in nodes}
        assert {"main", "banner", "search", "heading", "status"} <= roles


async def test_texts_of_images_never_become_markup(tab: Tab, tmp_path: Path) -> None:
    labels = {
        BAD: BAD,
        "javascript": "javascript:window.hacked=1",
        "link": 'https://e.example/"onmouseover="x',
        "rtl": RTL,
    }
    settings = {"Labels": labels, "Env": [f"A={BAD}", RTL], "Cmd": [BAD, {"a": BAD}], "Entrypoint": BAD, "User": BAD,
                "WorkingDir": BAD, "ExposedPorts": {BAD: {}}, "Volumes": [BAD]}  # fmt: skip
    extra: dict[str, object] = {"author": BAD, "created": BAD, "config": settings, "history": [{"created_by": BAD}] * 2}
    platforms: list[dict[str, object]] = [{"os": BAD, "architecture": BAD}, {"os": "linux", "architecture": ["x"]}]
    async with store_at(tmp_path) as store, served(store, tab) as url:
        await publish(store, "team/web", ["1.0"], extra, platforms, {BAD: BAD, "__proto__": BAD})
        hostile: list[object] = [BAD, "../../x", "javascript:window.hacked=1", "team/web", 7, None, "A/B", "a?b#c"]
        await put(store, layout.CATALOG_KEY, json.dumps({"repositories": hostile}).encode())
        await put(store, layout.tags_key("team/web"), json.dumps({"tags": ["1.0", BAD, "../x", 7, "a b"]}).encode())
        await publish_page(store)
        await tab.show(1000, 2000)
        for view in ("#/", "#/team/web", "#/team/web:1.0", f"#/{BAD}", f"#/team/web:{BAD}"):
            await tab.open(f"{url}/{view.replace(' ', '%20').replace(chr(34), '%22')}")
            await tab.until(READY)
            await tab.until("!document.querySelector('details') || document.querySelectorAll('.layers').length === 2")
            assert await tab.run("window.hacked === undefined")
            assert await tab.run("document.querySelectorAll('img, iframe, main script, [onerror]').length") == 0
            links = await tab.run("[...document.querySelectorAll('a')].map((one) => one.getAttribute('href'))")
            assert isinstance(links, list)
            assert {link for link in links if not link.startswith("#")} == set()
        await tab.open(f"{url}/#/")
        await tab.until(READY)
        assert await texts(tab, ".row .name") == ["team/web"]
        await tab.open(f"{url}/#/team/web:1.0")
        await tab.until("document.querySelectorAll('.layers').length === 2")
        shown = "".join(await texts(tab, "main"))
    assert shown.count(BAD) > 8, "it is shown as what it is"
    assert "\u202e" not in shown
    assert "\u0007" not in shown
    assert not tab.errors, "no script, style or image was even tried"


async def test_without_a_catalog_a_name_can_be_given(tab: Tab, tmp_path: Path) -> None:
    async with store_at(tmp_path) as store, served(store, tab) as url:
        await fill(store)
        await store.delete([layout.CATALOG_KEY])
        await tab.open(f"{url}/")
        await tab.until("document.querySelector('.note')")
        await tab.run("document.querySelector('#query').focus()")
        await tab.type("team/worker")
        await tab.run("document.querySelector('#find').requestSubmit()")
        await tab.until("document.querySelector('h1').textContent === 'team/worker'")


@pytest.mark.parametrize("switch", ["true", "false"])
def test_publication_writes_it_unless_it_is_switched_off(switch: str, tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    oci_archive(drop / "app.tar", {"team/app:1.0": make_image("page")})
    config = tmp_path / "ocisync.yaml"
    config.write_text(f"""
version: 1
targets: {{local: {{type: static, path: ./registry, page: {switch}}}}}
drop: [{{name: inbox, path: ./drop, target: local}}]
daemon: {{state: ./state}}
""")
    run_ocisync("once", "-c", config).expect(0)
    assert (tmp_path / "registry" / "v2" / "team" / "app" / "manifests" / "1.0").exists()
    assert (tmp_path / "registry" / "index.html").exists() is (switch == "true")


async def test_serve_answers_for_the_page_only_where_there_is_one(tmp_path: Path) -> None:
    async with store_at(tmp_path) as store, served(store) as url:
        assert (await anyio.to_thread.run_sync(fetch, "GET", f"{url}/")).status == 404
        await publish_page(store)
        found = await anyio.to_thread.run_sync(fetch, "GET", f"{url}/")
        again = {"If-None-Match": found.headers["etag"]}
        same = await anyio.to_thread.run_sync(lambda: fetch("GET", f"{url}/index.html", headers=again))
    assert (found.status, found.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert found.headers["x-content-type-options"] == "nosniff"
    assert same.status == 304


async def test_many_repositories_stand_in_groups_in_natural_order(tab: Tab, tmp_path: Path) -> None:
    names = [f"{team}/{one}" for team in ("b", "a") for one in ("x-10", "x-9", "x-1", "y", "z", "w", "v")] + ["alpine"]
    async with store_at(tmp_path) as store, served(store, tab) as url:
        for name in names:
            await publish(store, name, ["1"], {}, PLATFORMS[:1])
        await put(store, layout.CATALOG_KEY, json.dumps({"repositories": sorted(names)}).encode())
        await publish_page(store)
        await tab.open(f"{url}/")
        await tab.until(READY)
        assert await texts(tab, "h2") == ["a 7", "Without a folder 1", "b 7"]
        shown = await texts(tab, ".row .name")
        assert shown[:7] == [f"a/{one}" for one in ("v", "w", "x-1", "x-9", "x-10", "y", "z")]
    assert not tab.errors


@pytest.mark.parametrize("kind", ["directory", "bucket"])
async def test_signed_is_told_by_a_tag_and_by_a_referrer(
    kind: str, tab: Tab, tmp_path: Path, bucket: Bucket, bucket_url: str
) -> None:
    """By ocisync's referrers API, and in a bucket by the objects that a publication writes."""
    signature = describe(b"{}", "application/vnd.oci.image.manifest.v1+json")
    bundle = {**descriptor_to_json(signature), "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json"}
    sbom = {**descriptor_to_json(signature), "artifactType": "application/spdx+json"}
    place = bucket if kind == "bucket" else tmp_path
    async with store_at(place) as store, served(store, tab) as ours:
        url, page = (bucket_url, "index.html") if kind == "bucket" else (ours, "")
        for name, attached in (("team/signed", [bundle, sbom]), ("team/described", [sbom])):
            index = await publish(store, name, ["1.0"], {}, PLATFORMS[:1])
            await put(store, layout.referrers_key(name, index.digest), referrers_of(attached))
        index = await publish(store, "team/tagged", ["1.0"], {}, PLATFORMS[:1])
        tags = ["1.0", f"{index.digest.replace(':', '-')}.sig"]
        await put(store, layout.tags_key("team/tagged"), json.dumps({"tags": tags}).encode())
        await publish_page(store)
        found = {}
        for name in ("team/signed", "team/described", "team/tagged"):
            await tab.open(f"{url}/{page}#/{name}:1.0")
            await tab.until("document.querySelector('.layers')")
            found[name] = (await texts(tab, ".lead .chip.good"), await texts(tab, ".plain .name"))
    assert found["team/signed"] == (["signed"], ["application/spdx+json"])
    assert found["team/described"] == ([], ["application/spdx+json"])
    assert found["team/tagged"] == (["signed"], [])
    assert not tab.errors


async def test_ten_thousand_tags_are_there_at_once_and_in_the_order_that_is_chosen(tab: Tab, tmp_path: Path) -> None:
    tags = [f"1.{number}" for number in range(10_000)]
    async with store_at(tmp_path) as store, served(store, tab) as url:
        index = await publish(store, "team/many", ["1.0"], {}, PLATFORMS)
        assert index.data is not None
        for tag in (*tags[:250], *tags[-250:]):
            await put(store, layout.manifest_key("team/many", tag), index.data, layout.tag_headers(index))
        await put(store, layout.tags_key("team/many"), json.dumps({"tags": tags}).encode())
        await publish_page(store)
        await tab.show(1000, 800)
        await tab.open(f"{url}/#/")
        await tab.until(READY)
        started = time.monotonic()
        await tab.run("location.hash = '#/team/many'")
        await tab.until("document.querySelectorAll('.row').length === 200")
        assert time.monotonic() - started < 5  # half a second on an idle machine
        assert (await texts(tab, ".row .name"))[:2] == ["1.9999", "1.9998"]
        await tab.run("(document.querySelector('#order').value = 'oldest', "
                      "document.querySelector('#order').dispatchEvent(new Event('change')))")  # fmt: skip
        await tab.until("document.querySelector('.row .name').textContent === '1.0'")
        await tab.run("scrollTo(0, document.body.scrollHeight)")
        await tab.until("document.querySelectorAll('.row').length >= 400")
