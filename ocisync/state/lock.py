"""One daemon per state folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import anyio

from ocisync.content.threads import run_file
from ocisync.errors import ConfigError, DiskError
from ocisync.state.ownership import explain_refusal, make_private, make_private_folder

LOCK_NAME = "daemon.lock"


@contextlib.contextmanager
def hold_daemon_lock(folder: Path) -> Iterator[None]:
    """Hold the state folder for one daemon; the kernel lets go of it however the process ends.

    It touches the disk: inside an event loop use `daemon_lock`.

    Raises:
        ConfigError: `state.locked`: another daemon holds it.
        DiskError: the folder cannot be used.
    """
    with _open_lock(folder / LOCK_NAME) as descriptor:
        _acquire(descriptor, folder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)


@contextlib.contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    try:
        make_private_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        make_private(descriptor, path.parent)
    except OSError as exc:
        raise DiskError(f"{path}: the state folder cannot be used: {explain_refusal(path, exc)}") from exc
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        raise ConfigError(
            f"{folder}: another ocisync daemon (pid {holder}) uses this state folder; stop it, or set daemon.state to "
            "another folder",
            code="state.locked",
            pid=holder,
        ) from exc
    except OSError as exc:
        raise DiskError(f"{folder}: the state folder cannot be locked: {exc.strerror}") from exc


@contextlib.asynccontextmanager
async def daemon_lock(folder: Path) -> AsyncIterator[None]:
    """`hold_daemon_lock` for use inside an event loop."""
    lock = hold_daemon_lock(folder)
    await run_file(lock.__enter__)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await run_file(partial(lock.__exit__, None, None, None))
