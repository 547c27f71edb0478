"""Several daemons on one PostgreSQL: real processes, a real registry, a real database."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.engines import Fleet, post
from tests.servers.command import Daemon, daemon, run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import Json, docker_archive, make_image, push
from tests.servers.postgres import Postgres
from tests.servers.process import free_port, wait_for

REPOSITORIES = 8


@pytest.fixture
def fleet(tmp_path: Path, postgresql: Postgres, registry: DockerRegistry) -> Iterator[Fleet]:
    """Daemons that mirror eight repositories of `registry`; none runs yet."""
    sync: list[Json] = [
        {
            "name": f"r{number}",
            "source": f"{registry.host}/app{number}",
            "target": f"local/app{number}",
            "interval": "1h",
        }
        for number in range(REPOSITORIES)
    ]
    made = Fleet(tmp_path / "fleet", postgresql, sync, {registry.host: {"plain_http": True}})
    made.migrate()
    try:
        yield made
    finally:
        made.close()


def _push(registry: DockerRegistry, number: int, tag: str) -> None:
    push(registry.client, f"app{number}", tag, make_image(f"{number} {tag}"))


def _has(fleet: Fleet, number: int, tag: str) -> bool:
    return (fleet.target / "v2" / f"app{number}" / "manifests" / tag).exists()


def _wait_idle(fleet: Fleet) -> None:
    def is_idle() -> bool:
        found = fleet.status()
        return not found["running"] and not found["waiting"] and found["later"] != 0

    wait_for(is_idle, "the fleet to be idle", 60)


def test_daemons_share_the_work_and_nothing_is_read_twice(fleet: Fleet, registry: DockerRegistry) -> None:
    for number in range(REPOSITORIES):
        for tag in ("1", "2"):
            _push(registry, number, tag)
    daemons = [fleet.start(name) for name in ("one", "two")]
    wait_for(lambda: all(_has(fleet, n, t) for n in range(REPOSITORIES) for t in ("1", "2")), "all images", 60)
    _wait_idle(fleet)
    reads = Counter(one.path for one in registry.requests() if one.method == "GET" and "/blobs/" in one.path)
    assert set(reads.values()) == {1}
    finished = [set(re.findall(r"job\.finished.*rule=(r\d)", one.log)) for one in daemons]
    assert finished[0] | finished[1] == {f"r{number}" for number in range(REPOSITORIES)}
    assert not finished[0] & finished[1]
    status = run_ocisync("status", "--json", "-c", fleet.configure("status")).expect()
    assert all(rule["last_success"] for rule in json.loads(status.stdout).values())


def test_requests_may_go_to_any_daemon(fleet: Fleet, registry: DockerRegistry) -> None:
    for number in range(2):
        _push(registry, number, "1")
    one, two = fleet.start("one"), fleet.start("two")
    wait_for(lambda: _has(fleet, 0, "1") and _has(fleet, 1, "1"), "the first images", 60)
    _wait_idle(fleet)
    _push(registry, 0, "2")
    assert post(two, "/v1/sync/r0", {}) == 202
    wait_for(lambda: _has(fleet, 0, "2"), "what was asked for at the second daemon", 30)
    _push(registry, 1, "2")
    assert post(one, "/v1/webhooks/builds", {"repository": "app1", "tag": "2"}) == 202
    wait_for(lambda: _has(fleet, 1, "2"), "what was pushed", 30)
    views = json.loads(two.get("/v1/status").body)["rules"]
    assert views["r1"]["last_success"]


def test_repositories_of_a_whole_registry_are_shared_out_and_keep_intervals_of_their_own(
    fleet: Fleet, registry: DockerRegistry
) -> None:
    for number in range(4):
        _push(registry, number, "1")
    rule: Json = {"name": "all", "type": "registry", "source": registry.host, "target": "local/{repository}"}
    fleet.sync = [rule | {"interval": {"min": "1s", "max": "1h"}}]
    daemons = [fleet.start(name) for name in ("one", "two")]
    wait_for(lambda: all(_has(fleet, number, "1") for number in range(4)), "all images", 60)
    with psycopg.connect(fleet.dsn, autocommit=True) as other:
        grown = "SELECT item FROM ocisync.follow WHERE is_found AND present_interval > 1.2"
        wait_for(lambda: len(other.execute(grown).fetchall()) == 4, "the intervals to grow", 60)
        _push(registry, 4, "1")
        wait_for(lambda: _has(fleet, 4, "1"), "a new repository", 60)
        assert len(other.execute(grown).fetchall()) >= 4, "the others were not forgotten"
    rules = json.loads(daemons[0].get("/v1/status").body)["rules"]
    assert rules["all"]["state"] in ("fresh", "running")


def test_a_folder_with_a_label_is_watched_where_the_label_is_and_another_by_one(fleet: Fleet, tmp_path: Path) -> None:
    fleet.sync = []
    site, shared = tmp_path / "site", tmp_path / "shared"
    settings = {"target": "local", "stable": "100ms", "rescan": "1s", "done": "delete"}
    fleet.drop = [
        {"name": "site", "path": str(site), "label": "site-b", **settings},
        {"name": "shared", "path": str(shared), **settings},
    ]
    one, two = fleet.start("one"), fleet.start("two", labels=["site-b"])
    docker_archive(site / "a.tar", {"a:1": make_image("a")})
    docker_archive(shared / "b.tar", {"b:1": make_image("b")})
    for name in "ab":
        wait_for((fleet.target / "v2" / name / "manifests" / "1").exists, f"image {name}", 60)
    wait_for(lambda: "b.tar" in one.log or "b.tar" in two.log, "who took it to be told", 30)
    assert "a.tar" not in one.log
    assert ("b.tar" in one.log) != ("b.tar" in two.log)


def test_a_shared_folder_goes_to_another_with_the_session_and_comes_back(fleet: Fleet, tmp_path: Path) -> None:
    fleet.sync = []
    shared = tmp_path / "shared"
    settings = {"target": "local", "stable": "100ms", "rescan": "1s", "done": "delete"}
    fleet.drop = [{"name": "shared", "path": str(shared), **settings}]
    one = fleet.start("one")
    docker_archive(shared / "a.tar", {"a:1": make_image("a")})
    wait_for((fleet.target / "v2" / "a" / "manifests" / "1").exists, "the first image", 60)
    with psycopg.connect(fleet.dsn, autocommit=True) as other:
        name = "drop folder of shared"
        other.execute(
            "SELECT pg_terminate_backend(pid), pg_advisory_lock(hashtextextended(%s, 0)) FROM pg_locks"
            " WHERE locktype = 'advisory' AND pid <> pg_backend_pid() LIMIT 1",
            (name,),
        )
        wait_for(lambda: "engine.folder_lost" in one.log, "the folder to be lost", 30)
        docker_archive(shared / "b.tar", {"b:1": make_image("b")})
    wait_for((fleet.target / "v2" / "b" / "manifests" / "1").exists, "the image after that", 60)


def test_once_waits_for_a_daemon_that_works_on_its_target(fleet: Fleet, registry: DockerRegistry) -> None:
    _push(registry, 0, "1")
    with psycopg.connect(fleet.dsn, autocommit=True) as other:
        lock = "SELECT pg_advisory_lock(hashtextextended('local/app0', 0))"
        other.execute(lock)
        command = [sys.executable, "-m", "ocisync", "once", "-c", str(fleet.configure("once")), "r0"]
        once = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        waiting = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE query LIKE '%pg_try_advisory_lock%' AND pid <> pg_backend_pid()"
        )
        wait_for(lambda: other.execute(waiting).fetchone() != (0,), "`once` to try the lock", 30)
        assert once.poll() is None
        assert not _has(fleet, 0, "1")
    assert once.wait(30) == 0
    assert _has(fleet, 0, "1")


def test_once_distributed_has_the_daemons_do_it_and_waits_for_them(fleet: Fleet, registry: DockerRegistry) -> None:
    refused = run_ocisync("once", "--distributed", "-c", fleet.configure("once")).expect(2)
    assert "no daemon shares the work" in refused.stderr
    fleet.start("one"), fleet.start("two")
    _wait_idle(fleet)  # all rules failed, for there is nothing at the source
    for number in range(REPOSITORIES - 1):
        _push(registry, number, "1")
    done = run_ocisync("once", "--distributed", "--json", "-c", fleet.configure("once"), timeout=120).expect(1)
    assert all(_has(fleet, number, "1") for number in range(REPOSITORIES - 1))
    report = json.loads(done.stdout)
    assert {job["rule"] for job in report["jobs"]} == {f"r{number}" for number in range(REPOSITORIES - 1)}
    assert {tag["verdict"] for job in report["jobs"] for tag in job["tags"]} == {"copied"}
    [(what, failure)] = report["failures"].items()
    assert what.startswith(f"r{REPOSITORIES - 1}: docker://")
    assert failure["code"]
    run_ocisync("once", "--distributed", "r0", "-c", fleet.configure("once")).expect()
    refused = run_ocisync("once", "--distributed", "--recheck", "-c", fleet.configure("once")).expect(2)
    assert "leave out" in refused.stderr


def _failures(one: Daemon) -> set[str]:
    """The rules whose failures a daemon's status tells of."""
    return {failure["rule"] for failure in json.loads(one.get("/v1/status").body)["failures"]}


