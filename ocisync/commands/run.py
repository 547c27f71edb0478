"""`ocisync run` and `ocisync serve`: the long-running commands."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import anyio
import structlog

from ocisync.config.load import load_config
from ocisync.config.models import Config
from ocisync.config.units import parse_address
from ocisync.content.object_store import ObjectStore
from ocisync.errors import ConfigError
from ocisync.logs import configure_logging
from ocisync.model.registry_root import DirectoryRoot, parse_root
from ocisync.serve.app import registry_app
from ocisync.serve.server import serve
from ocisync.wiring.daemon import running_daemon
from ocisync.wiring.session import Session, optional_session

log = structlog.get_logger()
LogFormat = Literal["console", "json"]


def load_daemon_config(file: Path, log_level: str | None, log_format: LogFormat | None) -> Config:
    """The daemon's configuration, and logging as it or the arguments say."""
    config = load_config(file)
    configure_logging(log_level or config.daemon.log_level, log_format or config.daemon.log_format)
    return config


async def run_daemon(file: Path, config: Config) -> None:
    """Run until SIGTERM or SIGINT."""
    async with running_daemon(file, config=config) as daemon:
        await daemon.obey_signals()


async def serve_registry(place: str, listen: str) -> None:
    """Serve a static registry until interrupted."""
    try:
        address = parse_address(f"127.0.0.1:{listen}" if listen.isdecimal() else listen)
    except ValueError as exc:
        raise ConfigError(f"--listen {exc}") from exc
    async with optional_session(None) as session:
        store = await _store(session, place)
        async with serve(registry_app(store), address.host, address.port) as url:
            log.info("registry.served", place=place, url=f"{url}/v2/")
            await anyio.sleep_forever()


async def _store(session: Session, place: str) -> ObjectStore:
    """The storage of `DIR`, `static:DIR` or `s3://BUCKET?…`."""
    if place.startswith("s3:"):
        root, _ = parse_root(place)
    else:
        root = DirectoryRoot(place.removeprefix("static:"))
    return (await session.stores.static_registry_at(root)).store
