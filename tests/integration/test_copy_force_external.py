"""`copy --force` sends everything again; foreign layers come from their own URLs when they are wanted (FAULTS 14)."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio import to_thread

from ocisync.commands.images.copy import CopyOptions, copy_images
from ocisync.config.models import Config
from ocisync.model.locator import parse_locator
from ocisync.sync.reports import JobReport
from ocisync.wiring.session import open_session
from tests.servers import faults
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy, fault_proxy
from tests.servers.images import DOCKER_CONFIG, DOCKER_MANIFEST, Image, describe, digest_of, make_image, noise, push

CONFIG = Config(version=1)
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
LAYER = noise(300_000, "a layer of a Windows base image")


URLS = {"validation": {"manifests": {"urls": {"allow": ["^https?://"]}}}}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """One that takes manifests with URLs in them."""
    with docker_registry(tmp_path / "docker-registry", settings=URLS) as running:
        yield running


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[FaultProxy]:
    """A server that has the layer under /layer, and nothing else."""
    with docker_registry(tmp_path / "nothing") as behind, fault_proxy(behind.url) as proxy:
        proxy.on("GET", "^/layer$", faults.Reply(200, body=LAYER))
        yield proxy


def foreign_image(*urls: str) -> Image:
    config = b'{"os":"windows","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}'
    layer = describe(FOREIGN, LAYER) | {"urls": list(urls)}
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": describe(DOCKER_CONFIG, config),
        "layers": [layer],
    }
    return Image(json.dumps(document).encode(), DOCKER_MANIFEST, config, (), {digest_of(config): config})


async def copied(source: str, place: str, extent: CopyOptions, scratch: Path) -> JobReport:
    async with open_session(CONFIG, scratch=scratch) as session:
        (done,) = await copy_images(session, [parse_locator(source)], parse_locator(place), extent)
        return done.report


def blob(root: Path, digest: str = digest_of(LAYER)) -> Path:
    return root / "v2/app/blobs" / digest


EXTERNAL = CopyOptions(include_external=True)


async def test_foreign_layers_stay_where_they_are_unless_they_are_wanted(
    registry: DockerRegistry, elsewhere: FaultProxy, tmp_path: Path
) -> None:
    push(registry.client, "win", "1", foreign_image(f"{elsewhere.url}/layer"))
    source, root = f"docker://{registry.host}/win:1", tmp_path / "static"
    assert (await copied(source, f"static:{root}//app:1", CopyOptions(), tmp_path)).ok
    assert not blob(root).exists()
    assert elsewhere.requests == []
    report = await copied(source, f"static:{root}//app:1", EXTERNAL, tmp_path)
    assert report.ok, report
    assert hashlib.sha256(blob(root).read_bytes()).hexdigest() == digest_of(LAYER).removeprefix("sha256:")
    again = await copied(source, f"docker://{registry.host}/copy:1", EXTERNAL, tmp_path)
    assert again.ok, again
    assert registry.client.request("HEAD", f"/v2/copy/blobs/{digest_of(LAYER)}").status == 200


async def test_the_next_url_is_tried_and_redirects_are_followed(
    registry: DockerRegistry, elsewhere: FaultProxy, tmp_path: Path
) -> None:
    moved = elsewhere.on("GET", "^/moved$", faults.Redirect("/layer", 302))
    push(registry.client, "win", "1", foreign_image(f"{elsewhere.url}/absent", f"{elsewhere.url}/moved"))
    report = await copied(f"docker://{registry.host}/win:1", f"static:{tmp_path}//app:1", EXTERNAL, tmp_path)
    assert report.ok, report
    assert moved.hits == 1
    assert blob(tmp_path).read_bytes() == LAYER


async def test_fault_14_where_a_foreign_layer_lies_gets_no_credentials(tmp_path: Path, elsewhere: FaultProxy) -> None:
    with docker_registry(tmp_path / "basic", basic=True, settings=URLS) as basic:
        url = f"{elsewhere.url}/layer"
        push(basic.client, "win", "1", foreign_image(url, f"{basic.url}/v2/"))
        host = {"username": "tester", "password": "open-sesame"}
        settings = {"version": 1, "registries": {basic.host: host, elsewhere.host: host}}
        config = await to_thread.run_sync(Config.model_validate, settings)
        async with open_session(config, scratch=tmp_path) as session:
            places = [parse_locator(f"docker://{basic.host}/win:1")], parse_locator(f"static:{tmp_path}//app:1")
            (done,) = await copy_images(session, *places, EXTERNAL)
    assert done.report.ok, done.report
    (asked,) = elsewhere.seen("GET", "^/layer$")
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (faults.Reply(404), "status 404"),
        (faults.Reply(401, {"WWW-Authenticate": 'Basic realm="x"'}), "it wants a login, and none is sent"),
        (faults.Reply(200, body=LAYER[:-1] + b"x"), "hashes to"),
        (faults.Reply(200, body=LAYER + b"x"), "instead of"),
        (faults.Redirect("ftp://example.com/layer", 302), "not https or http"),
        (faults.Redirect("http://169.254.169.254/layer", 302), "internal address"),
    ],
    ids=["absent", "login", "other bytes", "longer", "other scheme", "internal"],
)
async def test_fault_14_a_foreign_layer_that_cannot_be_had_fails_its_image(
    registry: DockerRegistry, elsewhere: FaultProxy, tmp_path: Path, answer: faults.Action, told: str
) -> None:
    elsewhere.rules.clear()
    elsewhere.on("GET", "^/layer$", answer)
    push(registry.client, "win", "1", foreign_image(f"{elsewhere.url}/layer"))
    report = await copied(f"docker://{registry.host}/win:1", f"static:{tmp_path}//app:1", EXTERNAL, tmp_path)
    assert [told in str(tag.failure) for tag in report.failed] == [True]
    assert not blob(tmp_path).exists()


async def test_force_sends_everything_again_and_mends_what_no_look_shows(
    registry: DockerRegistry, tmp_path: Path
) -> None:
    image = make_image()
    push(registry.client, "src", "1", image)
    source, place, root = f"docker://{registry.host}/src:1", f"static:{tmp_path}/static//app:1", tmp_path / "static"
    assert (await copied(source, place, CopyOptions(), tmp_path)).ok
    digest, data = next((digest, data) for digest, data in image.blobs.items() if data != image.config)
    blob(root, digest).write_bytes(data[:-1] + b"x")  # of the same size
    plain = await copied(source, place, CopyOptions(), tmp_path)
    assert (plain.ok, plain.traffic.blobs) == (True, 0)
    forced = await copied(source, place, CopyOptions(send_again=True), tmp_path)
    assert forced.ok, forced
    assert forced.traffic.blobs == len(image.blobs)
    assert blob(root, digest).read_bytes() == data


async def test_force_at_a_registry_asks_nothing_and_sends_all(
    registry: DockerRegistry, registry_proxy: FaultProxy, tmp_path: Path
) -> None:
    image = make_image()
    push(registry.client, "src", "1", image)
    place = f"docker://{registry_proxy.host}/app:1"
    assert (await copied(f"docker://{registry.host}/src:1", place, CopyOptions(), tmp_path)).ok
    registry_proxy.requests.clear()
    report = await copied(f"docker://{registry.host}/src:1", place, CopyOptions(send_again=True), tmp_path)
    assert report.ok, report
    assert len(registry_proxy.seen("PUT", "/blobs/uploads/")) == len(image.blobs)
    assert len(registry_proxy.seen("PUT", "/manifests/")) == 2  # by digest, then the tag
    assert registry_proxy.seen("HEAD", "/blobs/") == []
