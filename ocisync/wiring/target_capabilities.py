"""What the storage of targets can do, tried out."""

from __future__ import annotations

import structlog

from ocisync.config.models import Config, S3Target
from ocisync.errors import OcisyncError
from ocisync.wiring.session import open_session

log = structlog.get_logger()


async def target_capabilities(config: Config) -> dict[str, dict[str, str]]:
    """What the storage of each static target can do, by target; `error` says why it cannot be used."""
    found: dict[str, dict[str, str]] = {}
    async with open_session(config) as session:
        for name, settings in config.targets.items():
            try:
                found[name] = await session.stores.capabilities(settings)
            except OcisyncError as exc:
                found[name] = {"error": exc.message}
    return found


async def log_capabilities(config: Config) -> None:
    """Say in the log what the storage of each bucket can do; one that cannot be reached is its rules' to tell."""
    buckets = {name: settings for name, settings in config.targets.items() if isinstance(settings, S3Target)}
    async with open_session(config) as session:
        for name, settings in buckets.items():
            try:
                log.info("target.tried", target=name, found=await session.stores.capabilities(settings))
            except OcisyncError as exc:
                log.warning("target.untried", target=name, code=exc.code, error=exc.message)
