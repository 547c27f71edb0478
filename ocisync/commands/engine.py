"""`engine migrate`, `engine status` and `state move`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ocisync.config.models import Config
from ocisync.errors import ConfigError
from ocisync.state.database import FILE_NAME
from ocisync.state.move import Moved, copy_state
from ocisync.state.open import is_dsn, open_database

if TYPE_CHECKING:
    from ocisync.engine.status import EngineNow


def migrate_engine(config: Config) -> tuple[int, int]:
    """Bring the tables to the present version; the version before and after.

    Raises:
        ConfigError: the configuration has no PostgreSQL, or the tables are newer.
        StoreError: it cannot be reached.
    """
    from ocisync.engine.migrate import migrate_all

    return migrate_all(require_dsn(config))


async def look_at_engine(config: Config) -> EngineNow:
    """What the daemons do now; raises as `migrate_engine` does."""
    from ocisync.engine.status import look

    return await look(require_dsn(config))


async def move_state(config: Config, source: str, target: str) -> Moved:
    """Copy what one state remembers into another; empty: the folder, and the PostgreSQL, of the configuration.

    Raises:
        ConfigError: both are the same, or the configuration has no PostgreSQL.
        StoreError, DiskError: one of them cannot be used.
    """
    source = source or str(config.daemon.state)
    target = target or require_dsn(config)
    if source == target:
        raise ConfigError("source and destination are the same; name another place with --to", code="state.same")
    if not is_dsn(source) and not (Path(source) / FILE_NAME).exists():
        raise ConfigError(f"{source}: there is no state to move; name its folder with --from", code="state.none")
    async with open_database(source, read_only=True) as old, open_database(target) as new:
        return await copy_state(old, new)


def require_dsn(config: Config) -> str:
    """The connection string; an error where one daemon works alone."""
    if not config.dsn:
        raise ConfigError(
            "the configuration has no engine of type postgres: one daemon works alone, and there is nothing to show. "
            "docs/scaling.md says how several share the work",
            code="engine.local",
        )
    return config.dsn
