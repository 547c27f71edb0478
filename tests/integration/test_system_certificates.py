"""TLS by the system's authorities: read when they are first needed, and nothing else is trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.integration.registries import NAME
from tests.servers import images
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.fault_proxy import FaultProxy, fault_proxy
from tests.servers.images import Json
from tests.servers.seaweed import ACCESS_KEY, SECRET_KEY, Bucket, Seaweed
from tests.servers.tls import Certificate

IMAGE = images.make_image()


@pytest.fixture
def pushed(registry: DockerRegistry) -> DockerRegistry:
    """A registry with one image."""
    images.push(registry.client, NAME, "1", IMAGE)
    return registry


@pytest.fixture
def front(pushed: DockerRegistry, certificate: Certificate) -> Iterator[FaultProxy]:
    """TLS in front of the registry; also a proxy on TLS."""
    with fault_proxy(pushed.url, certificate) as running:
        yield running


@pytest.fixture(params=[True, False], ids=["trusted", "unknown"])
def environment(request: pytest.FixtureRequest, certificate: Certificate, tmp_path: Path) -> Mapping[str, str]:
    """What OpenSSL takes for the system's authorities: our own, or none."""
    nobody = tmp_path / "no-authorities.pem"
    nobody.write_text("")
    file = certificate.authority if request.param else nobody
    return {"SSL_CERT_FILE": str(file), "SSL_CERT_DIR": str(tmp_path / "none"), "AWS_REGION": "us-east-1"}


def once(tmp_path: Path, environment: Mapping[str, str], source: str, options: Json, target: Json) -> str:
    """Mirror the image; "" when that went well, else what was said."""
    rule = {"name": "own", "source": f"{source}/{NAME}", "target": "out"}
    config = {
        "version": 1,
        "daemon": {"state": str(tmp_path / "state")},
        "registries": {source: {"retries": 0} | options},
        "targets": {"out": target},
        "sync": [rule],
    }
    file = tmp_path / "ocisync.yaml"
    file.write_text(yaml.safe_dump(config))
    done = run_ocisync("once", "-c", file, env=environment)
    return "" if done.code == 0 else done.stderr


def check(environment: Mapping[str, str], said: str) -> None:
    """Only the trusted authority will do."""
    if "no-authorities" in environment["SSL_CERT_FILE"]:
        assert "certificate" in said
    else:
        assert said == ""


def test_of_a_registry(tmp_path: Path, front: FaultProxy, environment: Mapping[str, str]) -> None:
    target: Json = {"type": "static", "path": str(tmp_path / "out")}
    check(environment, once(tmp_path, environment, front.host, {"plain_http": False}, target))


def test_of_a_proxy_to_a_registry_without_tls(
    tmp_path: Path, pushed: DockerRegistry, front: FaultProxy, environment: Mapping[str, str]
) -> None:
    target: Json = {"type": "static", "path": str(tmp_path / "out")}
    options: Json = {"proxy": {"url": front.url}}
    check(environment, once(tmp_path, environment, pushed.host, options, target))
    assert all(seen.path.startswith(pushed.url) for seen in front.requests)


def test_of_a_bucket(
    tmp_path: Path,
    pushed: DockerRegistry,
    s3: Seaweed,
    bucket: Bucket,
    certificate: Certificate,
    environment: Mapping[str, str],
) -> None:
    keys = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
    with fault_proxy(s3.endpoint, certificate) as store:
        target: Json = {"type": "s3", "bucket": bucket.name, "endpoint": store.url, "path_style": True} | keys
        check(environment, once(tmp_path, environment, pushed.host, {}, target))


def test_a_bucket_may_have_authorities_of_its_own_as_the_aws_tools_find_them(
    tmp_path: Path, pushed: DockerRegistry, s3: Seaweed, bucket: Bucket, certificate: Certificate
) -> None:
    (tmp_path / "config").write_text(f"[profile own]\nca_bundle = {certificate.authority}\n")
    keys = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
    nobody = {
        "SSL_CERT_FILE": str(tmp_path / "none"),
        "SSL_CERT_DIR": str(tmp_path / "none"),
        "AWS_REGION": "us-east-1",
    }
    by_variable = nobody | {"AWS_CA_BUNDLE": str(certificate.authority)}
    by_profile = nobody | {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_PROFILE": "own"}
    with fault_proxy(s3.endpoint, certificate) as store:
        target: Json = {"type": "s3", "bucket": bucket.name, "endpoint": store.url, "path_style": True} | keys
        assert once(tmp_path, by_variable, pushed.host, {}, target) == ""
        assert once(tmp_path, by_profile, pushed.host, {}, target) == ""
        assert "certificate" in once(tmp_path, nobody, pushed.host, {}, target)


def test_of_the_daemon_that_sync_now_asks(
    tmp_path: Path, registry: DockerRegistry, certificate: Certificate, environment: Mapping[str, str]
) -> None:
    config = {
        "version": 1,
        "daemon": {"state": str(tmp_path / "state"), "token": "a-long-token-for-tests"},
        "targets": {"out": {"type": "static", "path": str(tmp_path / "out")}},
        "sync": [{"name": "own", "source": f"{registry.host}/{NAME}", "target": "out"}],
    }
    file = tmp_path / "ocisync.yaml"
    file.write_text(json.dumps(config))
    with fault_proxy(registry.url, certificate) as daemon:  # it answers 404, over TLS
        done = run_ocisync("sync-now", "own", "-c", file, "--url", daemon.url, env=environment)
        assert len(daemon.requests) == ("no-authorities" not in environment["SSL_CERT_FILE"])
    assert done.code != 0