def test_pages_tell_of_all_daemons(fleet: Fleet, registry: DockerRegistry) -> None:
    fleet.slots = 1
    _push(registry, 0, "1")
    one, two = fleet.start("one"), fleet.start("two")
    wait_for(lambda: _has(fleet, 0, "1"), "the first image", 60)
    _wait_idle(fleet)
    failed = {f"r{number}" for number in range(1, REPOSITORIES)}
    for each in (one, two):  # the last result may be on its way from the daemon that had it
        wait_for(lambda each=each: _failures(each) == failed, "the failures of both daemons", 10)  # type: ignore[misc]
    with psycopg.connect(fleet.dsn, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('local/app0', 0))")  # so that it runs for a while
        assert post(one, "/v1/sync/r0", {}) == 202
        for each in (one, two):
            shown = wait_for(lambda: json.loads(each.get("/v1/status").body)["rules"]["r0"]["running"], "r0", 20)  # noqa: B023
            assert shown
    waited = run_ocisync("sync-now", "r0", "--wait", "-c", fleet.folder / "two.yaml", timeout=60)
    waited.expect()


def test_an_edited_rule_is_due_at_once_and_others_are_not(fleet: Fleet, registry: DockerRegistry) -> None:
    fleet.sync = fleet.sync[:2]
    for number in range(2):
        _push(registry, number, "1")
    daemons = [fleet.start(name) for name in ("one", "two")]
    wait_for(lambda: _has(fleet, 0, "1") and _has(fleet, 1, "1"), "the first images", 60)
    _wait_idle(fleet)
    before = len([one for one in registry.requests() if "/app1/" in one.path])
    fleet.sync[0]["target"] = "local/moved"
    for name, each in zip(("one", "two"), daemons, strict=True):
        fleet.configure(name)
        each.child.process.send_signal(signal.SIGHUP)
    moved = fleet.target / "v2" / "moved" / "manifests" / "1"
    wait_for(moved.exists, "the edited rule", 30)
    _wait_idle(fleet)
    assert len([one for one in registry.requests() if "/app1/" in one.path]) == before


