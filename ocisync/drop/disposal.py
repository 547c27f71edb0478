"""What becomes of a dropped input's files once it is published or refused, and how long the moved ones are kept.

Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ocisync.drop.inputs import Input
from ocisync.drop.moves import delete, move, reserve, write_whole
from ocisync.drop.naming import stem_of
from ocisync.drop.rule import DropRule
from ocisync.errors import DiskError
from ocisync.sync.reports import Failure

REASON = ".reason.txt"


def clear_done(dropped: Input, rule: DropRule) -> str:
    """Keep, move or delete the files of a published input, as the rule wants it; returns which.

    Raises:
        InputChanged: a file is another one now; it is left alone.
        DiskError: it cannot be done.
    """
    if rule.done == "keep":
        return "kept"
    try:
        for member in dropped.members:
            if rule.done == "delete":
                delete(member.entry)
            else:
                move(member.entry, reserve(member.entry, rule.done_path))
    except OSError as exc:
        raise _as_disk_error(rule.done_path if rule.done == "move" else rule.path, exc) from exc
    return "deleted" if rule.done == "delete" else "moved"


def quarantine(dropped: Input, rule: DropRule, failure: Failure, now: float) -> str:
    """Move a refused input's files to the failed folder, each its reason beside it; raises as `clear_done` does."""
    text = _render_reason(dropped, rule, failure, now)
    try:
        for member in dropped.members:
            path = reserve(member.entry, rule.failed_path)
            write_whole(_reason_path(path), text)
            move(member.entry, path)
    except OSError as exc:
        raise _as_disk_error(rule.failed_path, exc) from exc
    return "quarantined"


def remove_old(folder: Path, keep: float | None, now: float) -> list[str]:
    """Delete what was moved into a folder more than `keep` seconds ago, reasons included; returns the paths.

    Only archives and reasons are looked at, in case the folder holds other things.

    Raises:
        DiskError: something cannot be deleted.
    """
    if keep is None or not folder.is_dir():
        return []
    removed = []
    try:
        for path in list(_list_moved(folder)):
            if now - os.lstat(path).st_ctime > keep:
                removed.append(str(path))
                _remove(path, folder)
    except OSError as exc:
        raise _as_disk_error(folder, exc) from exc
    return removed


def _reason_path(path: Path) -> Path:
    return path.with_name(path.name + REASON)


def _render_reason(dropped: Input, rule: DropRule, failure: Failure, now: float) -> str:
    time = datetime.fromtimestamp(now, tz=UTC).isoformat(timespec="seconds")
    files = "\n".join(f"          {member.entry.relative}" for member in dropped.members)
    return (
        f"time:     {time}\nrule:     {rule.name}\ncode:     {failure.code}\nmessage:  {failure.message}\n"
        f"files:\n{files}\n"
        f"what now: mend the cause and put a good archive at the same path below {rule.path}; to try these very files\n"
        "          again, move them back there. Files in this folder are not looked at.\n"
    )


def _list_moved(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        if "oci-layout" in files:
            folders.clear()
            yield Path(parent)
            continue
        yield from (Path(parent, name) for name in files if _is_ours(Path(parent, name)))


def _is_ours(path: Path) -> bool:
    if path.name.endswith(REASON):
        return not os.path.lexists(path.with_name(path.name.removesuffix(REASON)))
    base, _, number = path.name.rpartition(".")
    return stem_of(base if number.isdigit() else path.name) is not None


def _remove(path: Path, folder: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    _reason_path(path).unlink(missing_ok=True)
    for parent in path.parents:
        if parent == folder or any(parent.iterdir()):
            return
        parent.rmdir()


def _as_disk_error(folder: Path, exc: OSError) -> DiskError:
    return DiskError(f"{exc.filename or folder}: {exc.strerror or exc}; look at the permissions and space of {folder}")
