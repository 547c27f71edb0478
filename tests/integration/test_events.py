"""Events: real notifications of a registry, and people who ask, make the daemon look at once."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest

from tests.integration.mainjob import Directory, tags, walk, write_config
from tests.servers.client import fetch
from tests.servers.command import Daemon, daemon, run_ocisync
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.images import make_image, push
from tests.servers.process import free_port, wait_for

NAME = "team/web"
TOKEN = "the token of the tests"
SECRET = "the secret of the webhook"
SELDOM = {"schedule": "0 0 29 2 *"}  # but for events, nothing ever happens


def notifying(folder: Path, port: int) -> Iterator[DockerRegistry]:
    endpoint = {
        "name": "ocisync",
        "url": f"http://127.0.0.1:{port}/v1/webhooks/inner",
        "headers": {"Authorization": [f"Bearer {SECRET}"]},
        "timeout": "5s",
        "threshold": 100,
        "backoff": "100ms",
    }
    with docker_registry(folder, settings={"notifications": {"endpoints": [endpoint]}}) as registry:
        yield registry


@contextmanager
def mirrored(folder: Path, registry: DockerRegistry, port: int) -> Iterator[tuple[Daemon, Directory, Path]]:
    place = Directory(folder / "mirror")
    rule = {"name": "web", "source": f"{registry.host}/{NAME}", "target": "out", "tags": {"allow": ["v.*"]}} | SELDOM
    off = {"name": "off", "source": f"{registry.host}/off", "target": "out", "enabled": False}
    drop = {"name": "builds", "path": str(folder / "drop"), "target": "out"}
    file = write_config(
        folder,
        {"out": place.settings},
        sync=[rule, off],
        drop=[drop],
        daemon={"listen": f"127.0.0.1:{port}", "token": TOKEN},
        webhooks={"inner": {"type": "distribution", "secret": SECRET}},
    )
    with daemon(file) as running:
        yield running, place, file


def test_a_push_to_a_registry_is_mirrored_at_once_and_looks_at_its_tag_only(tmp_path: Path) -> None:
    port = free_port()
    for registry in notifying(tmp_path / "registry", port):
        with mirrored(tmp_path, registry, port) as (running, place, _):
            push(registry.client, NAME, "dev", make_image("dev"))
            push(registry.client, NAME, "v1", make_image("one"))
            wait_for(lambda: tags(place, NAME) == ["v1"], "v1 to be mirrored")
            push(registry.client, NAME, "v2", make_image("two"))
            wait_for(lambda: tags(place, NAME) == ["v1", "v2"], "v2 to be mirrored")
            walk(place, NAME, "v2")
            asked = [one.path for one in registry.requests() if one.method in ("GET", "HEAD")]
            assert f"/v2/{NAME}/tags/list" not in asked
            assert f"/v2/{NAME}/manifests/dev" not in asked
            metrics = running.get("/metrics").body.decode()
            assert 'ocisync_webhooks_total{outcome="taken",webhook="inner"}' in metrics
            assert 'ocisync_webhooks_total{outcome="unmatched",webhook="inner"}' in metrics
            assert SECRET not in running.log + metrics


@pytest.mark.parametrize("arguments", [(), ("--tag", "v1")], ids=["all", "one tag"])
def test_people_ask_for_a_rule_or_a_tag(tmp_path: Path, registry: DockerRegistry, arguments: tuple[str, ...]) -> None:
    port = free_port()
    for tag in ("v1", "v2"):
        push(registry.client, NAME, tag, make_image(tag))
    with mirrored(tmp_path, registry, port) as (_, place, file):
        run_ocisync("sync-now", "web", *arguments, "-c", file).expect(0)
        wanted = ["v1"] if arguments else ["v1", "v2"]
        wait_for(lambda: tags(place, NAME) == wanted, "the rule to run")


def test_people_ask_for_a_repository_of_a_whole_registry(tmp_path: Path, registry: DockerRegistry) -> None:
    names = ("team/one", "team/two", "other/three")
    for name, tag in product(names, ("v1", "v2")):
        push(registry.client, name, tag, make_image(tag))
    place = Directory(tmp_path / "mirror")
    rule = {"name": "all", "type": "registry", "source": f"{registry.host}/team", "target": "out/{repository}"} | SELDOM
    process = {"listen": f"127.0.0.1:{free_port()}", "token": TOKEN}
    file = write_config(tmp_path, {"out": place.settings}, sync=[rule], daemon=process)
    with daemon(file) as running:
        run_ocisync("sync-now", "all", "--repository", "team/one", "--tag", "v2", "-c", file).expect(0)
        wait_for(lambda: tags(place, "team/one") == ["v2"], "the tag to be mirrored")
        run_ocisync("sync-now", "all", "--repository", "team/two", "-c", file).expect(0)
        wait_for(lambda: tags(place, "team/two") == ["v1", "v2"], "the repository to be mirrored")
        cases = {
            ("--tag", "v1"): "if it mirrors a whole registry, name the repository",
            ("--repository", "other/three"): "the rule 'all' does not copy the repository 'other/three'",
        }
        for arguments, told in cases.items():
            assert told in run_ocisync("sync-now", "all", *arguments, "-c", file).expect(1).stderr
        assert running.log.count("job.finished") == 2
    assert tags(place, "team/one") == ["v2"]
    assert "/v2/_catalog" not in [one.path for one in registry.requests()]


def test_what_cannot_be_asked_for_is_told_in_words(tmp_path: Path, registry: DockerRegistry) -> None:
    port = free_port()
    with mirrored(tmp_path, registry, port) as (running, _, file):
        cases = {
            ("other",): (1, "there is no rule named 'other'"),
            ("web", "--tag", "dev"): (1, "does not select the tag 'dev'"),
            ("builds",): (2, "builds is a drop rule"),
            ("off",): (2, "`ocisync once off` runs it anyway"),
            ("web", "--url", f"http://127.0.0.1:{free_port()}"): (1, "no daemon answers"),
        }
        for arguments, (code, told) in cases.items():
            done = run_ocisync("sync-now", *arguments, "-c", file).expect(code)
            assert told in done.stderr, arguments
            assert "Traceback" not in done.stderr
        other = file.with_name("other.yaml")
        other.write_text(file.read_text().replace(TOKEN, "another token of somebody"))
        assert "the token is not the daemon's" in run_ocisync("sync-now", "web", "-c", other).expect(1).stderr
        other.write_text(file.read_text().replace(f"token: {TOKEN}", "drain: 1s"))
        assert "`daemon.token`" in run_ocisync("sync-now", "web", "-c", other).expect(2).stderr
        assert "web" in json.loads(running.get("/v1/status").body)["rules"]


def test_a_reload_changes_webhooks_and_keeps_what_was_pushed(tmp_path: Path, registry: DockerRegistry) -> None:
    port = free_port()
    push(registry.client, NAME, "v1", make_image("one"))
    with mirrored(tmp_path, registry, port) as (running, place, file):
        url, body = f"{running.url}/v1/webhooks/inner", json.dumps({"repository": NAME, "tag": "v1"}).encode()
        assert fetch("POST", url, body, {"Authorization": SECRET}).status == 400
        file.write_text(file.read_text().replace("type: distribution", "type: plain"))
        running.child.process.send_signal(1)
        wait_for(lambda: fetch("POST", url, body, {"Authorization": SECRET}).status == 202, "the new configuration")
        wait_for(lambda: tags(place, NAME) == ["v1"], "v1 to be mirrored")