def test_a_daemon_that_is_killed_gives_its_work_to_another(fleet: Fleet, registry: DockerRegistry) -> None:
    _push(registry, 0, "1")
    fleet.sync = fleet.sync[:1]
    with psycopg.connect(fleet.dsn, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('local/app0', 0))")  # so that the first cannot finish
        one = fleet.start("one")
        wait_for(lambda: fleet.status()["running"], "the first to begin", 30)
        one.child.process.send_signal(signal.SIGKILL)
    fleet.start("two")
    wait_for(lambda: _has(fleet, 0, "1"), "the second to take over", 60)


def test_a_worker_shows_health_and_metrics_only(fleet: Fleet) -> None:
    worker = fleet.start("worker", role="worker")
    assert [worker.get(path).status for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
    assert [worker.get(path).status for path in ("/", "/v1/status", "/v2/")] == [404, 404, 404]


def test_a_daemon_alone_imports_neither_driver_nor_queue(tmp_path: Path, registry: DockerRegistry) -> None:
    _push(registry, 0, "1")
    config = tmp_path / "local.yaml"
    settings = {
        "version": 1,
        "registries": {registry.host: {"plain_http": True}},
        "targets": {"local": {"type": "static", "path": str(tmp_path / "registry")}},
        "daemon": {"listen": f"127.0.0.1:{free_port()}", "state": str(tmp_path / "state")},
        "sync": [{"name": "app", "source": f"{registry.host}/app0", "target": "local/app0"}],
    }
    config.write_text(json.dumps(settings))
    with daemon(config, env={"PYTHONPROFILEIMPORTTIME": "1"}) as alone:
        wait_for((tmp_path / "registry/v2/app0/manifests/1").exists, "the image", 60)
        assert alone.get("/v1/status").status == 200
        imported = set(re.findall(r"^import time:.*\| +([\w.]+)$", alone.log, re.MULTILINE))
    once = run_ocisync("once", "-c", config, env={"PYTHONPROFILEIMPORTTIME": "1"}).expect()
    imported |= set(re.findall(r"^import time:.*\| +([\w.]+)$", once.stderr, re.MULTILINE))
    assert "ocisync.state.database" in imported
    assert not {name for name in imported if name.partition(".")[0] in ("psycopg", "psycopg_pool", "procrastinate")}
    assert not {name for name in imported if name.startswith("ocisync.engine")}


def test_what_the_engine_needs_is_said(fleet: Fleet, tmp_path: Path) -> None:
    local = tmp_path / "local.yaml"
    local.write_text("version: 1\ndaemon: {listen: '127.0.0.1:0'}\n")
    refused = run_ocisync("engine", "status", "-c", local).expect(2)
    assert "docs/scaling.md" in refused.stderr
    (fleet.folder / "dsn").write_text(fleet.postgres.database())
    refused = run_ocisync("run", "-c", fleet.configure("one")).expect(2)
    assert "ocisync engine migrate" in refused.stderr
    assert (
        "the tables are now of version"
        in run_ocisync("engine", "migrate", "-c", fleet.configure("one")).expect().stdout
    )
    assert "up to date" in run_ocisync("engine", "migrate", "-c", fleet.configure("one")).expect().stdout
    shown = run_ocisync("engine", "status", "-c", fleet.configure("one")).expect(1)
    assert "no daemon shares the work now" in shown.stdout
    (fleet.folder / "dsn").write_text("postgresql://ocisync:hidden-password@127.0.0.1:1/x")
    refused = run_ocisync("engine", "migrate", "-c", fleet.configure("one"))
    assert refused.code
    assert "hidden-password" not in refused.stdout + refused.stderr
