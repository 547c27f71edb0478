"""Daemons that share their work through PostgreSQL: what their tests share."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

from tests.servers.command import Daemon, daemon, run_ocisync
from tests.servers.images import Json
from tests.servers.postgres import Postgres
from tests.servers.process import free_port

TOKEN = "a-token-of-the-tests-0123456789"


@dataclass(slots=True)
class Fleet:
    """Several daemons with one configuration, each with a folder and an address of its own."""

    folder: Path
    postgres: Postgres
    sync: list[Json]
    registries: Json
    drop: list[Json] = field(default_factory=list)
    slots: int = 3
    dsn: str = ""
    daemons: list[Daemon] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.dsn = self.postgres.database()
        (self.folder / "dsn").write_text(self.dsn)

    @property
    def target(self) -> Path:
        """The static registry that all write to."""
        return self.folder / "registry"

    def configure(self, name: str, **engine: object) -> Path:
        """Write one daemon's file; `engine` is added to its section."""
        path = self.folder / f"{name}.yaml"
        settings = {
            "version": 1,
            "registries": self.registries,
            "targets": {"local": {"type": "static", "path": str(self.target)}},
            "daemon": {
                "listen": f"127.0.0.1:{free_port()}",
                "state": str(self.folder / f"state-{name}"),
                "token": TOKEN,
                "drain": "5s",
            },
            "webhooks": {"builds": {"type": "plain", "secret": TOKEN}},
            "engine": {"type": "postgres", "dsn": {"file": "dsn"}, "slots": self.slots, **engine},
            "sync": self.sync,
            "drop": self.drop,
        }
        path.write_text(json.dumps(settings))  # JSON is YAML
        return path

    def migrate(self) -> None:
        """Make the tables."""
        run_ocisync("engine", "migrate", "-c", self.configure("migrate")).expect()

    def start(self, name: str, **engine: object) -> Daemon:
        """Start one more daemon."""
        started = self._stack.enter_context(daemon(self.configure(name, **engine), exit_code=None))
        self.daemons.append(started)
        return started

    def close(self) -> None:
        """End all that still run."""
        self._stack.close()

    def status(self) -> Json:
        """What `ocisync engine status --json` says."""
        done = run_ocisync("engine", "status", "--json", "-c", self.configure("status")).expect()
        found: Json = json.loads(done.stdout)
        return found


def post(daemon: Daemon, path: str, body: object) -> int:
    """The status of a POST with the token."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = Request(f"{daemon.url}{path}", json.dumps(body).encode(), headers, method="POST")
    with urlopen(request, timeout=20) as answer:
        return int(answer.status)
