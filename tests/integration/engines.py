"""Daemons that share their work through PostgreSQL: what their tests share."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import anyio

from ocisync.daemon.queue import JobQueue
from ocisync.daemon.rule_set import JobRunner
from ocisync.daemon.schedule import AnyJob, Schedule
from ocisync.engine.locks import SessionLocks
from ocisync.engine.migrate import migrate_all
from ocisync.engine.runner import LockedRunner
from ocisync.engine.scheduler import EngineScheduler
from ocisync.engine.status import look
from ocisync.model.locator import TargetLocator, parse_locator
from ocisync.stores.registry.options import Share
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport
from tests.servers.command import Daemon, daemon
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
    upkeep: Json = field(default_factory=dict)  # settings of the target
    bundles: list[Json] = field(default_factory=list)
    slots: int = 3
    dsn: str = ""
    daemons: list[Daemon] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)  # by daemon, so that a new file changes nothing else
    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.dsn = self.postgres.database()
        (self.folder / "dsn").write_text(self.dsn)

    @property
    def target(self) -> Path:
        """The static registry that all write to."""
        return self.folder / "registry"

    def configure(self, name: str, *, registries: Json | None = None, **engine: object) -> Path:
        """Write one daemon's file, with `registries` of its own or those of all; `engine` is added to its section."""
        path = self.folder / f"{name}.yaml"
        settings = {
            "version": 1,
            "registries": registries or self.registries,
            "targets": {"local": {"type": "static", "path": str(self.target), **self.upkeep}},
            "daemon": {
                "listen": f"127.0.0.1:{self.ports.setdefault(name, free_port())}",
                "state": str(self.folder / f"state-{name}"),
                "token": TOKEN,
                "drain": "5s",
            },
            "webhooks": {"builds": {"type": "plain", "secret": TOKEN}},
            "engine": {"type": "postgres", "dsn": {"file": "dsn"}, "slots": self.slots, **engine},
            "sync": self.sync,
            "drop": self.drop,
            "bundle": self.bundles,
        }
        path.write_text(json.dumps(settings))  # JSON is YAML
        return path

    def migrate(self) -> None:
        """Make the tables, as `ocisync engine migrate` does."""
        migrate_all(self.dsn)

    def start(self, name: str, *, registries: Json | None = None, **engine: object) -> Daemon:
        """Start one more daemon; otherwise as `configure`."""
        file = self.configure(name, registries=registries, **engine)
        started = self._stack.enter_context(daemon(file, exit_code=None))
        self.daemons.append(started)
        return started

    def close(self) -> None:
        """End all that still run."""
        self._stack.close()

    def status(self) -> Json:
        """What `ocisync engine status` shows."""
        return asdict(anyio.run(look, self.dsn))


def post(daemon: Daemon, path: str, body: object) -> int:
    """The status of a POST with the token."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = Request(f"{daemon.url}{path}", json.dumps(body).encode(), headers, method="POST")
    try:
        with urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except HTTPError as refused:
        with refused:
            return refused.code


@dataclass(slots=True)
class PretendedRunner(JobRunner):
    """Jobs that take a while and bring nothing; it remembers when each ended."""

    seconds: Callable[[AnyJob], float] = field(default=lambda _: 0.0)
    ended: dict[str, list[float]] = field(default_factory=dict)  # lock name -> times, on the monotonic clock

    async def run(self, job: AnyJob) -> JobReport:
        """Wait."""
        await anyio.sleep(self.seconds(job))
        self.ended.setdefault(job.lock_name, []).append(time.monotonic())
        return job.report(None)


def pretended_rules(count: int, interval: float) -> list[Schedule]:
    """So many rules of one repository each."""
    return [
        Schedule(
            f"r{n}",
            (Job(f"r{n}", parse_locator(f"docker://a.example/app{n}"), TargetLocator("t", f"app{n}")),),
            interval,
        )
        for n in range(count)
    ]


@asynccontextmanager
async def engines(
    dsn: str, rules: Sequence[Schedule], runner: JobRunner, *, count: int, slots: int
) -> AsyncIterator[list[EngineScheduler]]:
    """The engines of so many daemons at work in this process, without anything else of a daemon."""
    async with anyio.create_task_group() as tasks:
        made, queues = [], []
        for _ in range(count):
            locks, queue = SessionLocks(dsn), JobQueue()
            scheduler = EngineScheduler(dsn, locks, slots, (), Share())
            locked = LockedRunner(runner, locks, 5.0)
            scheduler.attach(queue, locked, lambda _: None)
            scheduler.replace(rules)
            tasks.start_soon(locks.serve)
            tasks.start_soon(queue.run, locked, slots)
            tasks.start_soon(scheduler.run)
            made.append(scheduler)
            queues.append(queue)
        yield made
        for queue in queues:
            queue.close()
        tasks.cancel_scope.cancel()
