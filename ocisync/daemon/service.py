"""The daemon's life: start, signals, reloads, drain, end."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, Protocol, TypeVar

import anyio
import structlog

from ocisync.daemon.generation import Generation, Observers
from ocisync.daemon.rule_set import RuleSet
from ocisync.daemon.scheduler import RuleScheduler, Scheduler
from ocisync.daemon.supervision import Supervisor
from ocisync.daemon.systemd import Notifier
from ocisync.state.open import State

log = structlog.get_logger()


class DaemonSettings(Protocol):
    """The part of a configuration that is about the process."""

    @property
    def drain(self) -> float:
        """Seconds that running jobs get to end."""
        ...


class Settings(Protocol):
    """What a service asks of a configuration."""

    @property
    def daemon(self) -> DaemonSettings:
        """How the process runs."""
        ...


Config = TypeVar("Config", bound=Settings)


class Service(Generic[Config]):
    """Runs generation after generation of rules until it is told to stop."""

    def __init__(
        self,
        config: Config,
        state: State,
        open_rules: Callable[[Config], AbstractAsyncContextManager[RuleSet]],
        observers: Observers,
        notifier: Notifier,
        scheduler: RuleScheduler | None = None,
    ) -> None:
        """`scheduler`: not given: one for this process alone."""
        self.config = config
        self.generation: Generation | None = None
        self.is_stopping = False
        self._state = state
        self._open_rules = open_rules
        self._observers = observers
        self._notifier = notifier
        self.supervisor = Supervisor()
        self._scheduler: RuleScheduler = scheduler or Scheduler(state.rules)
        self._started = anyio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether rules are at work."""
        return self.generation is not None and not self.is_stopping

    async def wait_started(self) -> None:
        """Wait until the first rules are at work."""
        await self._started.wait()

    async def run(self) -> None:
        """Work until `stop` and the drain after it."""
        while not self.is_stopping:
            config = self.config
            async with self._open_rules(config) as rules:
                self.generation = Generation(rules, self._state, self._observers, self.supervisor, self._scheduler)
                self._announce(rules)
                if config is self.config and not self.is_stopping:
                    await self.generation.run()
        self.generation = None

    def stop(self) -> None:
        """Drain and end; a second call ends at once."""
        drain = 0.0 if self.is_stopping else self.config.daemon.drain
        log.info("daemon.stopping", drain_seconds=drain)
        self._notifier.stopping()
        self.is_stopping = True
        self._drain(drain)

    def replace(self, config: Config) -> None:
        """Go on with another configuration once what runs has ended."""
        self.config = config
        self._drain(config.daemon.drain)

    def _drain(self, seconds: float) -> None:
        if self.generation is not None:
            self.generation.stop(seconds)

    def _announce(self, rules: RuleSet) -> None:
        log.info("daemon.started", drops=len(rules.drops), syncs=len(rules.schedules))
        self._notifier.ready(f"{len(rules.drops)} drop folders, {len(rules.schedules)} sync rules")
        self._started.set()


async def obey_signals(stop: Callable[[], None], reload: Callable[[], Awaitable[object]]) -> None:
    """SIGTERM and SIGINT stop the daemon, SIGHUP reloads its configuration; until cancelled."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP:
                await reload()
            else:
                stop()
