"""The Kubernetes manifests at work: configurations and mounts, in a pod without root, home or a writable image."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.integration.mainjob import Directory, tags
from tests.integration.test_config_watch import ConfigMap
from tests.servers.client import fetch
from tests.servers.command import Daemon
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.images import docker_archive, make_image, push
from tests.servers.nginx import nginx_of
from tests.servers.pod import Pod, pod_of_this_machine
from tests.servers.process import Child, free_port, wait_for
from tests.servers.seaweed import ACCESS_KEY, SECRET_KEY, Bucket
from tests.unit.test_deploy import documents, of_kind, the_container

NAME = "library/alpine"
GIVEN = {"access-key-id": ACCESS_KEY, "secret-access-key": SECRET_KEY, "username": USERNAME, "password": PASSWORD}
ENV = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def in_pod(pod: Pod, manifest: str, folder: Path, text: str) -> Iterator[tuple[Daemon, ConfigMap]]:
    """The manifest's container ocisync with its arguments and mounts; SIGTERM at the end, and exit 0."""
    port = free_port()
    text = text.replace("0.0.0.0:8080", f"127.0.0.1:{port}")
    mounted = ConfigMap(folder / "config", text)
    secrets = folder / "secrets"
    secrets.mkdir()
    for document in documents(manifest):
        for key, value in document.get("stringData", {}).items():
            (secrets / key).write_text(GIVEN.get(key, value))
    for mount in the_container(manifest)["volumeMounts"]:
        path = mount["mountPath"]
        if mount["name"] in ("config", "secrets"):
            pod.read_only[path] = folder / mount["name"]
        else:
            pod.volume(path, folder / path.replace("/", "-"))
    arguments = ["ocisync", *the_container(manifest)["args"]]
    child = Child(pod.command(arguments, ENV, "/var/lib/ocisync"), folder)
    running = Daemon(child, f"http://127.0.0.1:{port}")
    try:
        child.wait_until(running.ready, "the daemon to be ready", 40)
        yield running, mounted
    except BaseException:
        child.kill()
        raise
    assert child.stop() == 0, child.output


def configuration(manifest: str) -> str:
    return str(of_kind(manifest, "ConfigMap")["data"]["ocisync.yaml"])


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return pod_of_this_machine(tmp_path / "root")


def test_a_mirror_to_s3_with_secrets_as_files_and_an_edited_configmap(
    tmp_path: Path, pod: Pod, registry: DockerRegistry, bucket: Bucket
) -> None:
    for tag in ("3.1", "3.2"):
        push(registry.client, NAME, tag, make_image(tag))
    whole = yaml.safe_load(configuration("kubernetes.yaml"))
    del whole["registries"]  # this one needs no login
    whole["targets"]["mirror"] |= {"bucket": bucket.name, "endpoint": bucket.endpoint}
    [rule] = whole["sync"]
    rule |= {"source": f"{registry.host}/{NAME}", "tags": {"allow": [r"3\.1"]}, "interval": "2s"}
    with in_pod(pod, "kubernetes.yaml", tmp_path, yaml.safe_dump(whole)) as (running, mounted):
        wait_for(lambda: bucket.keys(f"v2/{NAME}/manifests/3.1"), "the first tag in the bucket")
        assert bucket.keys(f"v2/{NAME}/manifests/3.2") == []
        mounted.write(mounted.file.read_text().replace(r"3\.1", r"3\..*"))
        wait_for(lambda: bucket.keys(f"v2/{NAME}/manifests/3.2"), "the tag of the edited ConfigMap")
        assert "error" not in running.log


def test_a_registry_whose_nginx_passes_on_the_registry_and_its_page_only(
    tmp_path: Path, pod: Pod, registry: DockerRegistry
) -> None:
    push(registry.client, NAME, "3.1", image := make_image("one"))
    manifest = "kubernetes-sidecar.yaml"
    text = configuration(manifest).replace("docker.io/library/alpine", f"{registry.host}/{NAME}")
    with in_pod(pod, manifest, tmp_path, text) as (running, _):
        served = pod.volumes["/var/lib/ocisync"] / "registry"
        wait_for(lambda: tags(Directory(served), NAME) == ["3.1"], "the tag")
        port, server = free_port(), str(of_kind(manifest, "ConfigMap")["data"]["nginx.conf"])
        facts = {
            "listen 5000": f"listen 127.0.0.1:{port}",
            "127.0.0.1:8080": urlsplit(running.url).netloc,
            "/var/lib/ocisync/registry": str(served),
        }
        for example, here in facts.items():
            assert example in server
            server = server.replace(example, here)
        with nginx_of(tmp_path / "nginx", server, port) as url:
            assert fetch("GET", f"{url}/v2/").status == 200
            assert fetch("GET", f"{url}/v2/{NAME}/manifests/3.1").body == image.manifest
            [layer, *_] = image.blobs
            blob = fetch("GET", f"{url}/v2/{NAME}/blobs/{layer}")
            assert (blob.status, blob.body) == (200, image.blobs[layer])
            assert b"<html" in fetch("GET", f"{url}/").body.lower()
            for path in ("/metrics", "/v1/status", "/readyz", "/healthz", "/v1/webhooks/x", "/.ocisync/x", "/v1/sync"):
                assert fetch("GET", url + path).status == 404, path
            assert fetch("POST", f"{url}/v1/sync", b"").status == 404
            assert fetch("PUT", f"{url}/v2/{NAME}/blobs/{layer}", b"").status == 403


def test_a_sidecar_beside_a_builder_logs_in_with_its_secret(tmp_path: Path, pod: Pod) -> None:
    manifest = "kubernetes-builder.yaml"
    with docker_registry(tmp_path / "registry", basic=True) as registry:
        text = configuration(manifest).replace("https://registry.example.com", registry.url)
        text = text.replace("registry.example.com", registry.host)
        with in_pod(pod, manifest, tmp_path, text) as (running, _):
            drop = pod.volumes["/drop"]
            docker_archive(drop / ".app.tar", {"team/app:1.0": make_image("built")}).rename(drop / "app.tar")
            wait_for(lambda: registry.client.request("GET", "/v2/team/app/tags/list").status == 200, "the image")
            wait_for(lambda: not (drop / "app.tar").exists(), "the published file to go")
            assert "Traceback" not in running.log
