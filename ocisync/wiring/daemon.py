"""The daemon, assembled: state, rules, pages, metrics, signals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import structlog
from aiohttp import web

from ocisync.config.load import load_config
from ocisync.config.models import Config, PostgresEngine
from ocisync.content.threads import run_file
from ocisync.daemon.config_watch import ConfigWatcher
from ocisync.daemon.generation import Observers
from ocisync.daemon.metrics import MetricNames, Metrics
from ocisync.daemon.pages import daemon_app
from ocisync.daemon.push_dispatcher import PushDispatcher
from ocisync.daemon.rule_set import RuleSet
from ocisync.daemon.service import Service, obey_signals
from ocisync.daemon.status.activity import Activity
from ocisync.daemon.status.failures import MOST, Failures
from ocisync.daemon.status.history import History
from ocisync.daemon.systemd import Notifier
from ocisync.drop.rule import InputReport, InputVerdict
from ocisync.errors import OcisyncError
from ocisync.logs import register_secrets
from ocisync.serve.app import registry_routes
from ocisync.serve.server import ServerLimits, came_by_another_name, serve
from ocisync.state.lock import daemon_lock
from ocisync.state.open import State, open_state
from ocisync.state.rule_records import RuleView
from ocisync.sync.context import Progress
from ocisync.sync.reports import JobReport, RunReport
from ocisync.wiring.daemon_notify import DaemonNotifier
from ocisync.wiring.daemon_view import DaemonView
from ocisync.wiring.engine import Engine, open_engine
from ocisync.wiring.jobs import acceptance_of
from ocisync.wiring.rules import open_rules
from ocisync.wiring.session import open_session
from ocisync.wiring.target_capabilities import log_capabilities

log = structlog.get_logger()

_GRACE = 0.5  # seconds for answers on their way, when all work has drained


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A running daemon."""

    file: Path
    service: Service[Config]
    metrics: Metrics
    notifier: Notifier
    view: DaemonView
    people: DaemonNotifier
    reloads: anyio.Lock = field(default_factory=anyio.Lock)  # by SIGHUP and by the file's change: one after the other

    async def reload(self) -> bool:
        """Read the configuration again; whether it is valid and now used. An invalid one changes nothing."""
        async with self.reloads:
            return await self._reload()

    async def _reload(self) -> bool:
        self.notifier.reloading()
        try:
            config = await anyio.to_thread.run_sync(_load, self.file)
        except OcisyncError as exc:
            kept = "the running configuration"
            log.error("config.refused", file=str(self.file), kept=kept, error=exc.message)  # noqa: TRY400 (says it all)
            self.metrics.observe_reload(ok=False)
            self.notifier.ready("the new configuration is invalid; the old one is kept")
            return False
        self._warn_of_fixed(config)
        self.service.replace(config)
        self.metrics.observe_reload(ok=True)
        log.info("config.reloaded", file=str(self.file))
        return True

    async def obey_signals(self) -> None:
        """SIGTERM and SIGINT stop, SIGHUP reloads; returns when cancelled."""
        await obey_signals(self.service.stop, self.reload)

    def _warn_of_fixed(self, config: Config) -> None:
        """Some settings hold until the process ends."""
        old, new = self.service.config.daemon, config.daemon
        changed = [
            name
            for name in ("listen", "serve", "state", "token", "watch_config")
            if getattr(old, name) != getattr(new, name)
        ]
        if changed:
            log.warning("config.needs_restart", settings=[f"daemon.{name}" for name in changed])


@asynccontextmanager
async def running_daemon(
    file: Path, progress: Progress | None = None, *, config: Config | None = None
) -> AsyncIterator[RunningDaemon]:
    """A daemon at work; it is stopped and drained when the context ends, and ends the context when it stops by itself.

    Raises:
        ConfigError: the configuration is invalid, another daemon holds the state, or the address is taken.
    """
    if config is None:
        config = await anyio.to_thread.run_sync(_load, file)
    watcher = None
    if config.daemon.watch_config:
        watcher = await run_file(partial(ConfigWatcher, file))
        config = await anyio.to_thread.run_sync(_load, file)  # what changed before there was a watcher is in it
    _warn(config)
    async with (
        daemon_lock(config.daemon.state),
        open_state(config.daemon.state, dsn=config.dsn, in_full=True) as state,
        open_engine(config, state) as engine,
    ):
        daemon = _assemble(file, config, state, progress, engine)
        await _load_failures(daemon.view.failures, state)
        async with _pages(config, daemon), anyio.create_task_group() as tasks:
            tasks.start_soon(daemon.notifier.keep_alive)
            keep_running = daemon.service.supervisor.keep_running
            tasks.start_soon(keep_running, "the dispatcher of pushes", daemon.view.dispatcher.serve)
            tasks.start_soon(keep_running, "the record of the last day", daemon.view.history.serve)
            tasks.start_soon(keep_running, "the notifier", daemon.people.serve)
            tasks.start_soon(keep_running, "the look at the targets", partial(log_capabilities, config))
            if watcher is not None:
                serve_watcher = partial(watcher.serve, daemon.reload)
                tasks.start_soon(keep_running, "the watch over the configuration", serve_watcher)
            tasks.start_soon(_run, daemon, state, tasks.cancel_scope)
            await daemon.service.wait_started()
            yield daemon
            await _finish(daemon.service)


