"""What several daemons do once and not once each: upkeep and bundles; and what one that ends leaves to the others."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.integration.engines import Fleet, post
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.hub import hub
from tests.servers.images import Json, make_image, push
from tests.servers.postgres import Postgres, postgres
from tests.servers.process import wait_for


@pytest.fixture
def fleet(tmp_path: Path, postgresql: Postgres, registry: DockerRegistry) -> Iterator[Fleet]:
    """Daemons with one rule; none runs yet."""
    rule: Json = {"name": "app", "source": f"{registry.host}/app", "target": "local/app", "interval": "1h"}
    made = Fleet(tmp_path / "fleet", postgresql, [rule], {registry.host: {"plain_http": True}})
    made.migrate()
    try:
        yield made
    finally:
        made.close()


def _wait_done(fleet: Fleet, rules: int) -> None:
    with psycopg.connect(fleet.dsn, autocommit=True) as connection:
        query = "SELECT count(*) FROM ocisync.follow WHERE last_success IS NOT NULL"
        wait_for(lambda: connection.execute(query).fetchone() == (rules,), "every unit", 60)


def test_upkeep_runs_once_and_not_once_for_each_daemon(fleet: Fleet, registry: DockerRegistry) -> None:
    push(registry.client, "app", "1", make_image("app"))
    fleet.upkeep = {"gc": "1h", "reconcile": "1h", "keep": {"newest": 3, "every": "1h"}}
    daemons = [fleet.start(name) for name in ("one", "two")]
    _wait_done(fleet, 4)
    for task in ("gc", "reconcile", "keep"):
        ran = [
            line
            for each in daemons
            for line in each.log.splitlines()
            if re.search(rf"job.finished.*{task} local", line)
        ]
        assert len(ran) == 1, task
    rules = json.loads(daemons[0].get("/v1/status").body)["rules"]
    assert {"gc local", "reconcile local", "keep local"} < set(rules)
    assert all(rule["last_success"] for rule in rules.values())


def test_what_a_daemon_that_ends_cannot_finish_is_done_by_another(fleet: Fleet, registry: DockerRegistry) -> None:
    push(registry.client, "app", "1", make_image("app"))
    with psycopg.connect(fleet.dsn, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('local/app', 0))")
        one = fleet.start("one")
        wait_for(lambda: fleet.status()["running"], "it to begin", 30)
        one.child.process.send_signal(signal.SIGTERM)
        assert one.child.process.wait(30) == 0
        [(worker, is_due)] = other.execute(
            "SELECT worker, due_at <= now() + interval '6 s' FROM ocisync.follow"
        ).fetchall()
        assert worker == ""
        assert is_due
        assert fleet.status()["workers"] == []
    fleet.start("two")
    wait_for((fleet.target / "v2" / "app" / "manifests" / "1").exists, "the other to do it", 30)


def test_what_cannot_be_put_on_record_is_refused_so_that_it_is_sent_again(tmp_path: Path) -> None:
    with postgres() as own:
        rule: Json = {"name": "app", "source": "127.0.0.1:1/app", "target": "local/app", "interval": "1h"}
        fleet = Fleet(tmp_path / "fleet", own, [rule], {"127.0.0.1:1": {"plain_http": True}})
        fleet.migrate()
        try:
            one = fleet.start("one")
            own.stop()
            for path, body in (("/v1/webhooks/builds", {"repository": "app", "tag": "1"}), ("/v1/sync/app", {})):
                assert post(one, path, body) == 503
            assert one.get("/v1/status").status == 200
            assert "Traceback" not in one.log
            own.start()
            pushed = {"repository": "app", "tag": "1"}
            wait_for(lambda: post(one, "/v1/webhooks/builds", pushed) == 202, "it to be taken", 60)
        finally:
            fleet.close()


def test_bundles_go_on_where_another_daemon_ended(fleet: Fleet, registry: DockerRegistry, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    fleet.bundles = [{"name": "mirror", "rules": ["app"], "outbox": str(outbox), "interval": "1s"}]
    for number, name in enumerate(("one", "two"), start=1):
        push(registry.client, "app", f"v{number}", make_image(f"app {number}"))
        daemon = fleet.start(name)
        found = outbox / f"mirror-{number:04d}.bundle.json"
        wait_for(found.exists, f"bundle {number}", 60)
        base = json.loads(found.read_text())["base"]
        assert (base and base["id"]) == (None if number == 1 else "mirror-0001")
        daemon.child.process.send_signal(signal.SIGTERM)
        assert daemon.child.process.wait(30) == 0


def test_an_inbox_with_a_label_is_emptied_where_the_label_is(fleet: Fleet, tmp_path: Path) -> None:
    fleet.sync, inbox = [], tmp_path / "inbox"
    inbox.mkdir()
    settings: Json = {
        "name": "in",
        "path": str(inbox),
        "target": "local",
        "rescan": "1s",
        "bundles": {"receipts": str(tmp_path / "back")},
    }
    fleet.drop = [settings | {"label": "site-b"}]
    fleet.start("one")
    two = fleet.start("two", labels=["site-b"])
    _wait_done(fleet, 1)
    with psycopg.connect(fleet.dsn, autocommit=True) as connection:
        row = connection.execute("SELECT queue_name FROM ocisync.procrastinate_jobs LIMIT 1").fetchone()
        assert row in (None, ("label site-b",))
    two.child.process.send_signal(signal.SIGTERM)
    assert two.child.process.wait(30) == 0
    wait_for(lambda: "for a daemon with the label site-b" in json.dumps(fleet.status()["waiting"]), "the inbox", 30)


def test_a_host_that_rests_keeps_no_slot_from_others(fleet: Fleet, registry: DockerRegistry) -> None:
    for number in range(6):
        push(registry.client, f"hub{number}", "1", make_image(f"hub {number}"))
    with hub(registry.url) as front, ExitStack() as stack:
        front.limit, front.looks = 1, 1_000_000  # it does not renew
        fleet.sync += [
            {"name": f"h{n}", "source": f"{front.host}/hub{n}", "target": f"local/hub{n}", "interval": "1h"}
            for n in range(6)
        ]
        fleet.registries[front.host] = {"plain_http": True, "rate_limit": {"retry": "1h"}}
        fleet.slots = 2
        fleet.start("one")
        other = stack.enter_context(psycopg.connect(fleet.dsn, autocommit=True))

        def rests() -> bool:
            return "which is to be left alone" in json.dumps(fleet.status()["waiting"])

        wait_for(rests, "the host to rest", 60)
        push(registry.client, "app", "1", make_image("app"))
        done = run_ocisync("sync-now", "app", "--wait", "-c", fleet.folder / "one.yaml", timeout=60)
        done.expect()
        assert (fleet.target / "v2" / "app" / "manifests" / "1").exists()
        [(begun,)] = other.execute("SELECT count(*) FROM ocisync.follow WHERE started_at IS NOT NULL").fetchall()
        assert begun <= 4, "those that were handed out before it was known, and no more"
        assert front.pulls == 1
