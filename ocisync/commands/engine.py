"""`engine migrate`, `engine status` and `state move`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocisync.config.models import Config
from ocisync.errors import ConfigError

if TYPE_CHECKING:
    from ocisync.engine.status import EngineNow


def migrate_engine(config: Config) -> tuple[int, int]:
    """Bring the tables to the present version; the version before and after.

    Raises:
        ConfigError: the configuration has no PostgreSQL, or the tables are newer.
        StoreError: it cannot be reached.
    """
    from ocisync.engine.migrate import migrate_all

    return migrate_all(_need_dsn(config))


async def look_at_engine(config: Config) -> EngineNow:
    """What the daemons do now; raises as `migrate_engine` does."""
    from ocisync.engine.status import look

    return await look(_need_dsn(config))


def _need_dsn(config: Config) -> str:
    if not config.dsn:
        raise ConfigError(
            "the configuration has no engine of type postgres: one daemon works alone, and there is nothing to show. "
            "docs/scaling.md says how several share the work",
            code="engine.local",
        )
    return config.dsn
