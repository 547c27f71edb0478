"""A folder into which bundles are put: each is applied once it is whole, in the order of their numbers.

Whoever may put files there need not be trusted: links are not followed, and a bundle that is damaged, or not signed
where that is wanted, is set aside with its reason. One that only lacks something waits: the rest of it, or the bundle
before it, may still come.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import structlog

from ocisync.bundles.apply_bundle import Applied, ApplyOptions, apply_bundle
from ocisync.bundles.bundle_files import (
    BundleFiles,
    OpenedInventory,
    group_files,
    is_file,
    list_missing,
    read_inventory,
)
from ocisync.bundles.inventory import INVENTORY, SIGNATURE, SUMS, bundle_of
from ocisync.bundles.receipt import check_not_older, make_receipt, was_applied, write_receipt
from ocisync.bundles.volume_layout import VolumeMap
from ocisync.content.files import READ, FileGuard, open_folder_beneath
from ocisync.content.own_folders import open_own_folder, write_whole
from ocisync.content.threads import run_file
from ocisync.errors import DiskError, Handling, OcisyncError, SignatureError, machine_error
from ocisync.logs import clean
from ocisync.stores.archive.atomic_file import StagedFile
from ocisync.sync.context import JobContext

log = structlog.get_logger()

_REST_TIME = 600.0  # seconds after its last change in which the rest of a bundle may still come
_WAITS = frozenset({"bundle.missing", "bundle.incomplete"})


@dataclass(frozen=True, slots=True)
class Inbox:
    """A folder, and what becomes of bundles in it."""

    folder: Path
    receipts: Path
    scratch: Path
    done: Literal["keep", "move", "delete"]
    done_folder: Path
    failed_folder: Path
    stable: float  # seconds without a change before a bundle is looked at


@dataclass(slots=True)
class Emptied:
    """What one look at an inbox did."""

    applied: list[Applied] = field(default_factory=list)
    failed: dict[str, OcisyncError] = field(default_factory=dict)  # bundle -> why
    waiting: dict[str, str] = field(default_factory=dict)  # bundle -> for what


async def empty_inbox(inbox: Inbox, context: JobContext, options: ApplyOptions) -> Emptied:
    """Apply the bundles that are whole. One that waits or fails for a while holds back those after it.

    Raises:
        DiskError: the folder cannot be read, or files cannot be moved.
    """
    found = Emptied()
    for files in await run_file(partial(_list_bundles, inbox)):
        try:
            quiet = await run_file(partial(_quiet_time, files))
            if quiet < inbox.stable:
                found.waiting[files.id] = "it is still being written"
                break
            wanted = [INVENTORY, *([SIGNATURE] if options.check is not None and quiet < _REST_TIME else [])]
            if missing := [files.id + end for end in wanted if files.id + end not in files.paths]:
                found.waiting[files.id] = f"{' and '.join(missing)} is not there"
                break
            opened = await run_file(partial(read_inventory, files, options.check))
            if await run_file(partial(was_applied, inbox.receipts, opened)):
                await run_file(partial(_clear, inbox, files))
                continue
            missing = await run_file(partial(_list_unfinished, files, opened))
            may_come = quiet < _REST_TIME or any(name not in files.paths for name in missing)
            if missing and may_come:
                found.waiting[files.id] = f"{', '.join(missing[:5])} is not there, or not whole"
                break
            await run_file(partial(check_not_older, inbox.receipts, opened.inventory))
            applied = await apply_bundle(files, context, inbox.scratch, options)
            found.applied.append(applied)
            if not applied.ok:
                break
            await run_file(partial(write_receipt, inbox.receipts, make_receipt(applied), inbox.folder))
            await run_file(partial(_clear, inbox, files))
        except OcisyncError as exc:
            found.failed[files.id] = exc
            # Trouble of the target, of the machine or of the configuration is no fault of the bundle's: it stays.
            is_its_own = exc.handling is Handling.QUARANTINE or isinstance(exc, SignatureError)
            if not is_its_own or exc.code in _WAITS:
                break
            log.warning("bundle.set_aside", bundle=files.id, code=exc.code, error=exc.message)
            await run_file(partial(_set_aside, inbox, files, exc))
    return found


def _list_bundles(inbox: Inbox) -> list[BundleFiles]:
    try:
        names = sorted(os.listdir(inbox.folder))  # noqa: PTH208
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise DiskError(f"{inbox.folder}: cannot be read: {exc.strerror}", errno=exc.errno) from exc
    guard = FileGuard(inbox.folder)
    return group_files((path for name in names if is_file(path := inbox.folder / name, guard)), guard)


def _quiet_time(files: BundleFiles) -> float:
    """Seconds since anything of a bundle changed; 0 when a file of it goes away just now."""
    guard = files.guard
    try:
        found = [guard.stat(path) if guard else path.stat() for path in files.paths.values()]
    except FileNotFoundError:
        return 0.0
    except OSError as exc:
        raise machine_error(exc, files.id, "its files cannot be looked at") from exc
    return time.time() - max(max(one.st_mtime, one.st_ctime) for one in found)


def _list_unfinished(files: BundleFiles, opened: OpenedInventory) -> list[str]:
    """Volumes that are missing, or smaller than they will be."""
    volumes = VolumeMap(opened.inventory)
    missing = list_missing(files, opened.inventory)
    for number, name in enumerate(opened.inventory.file_names, 1):
        if name not in missing:
            file = files.open(name)
            file.close()
            if file.size < volumes.whole_size(number, opened.size):
                missing.append(name)
    return missing


def _clear(inbox: Inbox, files: BundleFiles) -> None:
    """Keep, move or delete the files of a bundle that was applied."""
    names = [*files.paths, *_list_last_sums(inbox, files)]
    if inbox.done == "delete":
        try:
            with open_folder_beneath(inbox.folder, []) as folder:
                for name in names:
                    os.unlink(name, dir_fd=folder)
        except OSError as exc:
            raise DiskError(f"{inbox.folder}: files cannot be deleted: {exc.strerror}", errno=exc.errno) from exc
    elif inbox.done == "move":
        _move(inbox.folder, inbox.done_folder, names)


def _list_last_sums(inbox: Inbox, files: BundleFiles) -> list[str]:
    """SHA256SUMS, where no other bundle is left whose sums it may hold."""
    names = os.listdir(inbox.folder)  # noqa: PTH208
    others = [name for name in names if bundle_of(name) is not None and name not in files.paths]
    return [SUMS] if SUMS in names and not others else []


def _set_aside(inbox: Inbox, files: BundleFiles, error: OcisyncError) -> None:
    """Move a bundle that cannot be used, with the reason beside it."""
    _move(inbox.folder, inbox.failed_folder, list(files.paths))
    try:
        with open_own_folder(inbox.folder, inbox.failed_folder) as folder:
            write_whole(folder, f"{files.id}.reason.txt", f"{clean(error.message)} [{error.code}]\n")
    except OSError as exc:
        raise DiskError(f"{inbox.failed_folder}: no reason can be put there: {exc.strerror}", errno=exc.errno) from exc


def _move(source: Path, target: Path, names: Sequence[str]) -> None:
    try:
        with open_folder_beneath(source, []) as from_folder, open_own_folder(source, target) as to_folder:
            for name in names:
                try:
                    os.rename(name, name, src_dir_fd=from_folder, dst_dir_fd=to_folder)
                except OSError as exc:
                    if exc.errno != errno.EXDEV:
                        raise
                    _copy(from_folder, target / name, to_folder)
                    os.unlink(name, dir_fd=from_folder)
    except OSError as exc:
        raise DiskError(f"{target}: files of {source} cannot be moved there: {exc.strerror}", errno=exc.errno) from exc


def _copy(source: int, target: Path, folder: int) -> None:
    """Copy a file of an open folder to another file system, where it appears whole."""
    descriptor = os.open(target.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        staged = StagedFile(target, folder)
        try:
            while data := os.read(descriptor, READ):
                staged.write(data)
            staged.commit()
        finally:
            staged.close()
    finally:
        os.close(descriptor)