def _assemble(
    file: Path, config: Config, state: State, progress: Progress | None, engine: Engine | None
) -> RunningDaemon:
    metrics, notifier = Metrics(), Notifier.from_environment()
    activity, failures = Activity(progress), Failures()

    def list_views() -> Mapping[str, RuleView]:
        return service.generation.scheduler.views() if service.generation else {}

    history = History(state.history, list_views)
    people = DaemonNotifier(state.history, metrics.observe_notification, list_views)

    def observe_job(report: JobReport) -> None:
        for observe in (metrics.observe_job, failures.observe_job, history.observe, people.observe_job):
            observe(report)

    def observe_input(report: InputReport) -> None:
        _count_input(metrics, report)
        failures.observe_input(report)
        people.observe_input(report)

    def observe_run(run: RunReport) -> None:
        failures.observe_run(run)
        people.observe_run(run)

    @asynccontextmanager
    async def open_counted(config: Config) -> AsyncIterator[RuleSet]:
        async with open_rules(config, state, activity, engine.part if engine else None) as rules:
            metrics.declare(_metric_names(config, rules))
            people.use(config)
            yield engine.share(rules, config) if engine else rules

    observers = Observers(observe_job, observe_input, observe_run)
    service = Service(config, state, open_counted, observers, notifier, engine.scheduler if engine else None)
    _watch(metrics, service, engine)
    if engine is not None:
        engine.scheduler.list_running = activity.running
    dispatcher = PushDispatcher(lambda: service.generation)
    view = DaemonView(service, dispatcher, activity, failures, history, engine.triggers(dispatcher) if engine else None)
    return RunningDaemon(file, service, metrics, notifier, view, people)


async def _load_failures(failures: Failures, state: State) -> None:
    """What failed before the start is shown until it goes well."""
    try:
        failures.load(await state.images.failed(MOST))
    except OcisyncError as exc:
        log.warning("images.unreadable", code=exc.code, error=exc.message)


async def _run(daemon: RunningDaemon, state: State, everything: anyio.CancelScope) -> None:
    await daemon.service.run()
    await daemon.view.dispatcher.persist_pending(state.rules)
    log.info("daemon.stopped")
    everything.cancel()


async def _finish(service: Service[Config]) -> None:
    if not service.is_stopping:
        service.stop()
    await anyio.sleep_forever()  # until the service has drained, which cancels this


@asynccontextmanager
async def _pages(config: Config, daemon: RunningDaemon) -> AsyncIterator[None]:
    """Health, metrics, and the served registry."""
    listen = config.daemon.listen
    token = config.daemon.token.get_secret_value() if config.daemon.token else None
    async with open_session(config) as session:
        routes: list[web.RouteDef] = []
        is_worker = isinstance(config.engine, PostgresEngine) and config.engine.role == "worker"
        if config.daemon.serve and not is_worker:
            served = await session.stores.served_registry(config.daemon.serve)
            routes = registry_routes(served.store, page=served.options.page)
        app = daemon_app(
            daemon.view, daemon.metrics, routes, token=token, is_from_front=came_by_another_name, is_worker=is_worker
        )
        async with serve(app, listen.host, listen.port, ServerLimits(grace=_GRACE)) as url:
            log.info("daemon.listening", url=url, serves=config.daemon.serve)
            yield


def _watch(metrics: Metrics, service: Service[Config], engine: Engine | None) -> None:
    def depth() -> float:
        if engine is not None:
            return engine.scheduler.fleet.waiting
        return service.generation.queue.depth if service.generation else 0

    def running() -> float:
        return len(service.generation.queue.running) if service.generation else 0

    metrics.watch_queue(depth, running)


def _metric_names(config: Config, rules: RuleSet) -> MetricNames:
    return MetricNames(
        rules=[schedule.rule for schedule in (*rules.schedules, *rules.maintenance)],
        drops=[rule.name for rule in rules.drops],
        targets=list(config.targets),
        webhooks=list(config.webhooks),
        judged=_list_judged(config),
        channels=list(config.notify),
    )


def _list_judged(config: Config) -> list[str]:
    """The rules that judge images."""
    drops = [rule.name for rule in config.drop if acceptance_of(rule) is not None]
    return [*drops, *(rule.name for rule in config.sync if acceptance_of(rule) is not None)]


def _count_input(metrics: Metrics, report: InputReport) -> None:
    if report.verdict is InputVerdict.FAILED:
        retried = report.failure is not None and report.failure.handling != "quarantine"
        metrics.observe_input(report.rule, "retry" if retried else "failed")
    elif report.verdict is InputVerdict.PUBLISHED:
        metrics.observe_input(report.rule, "done")


def _load(file: Path) -> Config:
    config = load_config(file)
    register_secrets(config.secrets)
    return config


def _warn(config: Config) -> None:
    register_secrets(config.secrets)
    for warning in config.warnings:
        log.warning("config.warned", warning=warning)
