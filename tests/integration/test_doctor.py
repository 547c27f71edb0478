"""The doctor names the right cause, seen through real fronts that are set up wrongly in one way each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocisync.cli import run_async
from ocisync.commands.doctor import diagnose
from ocisync.doctor.diagnosis import Diagnosis
from ocisync.serve.app import registry_app
from ocisync.stores.directory.store import DirectoryStore
from tests.integration.fronts import FRONTS, PROXY
from tests.servers.command import run_ocisync
from tests.servers.images import Index, multi_platform
from tests.servers.loop import serve_app
from tests.servers.nginx import nginx
from tests.servers.process import free_port
from tests.servers.skopeo import pull
from tests.servers.static_files import write_registry
from tests.servers.tls import Certificate

NAME = "team/app"


@dataclass(frozen=True, slots=True)
class Origin:
    """A registry that is all right."""

    url: str
    root: Path
    index: Index

    def fill(self, directives: str) -> str:
        """Directives of nginx with the origin's facts."""
        facts = {"ORIGIN": self.url, "ROOT": str(self.root), "DIGEST": self.index.digest, "DEAD": str(free_port())}
        for name, value in facts.items():
            directives = directives.replace(f"${name}", value)
        return directives


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    root = tmp_path_factory.mktemp("origin")
    index = multi_platform("doctor", size=40_000)
    write_registry(root, NAME, index, ("1.0", "latest"))
    with serve_app(registry_app(DirectoryStore(root, fsync=False))) as url:
        yield Origin(url, root, index)


def codes(found: Diagnosis, level: str) -> set[str]:
    return {one.cause.code for one in found.findings if one.cause.level.value == level}


@pytest.mark.parametrize("front", FRONTS)
def test_the_cause_is_named(front: str, origin: Origin, tmp_path: Path) -> None:
    directives, causes = FRONTS[front]
    with nginx(tmp_path, origin.fill(directives)) as url:
        found = run_async(diagnose, f"{url}/{NAME}:latest")
    assert codes(found, "fails") | codes(found, "risk") == set(causes.split()), (
        "nothing less, and nothing that misleads"
    )
    assert all(found.remedies[code] for code in causes.split())


def test_a_good_front_has_nothing_that_fails(origin: Origin, tmp_path: Path) -> None:
    with nginx(tmp_path / "nginx", origin.fill(PROXY)) as url:
        found = run_async(diagnose, f"{url}/{NAME}:1.0")
        pull(f"{url.removeprefix('http://')}/{NAME}:1.0", tmp_path / "pulled")
    assert not codes(found, "fails") | codes(found, "risk")
    assert found.fronts == ("nginx",)


def test_an_image_is_found_by_itself(origin: Origin) -> None:
    found = run_async(diagnose, origin.url)
    assert (found.address.name, found.address.tag) == (NAME, "latest")
    assert not found.failing()


def test_a_certificate_that_is_not_trusted_is_told(certificate: Certificate, tmp_path: Path) -> None:
    port = free_port()
    files = f"ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key};"
    tls = f"listen 127.0.0.1:{port} ssl; {files}"
    with nginx(tmp_path, f"{tls} location / {{ return 404; }}"):
        found = run_async(diagnose, f"https://127.0.0.1:{port}")
        trusted = run_async(diagnose, f"https://127.0.0.1:{port}", certificate.authority)
    assert codes(found, "fails") == {"tls.refused"}
    assert "tls.refused" not in codes(trusted, "fails")


def test_a_host_that_does_not_answer_is_told() -> None:
    found = run_async(diagnose, f"http://127.0.0.1:{free_port()}")
    assert codes(found, "fails") == {"host.unreachable"}


def test_the_command_says_what_to_change_and_exits_1(origin: Origin, tmp_path: Path) -> None:
    with nginx(tmp_path, origin.fill(FRONTS["no_root"][0])) as url:
        told = run_ocisync("doctor", f"{url}/{NAME}").expect(1).stdout
        machine = json.loads(run_ocisync("doctor", f"{url}/{NAME}", "--json").expect(1).stdout)
        run_ocisync("doctor", f"{url}/{NAME}", "--client", "docker").expect(0)
    assert "return 200 '{}'" in told
    assert "podman      fails: root.missing" in told
    assert machine["clients"]["docker"] == []
    assert machine["findings"][0]["cures"]["nginx"].startswith("location = /v2/")


def test_the_command_refuses_what_is_no_url() -> None:
    assert "https://HOST" in run_ocisync("doctor", "registry.example.com").expect(2).stderr
    assert "client" in run_ocisync("doctor", "http://127.0.0.1:1", "--client", "rkt").expect(2).stderr
