"""What a host asks of one daemon, all of them heed."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg

from tests.integration.engines import Fleet
from tests.prove.test_immutable import store
from tests.servers.docker_registry import DockerRegistry
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Reply
from tests.servers.images import Json, make_image, push
from tests.servers.postgres import Postgres
from tests.servers.process import wait_for
from tests.servers.slow_line import slow_line

PAUSE = 9.0  # seconds that the host asks for; less than what keeps work from being handed out
KNOWN = 5.0  # seconds after which the other daemon knows: two signs of life, and what is under way
TAGS = 200


def _fill(registry: DockerRegistry, name: str) -> None:
    image = make_image(name, layers=1, size=100)
    push(registry.client, name, "v0", image)
    for tag in range(1, TAGS):
        document = json.loads(image.manifest) | {"annotations": {"tag": str(tag)}}
        store(registry.storage, name, f"v{tag}", json.dumps(document).encode())


def test_a_host_that_asks_one_daemon_to_wait_is_left_alone_by_all(
    tmp_path: Path, postgresql: Postgres, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    names, host = ("a", "b"), registry_proxy.host
    for name in names:
        _fill(registry, name)
    rules: list[Json] = [
        {"name": name, "source": f"{host}/{name}", "target": f"local/{name}", "interval": "1h"} for name in names
    ]
    fleet = Fleet(tmp_path / "fleet", postgresql, rules, {}, slots=1)
    fleet.migrate()
    with ExitStack() as stack:
        stack.callback(fleet.close)
        lines = [stack.enter_context(slow_line(int(host.rpartition(":")[2]), 0.05)) for _ in names]
        for name, line in zip(names, lines, strict=True):
            through = {"plain_http": True, "proxy": line.url, "concurrency": 1}
            fleet.start(name, registries={host: through})
        wait_for(lambda: all(len(line.passed) > 20 for line in lines), "both daemons to read", 60)
        asked = registry_proxy.on(".*", "/v2/a/manifests", Reply(429, {"Retry-After": f"{PAUSE:.0f}"}), times=1)
        wait_for(lambda: asked.hits, "the host to ask for a pause", 30)
        began = time.monotonic()
        time.sleep(PAUSE + 2)
        silent = [one.began for line in lines for one in line.passed if began + KNOWN < one.began < began + PAUSE - 1]
        assert not silent, "requests in a pause that was asked of another"
        assert any(one.began > began + PAUSE - 1 for line in lines for one in line.passed), "then both go on"
        with psycopg.connect(fleet.dsn, autocommit=True) as connection:
            done = "SELECT count(*) FROM ocisync.follow WHERE last_success IS NOT NULL"
            wait_for(lambda: connection.execute(done).fetchone() == (2,), "every unit", 120)
