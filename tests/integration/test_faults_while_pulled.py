"""What goes wrong on the way to a published tag never shows to those who pull it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.mainjob import ENV, KINDS, Kind, Place, listed_tags, open_place, walk, write_config
from tests.integration.pulling import pulling
from tests.servers.command import Finished, run_ocisync
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy, fault_proxy
from tests.servers.faults import Action, Call, Flip, Refuse, Reply, ResetBody, Truncate
from tests.servers.images import Image, make_image, push
from tests.servers.seaweed import Seaweed
from tests.servers.tls import Certificate
from tests.servers.tokens import token_server

NAME = "library/app"
OLD, NEW, NEWER = (make_image(seed, size=200_000) for seed in ("old", "new", "newer"))


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, s3: Seaweed) -> Iterator[Place]:
    """An empty target of each kind."""
    kind: Kind = request.param
    with open_place(kind, tmp_path / "target", s3) as opened:
        yield opened


def prepare(place: Place, folder: Path, registry: DockerRegistry, proxy: FaultProxy) -> Path:
    """The old image published, the new one under the same tag at the source; the configuration."""
    rule = {"source": f"{proxy.host}/{NAME}", "target": f"out/{NAME}"}
    limits = {"retries": 8, "idle_timeout": "5s"}
    file = write_config(folder, {"out": place.settings}, sync=[rule], defaults=limits)
    push(registry.client, NAME, "1", OLD)
    once(file).expect(0)
    push(registry.client, NAME, "1", NEW)
    return file


def once(file: Path) -> Finished:
    """One pass."""
    return run_ocisync("once", "--json", "-c", file, env=ENV)


def published(place: Place) -> str:
    """The tag's digest, after pulling all of it."""
    return next(iter(walk(place, NAME, "1")))


def failure(done: Finished) -> str:
    """The code that a pass failed with."""
    tags = json.loads(done.expect(1).stdout)["jobs"][0]["tags"]
    return str(tags[0]["failure"]["code"])


PASSING: dict[str, tuple[str, str, Action, int]] = {
    "refused": ("GET", "/blobs/", Refuse(), 2),
    "reset": ("GET", "/blobs/", ResetBody(70_000), 2),
    "cut": ("GET", "/blobs/", Truncate(70_000), 2),
    "flipped": ("GET", "/blobs/", Flip(30_000), 1),
    "slower": ("GET|HEAD", "", Reply(429, {"Retry-After": "1"}), 3),
    "busy": ("GET|HEAD", "", Reply(503), 3),
}


@pytest.mark.parametrize("place", ["directory"], indirect=True)
@pytest.mark.parametrize("fault", PASSING)
def test_faults_that_pass_are_overcome(
    fault: str, place: Place, tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    file = prepare(place, tmp_path, registry, registry_proxy)
    method, path, action, times = PASSING[fault]
    rule = registry_proxy.on(method, path, action, times=times)
    with pulling(place, NAME, "1", {OLD.digest, NEW.digest}):
        once(file).expect(0)
    assert rule.hits == times
    assert published(place) == NEW.digest


def test_fault_20_content_that_stays_damaged_is_never_published(
    place: Place, tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    file = prepare(place, tmp_path, registry, registry_proxy)
    registry_proxy.on("GET", "/blobs/", Flip(30))
    before = place.listing()
    with pulling(place, NAME, "1", {OLD.digest}):
        assert failure(once(file)) == "verify.digest"
    assert published(place) == OLD.digest
    assert not [key for key in set(place.listing()) - set(before) if "/manifests/" in key]
    registry_proxy.rules.clear()
    once(file).expect(0)
    assert published(place) == NEW.digest


def test_fault_25_a_tag_that_moves_during_the_copy(
    place: Place, tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    file = prepare(place, tmp_path, registry, registry_proxy)
    registry_proxy.on("GET", "/blobs/", Call(lambda _: push(registry.client, NAME, "1", NEWER)), times=1)
    with pulling(place, NAME, "1", {OLD.digest, NEW.digest}):
        once(file).expect(0)
    assert published(place) == NEW.digest
    with pulling(place, NAME, "1", {NEW.digest, NEWER.digest}):
        once(file).expect(0)
    assert published(place) == NEWER.digest


def test_fault_18_a_tag_that_is_gone_at_the_source_stays_at_the_target(
    place: Place, tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    file = prepare(place, tmp_path, registry, registry_proxy)
    registry_proxy.on("GET|HEAD", "/manifests/", Reply(404))
    with pulling(place, NAME, "1", {OLD.digest}):
        assert failure(once(file)) == "source.missing"
    assert published(place) == OLD.digest
    assert listed_tags(place, NAME) == ["1"]


def test_fault_10_a_token_that_expires_during_the_copy(place: Place, tmp_path: Path, certificate: Certificate) -> None:
    with token_server(certificate) as tokens, docker_registry(tmp_path / "source", token=tokens.auth) as registry:
        push(registry.client, NAME, "1", NEW)
        with fault_proxy(registry.url) as proxy:
            asked = f'Bearer realm="{tokens.url}/token",service="test-registry",scope="repository:{NAME}:pull"'
            expired = proxy.on("GET", "/blobs/", Reply(401, {"WWW-Authenticate": asked}), skip=1, times=1)
            login = {"username": USERNAME, "password": PASSWORD}
            rule = {"source": f"{proxy.host}/{NAME}", "target": f"out/{NAME}"}
            registries = {proxy.host: login | {"realms": [tokens.url.partition("//")[2]]}}
            file = write_config(tmp_path, {"out": place.settings}, sync=[rule], registries=registries)
            tokens.asked.clear()
            once(file).expect(0)
            assert expired.hits == 1
            assert len(tokens.asked) == 2
    assert published(place) == NEW.digest


def test_one_bad_image_does_not_stop_the_others(
    place: Place, tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    good: list[Image] = [make_image(f"good{number}") for number in range(3)]
    for number, image in enumerate(good):
        push(registry.client, NAME, f"good{number}", image)
    push(registry.client, NAME, "bad", NEW)
    registry_proxy.on("GET", f"/blobs/{list(NEW.blobs)[1]}", Flip(1))
    rule = {"source": f"{registry_proxy.host}/{NAME}", "target": f"out/{NAME}"}
    done = once(write_config(tmp_path, {"out": place.settings}, sync=[rule])).expect(1)
    verdicts = {tag["tag"]: tag["verdict"] for tag in json.loads(done.stdout)["jobs"][0]["tags"]}
    assert verdicts == {"bad": "failed", "good0": "copied", "good1": "copied", "good2": "copied"}
    assert listed_tags(place, NAME) == ["good0", "good1", "good2"]
