"""A session: everything one command, or one generation of the daemon's rules, works with."""

from __future__ import annotations

import functools
import gc
import resource
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio

from ocisync.config.load import load_config
from ocisync.config.models import Config
from ocisync.content.compress import Compression
from ocisync.content.spool.blobs import BlobSpool
from ocisync.errors import DiskError, OcisyncError
from ocisync.sync.context import JobContext, Limits, Progress
from ocisync.sync.ledger import Ledger, MemoryLedger
from ocisync.wiring.archives import Archives
from ocisync.wiring.stores import StoreFactory
from ocisync.wiring.views import Memory

_T = TypeVar("_T")
_GARBAGE = 5000  # new objects between two looks; the default, 700, costs a busy event loop dearly
_FILES = 16_384  # open files that are enough for any configuration


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
) -> AsyncIterator[Session]:
    """Open what a configuration names; stores connect on first use and are closed at the end.

    `compression` is that of layers which come uncompressed; without it, what the drop rules say.
    """
    room = 0 if scratch else config.daemon.spool  # what a single command spools would be gone with it
    scratch = scratch or config.daemon.temporary_path
    await anyio.to_thread.run_sync(_make_folder, scratch)
    async with AsyncExitStack() as stack:
        progress = progress or Progress()
        ledger = ledger or MemoryLedger()
        archives = Archives(config, scratch, compression)
        stores = StoreFactory(config, archives, stack, progress.held_up, Memory(notes=ledger))
        limits = Limits(config.daemon.concurrent_images, config.daemon.concurrent_blobs)
        spools = BlobSpool(scratch / "spool", room, config.daemon.spool_from) if room else None
        tools = JobContext(stores, ledger, progress=progress, limits=limits, spools=spools, external=stores.external)
        yield Session(config, stores, tools)
        if spools is not None:
            await spools.close()


@asynccontextmanager
async def optional_session(
    file: Path | None, progress: Progress | None = None, compression: Compression | None = None
) -> AsyncIterator[Session]:
    """A session for a single command: the configuration gives credentials and limits where there is one."""
    config = load_config(file) if file else Config(version=1)
    with tempfile.TemporaryDirectory(prefix="ocisync-") as scratch:
        async with open_session(config, None, progress, Path(scratch), compression) as session:
            yield session


def run_async(main: Callable[..., Awaitable[_T]], *arguments: object) -> _T:
    """Run to the end on asyncio, with uvloop where the platform has it.

    Raises:
        OcisyncError: the first of a group of errors, when all of them are ours.
    """
    fast = sys.platform != "win32"
    _collect_less_often()
    _raise_file_limit()
    try:
        return anyio.run(functools.partial(main, *arguments), backend_options={"use_uvloop": fast})
    except BaseExceptionGroup as group:
        ours, others = group.split(OcisyncError)
        if ours is None or others is not None:
            raise
        raise _first_of(ours) from group


def _raise_file_limit() -> None:
    """Many connections and files are open at a time; the soft limit is often lower than need be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, _FILES) if hard != resource.RLIM_INFINITY else _FILES
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _collect_less_often() -> None:
    """What is imported by now stays, and need not be looked at again and again."""
    gc.freeze()
    gc.set_threshold(_GARBAGE, 20, 20)
    gc.enable()


def _first_of(error: BaseException) -> BaseException:
    """The first error inside groups of groups."""
    return _first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DiskError(f"{path}: the folder for temporary files cannot be made: {exc.strerror}") from exc
