"""Many daemons on one PostgreSQL, at length: how much faster they are, and what they survive."""

from __future__ import annotations

import hashlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.engines import Fleet, post
from tests.servers.command import Daemon
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.fault_proxy import fault_proxy
from tests.servers.faults import Delay
from tests.servers.images import Json, make_image, push
from tests.servers.postgres import Postgres, postgres
from tests.servers.process import wait_for

pytestmark = pytest.mark.prove
DELAY = 0.02  # seconds that each request to the source takes longer


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A cluster of its own, for it is stopped."""
    with postgres() as running:
        yield running


def _rules(host: str, count: int, interval: str) -> list[Json]:
    return [
        {"name": f"r{n}", "source": f"{host}/app{n}", "target": f"local/app{n}", "interval": interval}
        for n in range(count)
    ]


def _fill(registry: DockerRegistry, repositories: int, tags: int) -> None:
    def fill(number: int) -> None:
        for tag in range(tags):
            push(registry.client, f"app{number}", f"v{tag}", make_image(f"{number} {tag}", layers=1, size=500))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(repositories)))


def _count_tags(fleet: Fleet) -> int:
    return sum(1 for _ in fleet.target.glob("v2/*/manifests/v*"))


@pytest.mark.parametrize(("repositories", "tags"), [(400, 20)])
def test_four_daemons_are_three_times_as_fast_as_one_and_read_nothing_twice(
    tmp_path: Path, own_postgres: Postgres, registry: DockerRegistry, repositories: int, tags: int
) -> None:
    _fill(registry, repositories, tags)
    seconds: dict[int, float] = {}
    with fault_proxy(registry.url) as proxy:
        proxy.on(".*", "", Delay(DELAY))
        for daemons in (1, 4):
            rules = _rules(proxy.host, repositories, "1h")
            fleet = Fleet(tmp_path / str(daemons), own_postgres, rules, {proxy.host: {"plain_http": True}}, slots=2)
            fleet.migrate()
            before = len(registry.requests())
            began = time.monotonic()
            for number in range(daemons):
                fleet.start(f"d{number}")
            wait_for(lambda: _count_tags(fleet) == repositories * tags, "every tag", 3600)  # noqa: B023
            seconds[daemons] = time.monotonic() - began
            fleet.close()
            reads = Counter(
                one.path for one in registry.requests()[before:] if one.method == "GET" and "/blobs/" in one.path
            )
            assert set(reads.values()) == {1}
    print(f"one daemon {seconds[1]:.1f} s, four {seconds[4]:.1f} s")  # noqa: T201 (the proof's figure)
    assert seconds[1] / seconds[4] >= 3


@contextmanager
def _pulling(fleet: Fleet) -> Iterator[list[str]]:
    """A reader of what is published, all the time; what was broken."""
    broken: list[str] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            for manifest in fleet.target.glob("v2/*/manifests/v*"):
                with suppress(FileNotFoundError):
                    text = manifest.read_text()
                    for part in text.split('"sha256:')[1:]:
                        blob = manifest.parents[1] / "blobs" / f"sha256:{part[:64]}"
                        if not blob.exists():
                            broken.append(f"{manifest}: {blob.name}")
            ended.wait(0.5)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield broken
    finally:
        ended.set()
        reader.join()


@pytest.mark.parametrize(("kills", "restarts", "pushes"), [(50, 10, 5000)])
def test_kills_restarts_and_pauses_lose_nothing_and_break_nothing(
    tmp_path: Path, own_postgres: Postgres, registry: DockerRegistry, kills: int, restarts: int, pushes: int
) -> None:
    chance = random.Random(21)
    repositories, tags = 40, 3
    _fill(registry, repositories, tags)
    rules = _rules(registry.host, repositories, "5s")
    fleet = Fleet(tmp_path / "fleet", own_postgres, rules, {registry.host: {"plain_http": True}}, slots=3)
    fleet.migrate()
    daemons = [fleet.start(f"d{number}") for number in range(4)]
    paused: Daemon | None = daemons[0]
    events = ["kill"] * kills + ["restart"] * restarts
    chance.shuffle(events)
    with _pulling(fleet) as broken, ThreadPoolExecutor(2) as pool:
        told = pool.submit(_push_at_random, daemons, registry, repositories, pushes, random.Random(22))
        wait_for(lambda: _count_tags(fleet) > repositories, "work under way", 120)
        assert paused is not None
        paused.child.process.send_signal(signal.SIGSTOP)
        pool.submit(_resume_later, paused, 60.0)
        for number, event in enumerate(events):
            if event == "kill":
                _replace(fleet, daemons, 1 + chance.randrange(3), f"k{number}")
            else:
                own_postgres.stop()
                threading.Event().wait(chance.uniform(2, 60))
                own_postgres.start()
        newest = told.result()
        began = time.monotonic()
        wait_for(lambda: _is_current(fleet, newest), "every tag to be right", 120)
        print(f"all right {time.monotonic() - began:.0f} s after the last event; {len(newest)} tags pushed")  # noqa: T201
        wait_for(lambda: not fleet.status()["running"], "nothing to be stuck", 90)
    fleet.close()
    assert broken == []


def _replace(fleet: Fleet, daemons: list[Daemon], which: int, name: str) -> None:
    daemons[which].child.kill()
    daemons[which] = fleet.start(name)


def _resume_later(paused: Daemon, seconds: float) -> None:
    threading.Event().wait(seconds)
    paused.child.process.send_signal(signal.SIGCONT)


def _push_at_random(
    daemons: list[Daemon], registry: DockerRegistry, repositories: int, count: int, chance: random.Random
) -> dict[tuple[int, str], str]:
    """Tags that move, each told to a daemon; what each repository's tag is at the end."""
    newest: dict[tuple[int, str], str] = {}
    for turn in range(count):
        number, tag = chance.randrange(repositories), f"v{chance.randrange(3)}"
        if turn % 10 == 0:  # most notifications tell of what is known
            newest[number, tag] = push(registry.client, f"app{number}", tag, make_image(f"{turn}", layers=1, size=300))
        with suppress(OSError):
            told = daemons[chance.randrange(len(daemons))]
            post(told, "/v1/webhooks/builds", {"repository": f"app{number}", "tag": tag})
    return newest


def _is_current(fleet: Fleet, newest: dict[tuple[int, str], str]) -> bool:
    for (number, tag), digest in newest.items():
        path = fleet.target / "v2" / f"app{number}" / "manifests" / tag
        if not path.exists() or f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" != digest:
            return False
    return True


def test_a_limit_of_requests_holds_over_all_daemons(tmp_path: Path, own_postgres: Postgres) -> None:
    with docker_registry(tmp_path / "source") as registry, fault_proxy(registry.url) as proxy:
        _fill(registry, 20, 20)
        limit = {"plain_http": True, "requests_per_second": 20}
        fleet = Fleet(tmp_path / "fleet", own_postgres, _rules(proxy.host, 20, "1h"), {proxy.host: limit}, slots=2)
        fleet.migrate()
        began = time.monotonic()
        for number in range(4):
            fleet.start(f"d{number}")
        wait_for(lambda: _count_tags(fleet) == 400, "every tag", 300)
        seconds = time.monotonic() - began
        fleet.close()
        rate = len(proxy.requests) / seconds
    print(f"{rate:.1f} requests a second")  # noqa: T201 (the proof's figure)
    assert rate <= 22
