"""Repositories take turns at one host: what is small does not wait for all layers of what is large."""

import re
from pathlib import Path

from tests.integration.mainjob import write_config
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.images import make_image, push

LARGE = make_image("large", layers=24)
SMALL = make_image("small", layers=1)


def test_a_small_image_does_not_wait_for_the_many_layers_of_another(registry: DockerRegistry, tmp_path: Path) -> None:
    push(registry.client, "app/large", "1", LARGE)
    push(registry.client, "app/small", "1", SMALL)
    with docker_registry(tmp_path / "target") as target:
        one_at_a_time = {"plain_http": True, "concurrency": 1}
        file = write_config(
            tmp_path,
            {"out": {"type": "registry", "url": target.url}},
            sync=[
                {"name": name, "source": f"{registry.host}/app/{name}", "target": "out", "tags": {"allow": ["1"]}}
                for name in ("large", "small")
            ],
            registries={registry.host: one_at_a_time, target.host: one_at_a_time},
            daemon={"concurrent_blobs": 32},
        )
        done = run_ocisync("once", "-c", file).expect(0)
    assert re.findall(r"app/(\w+):1 copied", done.stdout + done.stderr) == ["small", "large"]
