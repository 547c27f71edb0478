"""Why an input failed, whether time may cure it, and when it is tried again."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import structlog

from ocisync.content.backoff import Backoff
from ocisync.content.threads import run_file
from ocisync.drop.completeness import is_open_for_writing, looks_incomplete
from ocisync.drop.fingerprint import check_unchanged
from ocisync.drop.inputs import MAX_WAIT, Input
from ocisync.drop.rule import TimeSource
from ocisync.errors import ArchiveError, DigestMismatch, Handling, InputChanged, NotFound, SizeMismatch, find_ours
from ocisync.sync.reports import Failure, describe_failure

log = structlog.get_logger()

INTERNAL = "internal"  # the code of a defect of ocisync
UNFINISHED = "it may not be complete yet: it stays, and is tried again"
REST_TIME = 600.0  # seconds after its last change in which a file that looks cut off may still be completed
FIRST_WAIT = 5.0  # seconds before an error that can pass is tried again, doubled each time
LONGEST_RETRY = 600.0  # seconds
_PARTS_MISSING = {ArchiveError.code, NotFound.code, SizeMismatch.code, DigestMismatch.code}


async def find_failure(error: Exception, dropped: Input, clock: TimeSource) -> tuple[Failure, bool]:
    """What an input failed of, and whether that may only be because it is not complete yet.

    A fault of files that changed meanwhile is no fault of what lies there now.
    """
    failure = describe_error(error, dropped)
    if failure.handling == Handling.QUARANTINE.value:
        try:
            await run_file(partial(check_unchanged, dropped))
            if await run_file(partial(_may_lack_its_end, dropped, failure.code, clock.wall())):
                told = f"{failure.message} ({UNFINISHED})"
                return replace(failure, message=told, handling=Handling.RETRY.value), True
        except InputChanged as exc:
            return describe_failure(exc), False
    return failure, False


def describe_error(exc: Exception, dropped: Input) -> Failure:
    """An error as a report tells it; a defect of ocisync is logged with its traceback."""
    known = find_ours(exc, dropped.key)
    if known is not None:
        return describe_failure(known)
    log.error("drop.crashed", input=dropped.key, exc_info=exc)
    return Failure(INTERNAL, f"{type(exc).__name__}: {exc}", Handling.FAIL.value)


def back_off(failure: Failure, failures: int, rescan: float, chance: float) -> float:
    """Seconds until the next attempt: full jitter, at least one second."""
    can_pass = failure.handling == Handling.RETRY.value
    first, longest = (FIRST_WAIT, LONGEST_RETRY) if can_pass else (rescan, MAX_WAIT)
    return Backoff(first, longest, shortest=1.0).wait(failures, chance)


def _may_lack_its_end(dropped: Input, code: str, now: float) -> bool:
    """Whether time may cure it: it is being written to, or was lately and looks like a part of what it is to be.

    A folder comes file by file, and nothing tells its last: what it lacks may still come.
    """
    if dropped.refusal is not None:
        return False
    entries = [member.entry for member in dropped.members]
    files = [entry for entry in entries if not entry.is_folder]
    try:
        if any(map(is_open_for_writing, files)):
            return True
        if now - max(entry.changed for entry in entries) >= REST_TIME:
            return False
        has_folders = len(files) < len(entries)
        return (has_folders and code in _PARTS_MISSING) or any(map(looks_incomplete, files))
    except OSError:
        return False  # it is gone, which is found out where that matters
