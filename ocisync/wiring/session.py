"""A session: everything one command, or one generation of the daemon's rules, works with."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from ocisync.config.load import load_config
from ocisync.config.models import Config
from ocisync.config.sections.daemon_settings import Daemon
from ocisync.content.spool.blobs import BlobSpool
from ocisync.errors import DiskError
from ocisync.state.ownership import make_private_folder
from ocisync.stores.registry.options import Share
from ocisync.sync.context import JobContext, Limits, Progress
from ocisync.sync.ledger import Ledger, MemoryLedger
from ocisync.wiring.archives import Archives
from ocisync.wiring.stores import StoreFactory
from ocisync.wiring.trust import Policies
from ocisync.wiring.views import Memory

if TYPE_CHECKING:
    from ocisync.content.compress import Compression


@dataclass(frozen=True, slots=True)
class Session:
    """Open stores, and the tools that jobs share."""

    config: Config
    stores: StoreFactory
    tools: JobContext


@asynccontextmanager
async def open_session(
    config: Config,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
    scratch: Path | None = None,
    compression: Compression | None = None,
    share: Share | None = None,
) -> AsyncIterator[Session]:
    """Open what a configuration names; stores connect on first use and are closed at the end.

    `scratch` is a folder for temporary files that is there; without it, the configuration's is made.
    `compression` is that of layers which come uncompressed; without it, what the drop rules say. `share` is the part of
    the registries' limits that this process may use.
    """
    room = 0 if scratch else config.daemon.spool  # what a single command spools would be gone with it
    if scratch is None:
        scratch = config.temporary_path
        await anyio.to_thread.run_sync(_make_folder, scratch)
    async with AsyncExitStack() as stack:
        progress = progress or Progress()
        ledger = ledger or MemoryLedger()
        archives = Archives(config, scratch, compression)
        stores = StoreFactory(config, archives, stack, progress.held_up, Memory(notes=ledger), share or Share())
        limits = Limits(config.daemon.concurrent_images, config.daemon.concurrent_blobs)
        spools = BlobSpool(scratch / "spool", room, config.daemon.spool_from) if room else None
        open_checker = Policies(config.verify).open_checker
        tools = JobContext(
            stores,
            ledger,
            progress=progress,
            limits=limits,
            spools=spools,
            external=stores.external,
            open_checker=open_checker,
        )
        yield Session(config, stores, tools)
        if spools is not None and spools.entries:
            await spools.close()


@asynccontextmanager
async def optional_session(
    given: Path | Config | None, progress: Progress | None = None, compression: Compression | None = None
) -> AsyncIterator[Session]:
    """A session for a single command: a configuration, or its file, gives credentials and limits where there is one."""
    if isinstance(given, Path):
        config = await anyio.to_thread.run_sync(partial(load_config, given, needs_secrets=False))
    else:
        config = given or Config(version=1, daemon=Daemon.model_construct())  # there is no daemon, and no folder of its
    scratch = await anyio.to_thread.run_sync(partial(tempfile.TemporaryDirectory, prefix="ocisync-"))
    try:
        async with open_session(config, None, progress, Path(scratch.name), compression) as session:
            yield session
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(scratch.cleanup)


def _make_folder(path: Path) -> None:
    try:
        make_private_folder(path)  # what is copied may be private
    except OSError as exc:
        raise DiskError(f"{path}: the folder for temporary files cannot be made: {exc.strerror}") from exc
