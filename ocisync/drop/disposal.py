"""What becomes of a dropped input's files once it is published or refused, and how long the moved ones are kept.

Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ocisync.content.files import open_folder_beneath
from ocisync.content.own_folders import open_own_folder, write_whole
from ocisync.drop.inputs import Input
from ocisync.drop.moves import (
    delete,
    exists,
    fit_name,
    list_names,
    move,
    open_child,
    read_small_file,
    remove,
    reserve,
)
from ocisync.drop.naming import is_image_folder, stem_of
from ocisync.drop.rule import DropRule
from ocisync.drop.scan import FolderEntry
from ocisync.errors import DiskError
from ocisync.logs import clean
from ocisync.sync.reports import Failure

REASON = ".reason.txt"


def clear_done(dropped: Input, rule: DropRule, *, published: bool = True) -> str:
    """Keep, move or delete the files of a published input, as the rule wants it; returns which.

    What was not published, because newer files have its names, is kept.

    Raises:
        InputChanged: a file is another one now; it is left alone.
        DiskError: it cannot be done.
    """
    if rule.done == "keep" or not published:
        return "kept"
    try:
        for member in dropped.members:
            if rule.done == "delete":
                delete(member.entry)
            else:
                with _open_beside(rule, rule.done_path, member.entry) as folder:
                    move(member.entry, folder, reserve(member.entry, folder))
    except OSError as exc:
        raise _as_disk_error(rule.done_path if rule.done == "move" else rule.path, exc, dropped) from exc
    return "deleted" if rule.done == "delete" else "moved"


def quarantine(dropped: Input, rule: DropRule, failure: Failure, now: float) -> str:
    """Move a refused input's files to the failed folder, each its reason beside it; raises as `clear_done` does."""
    text = _render_reason(dropped, rule, failure, now)
    try:
        for member in dropped.members:
            with _open_beside(rule, rule.failed_path, member.entry) as folder:
                name = reserve(member.entry, folder)
                write_whole(folder, fit_name(name, REASON), text + _render_found(member.entry))
                move(member.entry, folder, name)
    except OSError as exc:
        raise _as_disk_error(rule.failed_path, exc, dropped) from exc
    return "quarantined"


def take_back_grown(rule: DropRule, now: float) -> list[str]:
    """Move refused files that were written to since back to where they were dropped; returns where.

    Whoever writes to a file goes on doing so wherever it is moved. It waits until it has been left alone for a while,
    as in the drop folder. What cannot be moved stays.
    """
    moved: list[str] = []
    with suppress(OSError), open_own_folder(rule.path, rule.failed_path, make=False) as root:
        for _, _, names, folder in os.fwalk(".", dir_fd=root, follow_symlinks=False):
            for name in names:
                reason = fit_name(name, REASON)
                if reason in names and (back := _find_grown(folder, name, reason, rule.stable, now)):
                    with suppress(OSError):
                        _move_back(rule.path, folder, name, back)
                        remove(folder, reason)
                        moved.append(back)
    return moved


def _find_grown(folder: int, name: str, reason: str, stable: float, now: float) -> str:
    """Where a file came from that is another than its reason says, and is left alone by now; else empty."""
    found = _stat(folder, name)
    if not stat.S_ISREG(found.st_mode) or 0 <= now - found.st_mtime < stable:
        return ""
    match = _FOUND.search(read_small_file(folder, reason))
    if match is None or (int(match["size"]), int(match["mtime"])) == (found.st_size, found.st_mtime_ns):
        return ""
    return match["path"]


def _move_back(root: Path, folder: int, name: str, back: str) -> None:
    *folders, wanted = back.split("/")
    with open_folder_beneath(root, folders, make=True) as parent:
        if not exists(parent, wanted):
            os.rename(name, wanted, src_dir_fd=folder, dst_dir_fd=parent)


def _render_found(entry: FolderEntry) -> str:
    return f"as found: {entry.relative}: {entry.stamp.size} bytes, written {entry.stamp.mtime_ns}\n"


