"""`ocisync run` and `ocisync serve`: the long-running commands."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import anyio
import structlog

from ocisync.config.load import load_config
from ocisync.config.models import Config
from ocisync.config.parsers import parse_address
from ocisync.content.concurrency import aclosing_if_possible
from ocisync.content.object_store import ObjectStore
from ocisync.errors import ConfigError, NotFound
from ocisync.logs import configure_logging
from ocisync.model.registry_root import DirectoryRoot, parse_root
from ocisync.serve.app import registry_app
from ocisync.serve.server import serve
from ocisync.stores.static import layout
from ocisync.stores.static.registry import StaticRegistry
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


async def serve_registry(place: str, listen: str, config: Path | None) -> None:
    """Serve a static registry until interrupted.

    Raises:
        ConfigError: the address cannot be listened on.
        NotFound: there is no registry.
    """
    try:
        address = parse_address(f"127.0.0.1:{listen}" if listen.isdecimal() else listen)
    except ValueError as exc:
        raise ConfigError(f"--listen {exc}") from exc
    async with optional_session(config) as session:
        registry = await session.stores.for_serving(await _open_registry(session, place))
        app = registry_app(registry.store, page=registry.options.page)
        async with serve(app, address.host, address.port) as url:
            log.info("registry.served", place=place, url=f"{url}/v2/")
            await anyio.sleep_forever()


async def _open_registry(session: Session, place: str) -> StaticRegistry:
    """The registry in `DIR`, `static:DIR` or `s3://BUCKET?…`, or of a configured target."""
    if place.startswith("s3:"):
        root, _ = parse_root(place)
        registry = await session.stores.static_registry_at(root)
    elif place in session.config.targets and not await anyio.Path(place).is_dir():
        registry = await session.stores.static_registry(place)
    else:
        registry = await session.stores.static_registry_at(DirectoryRoot(place.removeprefix("static:")))
    is_there = place.startswith("s3:") or place in session.config.targets
    is_there = is_there or await anyio.Path(place.removeprefix("static:")).exists()
    if is_there and await _is_registry(registry.store):
        return registry
    raise NotFound(
        f"{place}: there is no registry: nothing is below v2/. Name the folder or bucket that holds `v2`, or publish "
        "an image there first, such as by `ocisync copy IMAGE static:DIR//NAME:TAG`"
    )


async def _is_registry(store: ObjectStore) -> bool:
    """Whether a registry's objects lie there, or nothing at all does: a registry that is still empty."""
    if await store.head(layout.ROOT) is not None:
        return True
    return await _has_any(store, "v2/") or not await _has_any(store, "")


async def _has_any(store: ObjectStore, prefix: str) -> bool:
    listing = store.list(prefix)
    async with aclosing_if_possible(listing):
        async for one in listing:
            if not one.key.startswith(layout.PRIVATE):
                return True
    return False
