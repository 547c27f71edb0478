"""The parts of a daemon that shares its work with others; a daemon that works alone has none of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
import structlog

from ocisync.config.models import Config, PostgresEngine
from ocisync.daemon.rule_set import RuleSet
from ocisync.state.open import State
from ocisync.stores.registry.options import Share

if TYPE_CHECKING:  # imported where they are opened: the drivers are no part of a daemon that works alone
    from ocisync.daemon.push_dispatcher import PushDispatcher
    from ocisync.engine.locks import SessionLocks
    from ocisync.engine.scheduler import EngineScheduler
    from ocisync.engine.triggers import EngineTriggers

log = structlog.get_logger()

_PATIENCE = 5.0  # seconds for which a job waits for another daemon that writes to its target


@dataclass(frozen=True, slots=True)
class Engine:
    """How this daemon shares."""

    scheduler: EngineScheduler
    locks: SessionLocks
    slots: int
    part: Share  # of the limits of registries
    state: State

    def share(self, rules: RuleSet, config: Config) -> RuleSet:
        """The rules, their jobs one at a time on a target over all daemons, and the drop folders that are ours."""
        from ocisync.engine.runner import LockedRunner

        labels = config.engine.labels if isinstance(config.engine, PostgresEngine) else ()
        label_of = {rule.name: rule.label for rule in config.drop}
        return replace(
            rules,
            runner=LockedRunner(rules.runner, self.locks, _PATIENCE),
            drops=tuple(rule for rule in rules.drops if label_of.get(rule.name) in (None, *labels)),
            workers=self.slots,
            lease=FolderLease(self.locks, frozenset(name for name, label in label_of.items() if label is None)),
        )

    def guard(self, rules: RuleSet) -> RuleSet:
        """The rules for one pass beside daemons: a job waits while one of them works on its target."""
        from ocisync.engine.runner import LockedRunner

        return replace(rules, runner=LockedRunner(rules.runner, self.locks))

    def triggers(self, pushes: PushDispatcher) -> EngineTriggers:
        """Where pushes and requests go."""
        from ocisync.engine.triggers import EngineTriggers

        return EngineTriggers(self.scheduler, pushes, self.state.images)


@dataclass(frozen=True, slots=True)
class FolderLease:
    """A folder that several daemons could watch is ours while the session with PostgreSQL lasts."""

    locks: SessionLocks
    shared: frozenset[str]  # the rules whose folders every daemon has

    async def __call__(self, rule: str, watch: Callable[[], Awaitable[None]]) -> None:
        """Watch a folder when nobody else does; when it went to another, wait once more."""
        from ocisync.engine.locks import LockLost

        while rule in self.shared:
            try:
                async with self.locks.hold(f"drop folder of {rule}"):
                    await watch()
                    return
            except LockLost:
                log.warning("engine.folder_lost", rule=rule)
        await watch()


@asynccontextmanager
async def open_engine(config: Config, state: State) -> AsyncIterator[Engine | None]:
    """What the configuration asks for; None: this daemon works alone.

    Raises:
        ConfigError: the extra is not installed.
    """
    if not isinstance(config.engine, PostgresEngine):
        yield None
        return
    from ocisync.engine.locks import SessionLocks
    from ocisync.engine.scheduler import EngineScheduler

    settings = config.engine
    locks = SessionLocks(config.dsn)
    part = Share()
    scheduler = EngineScheduler(config.dsn, locks, settings.slots, settings.labels, part)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(locks.serve)
        yield Engine(scheduler, locks, settings.slots, part, state)
        tasks.cancel_scope.cancel()