_FOUND = re.compile(r"^as found: (?P<path>[^\n]+): (?P<size>[0-9]+) bytes, written (?P<mtime>-?[0-9]+)$", re.MULTILINE)


def remove_old(rule: DropRule, folder: Path, keep: float | None, now: float) -> list[str]:
    """Delete what was moved into a folder more than `keep` seconds ago, reasons included; returns the paths.

    Only archives and reasons are looked at, in case the folder holds other things.

    Raises:
        DiskError: something cannot be deleted.
    """
    if keep is None:
        return []
    removed: list[str] = []
    try:
        with open_own_folder(rule.path, folder, make=False) as root:
            for path, folders, _, parent in os.fwalk(".", dir_fd=root, follow_symlinks=False):
                moved = _list_moved(parent)
                folders[:] = [name for name in folders if name not in moved]  # a layout is one thing
                names = [name for name in moved if now - _stat(parent, name).st_ctime > keep]
                for name in names:
                    remove(parent, name)
                    removed.append(str(folder / path / name))
                    if exists(parent, fit_name(name, REASON)):
                        remove(parent, fit_name(name, REASON))
            if removed:
                _remove_empty_folders(root)
    except FileNotFoundError:
        return removed
    except OSError as exc:
        raise _as_disk_error(folder, exc) from exc
    return removed


def _open_beside(rule: DropRule, folder: Path, entry: FolderEntry) -> AbstractContextManager[int]:
    """The folder below the done or failed folder that stands for the one in which an entry lies."""
    return open_own_folder(rule.path, folder, entry.relative.rpartition("/")[0])


def _render_reason(dropped: Input, rule: DropRule, failure: Failure, now: float) -> str:
    time = datetime.fromtimestamp(now, tz=UTC).isoformat(timespec="seconds")
    files = "\n".join(f"          {clean(member.entry.relative)}" for member in dropped.members)
    message = clean(failure.message).replace("\n", "\\n").replace("\t", "\\t")  # it may quote what the dropper wrote
    return (
        f"time:     {time}\nrule:     {rule.name}\ncode:     {failure.code}\nmessage:  {message}\n"
        f"files:\n{files}\n"
        f"what now: fix the cause and put a good archive at the same path below {rule.path}; to try the same files\n"
        "          again, move them back there. Files in this folder are not read.\n"
    )


def _list_moved(folder: int) -> list[str]:
    """The names in an open folder that we gave: archives, layouts, and reasons whose archive is gone."""
    names = list_names(folder)
    return [name for name in names if _is_ours(folder, name, names)]


def _is_ours(folder: int, name: str, names: Collection[str]) -> bool:
    if stat.S_ISDIR(_stat(folder, name).st_mode):
        return _is_layout(folder, name)
    if name.endswith(REASON):
        return not any(fit_name(other, REASON) == name for other in names)
    base, _, number = name.rpartition(".")
    return stem_of(base if number.isdigit() else name) is not None


def _is_layout(folder: int, name: str) -> bool:
    with open_child(folder, name) as child:
        return is_image_folder(list_names(child))


def _remove_empty_folders(root: int) -> None:
    for path, _, _, parent in os.fwalk(".", dir_fd=root, topdown=False, follow_symlinks=False):
        if path != "." and not list_names(parent):
            with suppress(OSError):  # somebody has just put something there
                os.rmdir(path, dir_fd=root)


def _stat(folder: int, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _as_disk_error(folder: Path, exc: OSError, dropped: Input | None = None) -> DiskError:
    """`dropped`: what should have left its own folder, which must be writable for it as well."""
    own = Path(dropped.members[0].entry.path).parent if dropped and dropped.members else folder
    also = f", and of {own}, which holds the file" if own != folder else ""
    told = f"{exc.filename or folder}: {exc.strerror or exc}; look at the permissions and space of {folder}{also}"
    return DiskError(told)
