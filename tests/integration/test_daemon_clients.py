"""Clients that are slow, silent or many, beside the daemon's own work; and its end while they hold on."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import pytest
import yaml

from tests.integration.mainjob import Directory, tags, walk, write_config
from tests.servers.command import Daemon, daemon
from tests.servers.docker_registry import DockerRegistry
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Stall
from tests.servers.images import docker_archive, make_image, push
from tests.servers.process import Child, wait_for
from tests.unit.test_deploy import MANIFESTS, settings, workload

NAME = "library/app"
MIB = 1 << 20
_HALF = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: "
_HALF_BODY = b"POST /webhooks/github HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"


@contextmanager
def client(url: str, request: bytes) -> Iterator[socket.socket]:
    """A connection that has sent this, and takes next to nothing."""
    parts = urlsplit(url)
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(10)
        made.connect((parts.hostname, parts.port))
        made.sendall(request)
        yield made


def drain_of(manifest: str) -> float:
    return float(str(settings(manifest)["daemon"]["drain"]).removesuffix("s"))


def test_the_manifests_give_time_to_drain_and_to_end() -> None:
    for name in MANIFESTS:
        pod = workload(name)["template"]["spec"]
        hooks = [one for container in pod["containers"] if (one := container.get("lifecycle"))]
        assert not hooks, f"{name}: a preStop hook takes its time from the same grace period"
        assert pod["terminationGracePeriodSeconds"] >= drain_of(name) + 10


@pytest.mark.timeout(120)
@pytest.mark.parametrize("drain", [0.5, drain_of("kubernetes.yaml")])
def test_fault_58_sigterm_ends_the_daemon_within_the_drain_and_two_seconds_whatever_clients_do(
    drain: float, tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    push(registry.client, NAME, "1", make_image("stalled", size=400_000))
    stalled = registry_proxy.on("GET", "/blobs/", Stall(100_000))
    place = Directory(tmp_path / "registry")
    digest = "sha256:" + "a" * 64
    blob = tmp_path / "registry/v2/big/blobs" / digest
    blob.parent.mkdir(parents=True)
    with blob.open("wb") as file:
        file.truncate(64 * MIB)
    config = write_config(
        tmp_path, {"out": place.settings}, sync=[{"source": f"{registry_proxy.host}/{NAME}", "target": "out"}],
        daemon={"drain": f"{drain:g}s", "serve": "out"},
    )  # fmt: skip
    with daemon(config) as running, ExitStack() as stack:
        wait_for(lambda: stalled.hits >= 2, "blobs under way")
        whole = f"GET /v2/big/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        for request in (whole, _HALF, _HALF_BODY, b""):
            for _ in range(20):
                stack.enter_context(client(running.url, request))
        began = monotonic()
        os.kill(running.pid, signal.SIGTERM)
        assert running.child.process.wait(drain + 10) == 0
        assert drain <= monotonic() - began < drain + 2
        assert "Traceback" not in running.log


@contextmanager
def few_descriptors(config: Path, folder: Path) -> Iterator[Daemon]:
    """A daemon that may have 1,024 descriptors."""
    command = [
        "sh",
        "-c",
        'ulimit -n 1024 && exec "$@"',
        "sh",
        sys.executable,
        "-m",
        "ocisync",
        "run",
        "-c",
        str(config),
    ]
    (folder / "log").mkdir()
    child = Child(command, folder / "log", dict(os.environ), folder)
    running = Daemon(child, f"http://{yaml.safe_load(config.read_text())['daemon']['listen']}")
    try:
        child.wait_until(running.ready, "the daemon to be ready", 40)
        yield running
        assert child.stop() == 0
    finally:
        child.kill()


def test_half_open_connections_keep_neither_clients_nor_the_daemons_work_out(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))
    place = Directory(tmp_path / "registry")
    config = write_config(
        tmp_path, {"out": place.settings}, drop=[{"path": str(tmp_path / "drop"), "target": "out", "stable": "100ms"}]
    )
    (tmp_path / "drop").mkdir()
    with few_descriptors(config, tmp_path) as running, ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.enter_context(client(running.url, _HALF))
        docker_archive(tmp_path / "drop/app.tar", {f"{NAME}:1": (image := make_image())})
        slowest = 0.0
        for _ in range(20):
            began = monotonic()
            assert running.get("/healthz").status == 200
            slowest = max(slowest, monotonic() - began)
        assert slowest < 1
        wait_for(lambda: tags(place, NAME) == ["1"], "the dropped archive", 30)
        assert image.config in walk(place, NAME, "1").values()
        assert "connections.exhausted" in running.log
        assert "idle one was closed for a new one" in running.log
        assert "Traceback" not in running.log
