"""What is asked of two real registries, as their access logs have it: nothing that need not be."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.measure import kind_of
from tests.integration.mainjob import write_config
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.images import make_image, multi_platform, push


@pytest.fixture
def target(tmp_path: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "target") as running:
        yield running


def _asked(registry: DockerRegistry, before: int) -> Counter[str]:
    return Counter(kind_of(access) for access in registry.requests()[before:])


def _mirror(folder: Path, source: DockerRegistry, target: DockerRegistry) -> Path:
    rule = {"source": f"{source.host}/app", "target": "out"}
    return write_config(folder, {"out": {"type": "registry", "url": target.url}}, sync=[rule])


def test_a_new_repository_is_not_asked_for_blobs(registry: DockerRegistry, target: DockerRegistry) -> None:
    push(registry.client, "app", "v1", make_image("one", layers=3))
    seen = len(target.requests())
    run_ocisync("copy", f"docker://{registry.host}/app:v1", f"docker://{target.host}/app:v1").expect()
    wanted = {"HEAD manifest": 1, "GET tags": 1, "POST upload": 4, "PUT upload": 4, "PUT manifest": 1}
    assert _asked(target, seen) == wanted


def test_a_new_tag_beside_others_asks_for_the_blobs_it_shares(registry: DockerRegistry, target: DockerRegistry) -> None:
    push(target.client, "app", "v1", make_image("one"))
    push(registry.client, "app", "v2", make_image("one"))
    seen = len(target.requests())
    run_ocisync("copy", f"docker://{registry.host}/app:v2", f"docker://{target.host}/app:v2").expect()
    assert _asked(target, seen) == {"HEAD manifest": 1, "GET tags": 1, "HEAD blob": 3, "PUT manifest": 1}


def test_an_unchanged_index_without_a_ledger_is_not_written_again(
    registry: DockerRegistry, target: DockerRegistry, tmp_path: Path
) -> None:
    push(registry.client, "app", "v1", multi_platform("app"))
    run_ocisync("once", "-c", _mirror(tmp_path / "first", registry, target)).expect()
    seen = len(target.requests())
    run_ocisync("once", "-c", _mirror(tmp_path / "second", registry, target)).expect()
    asked = _asked(target, seen)
    assert asked == {"HEAD manifest": 3, "HEAD blob": 6}
