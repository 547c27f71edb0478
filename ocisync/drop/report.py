"""What lies in a drop folder and is not published, with the reason: for `ocisync status`, /v1/status and the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ocisync.content.threads import run_file
from ocisync.drop.disposal import REASON
from ocisync.drop.inputs import is_as_recorded
from ocisync.drop.poll import FolderPoller, PollResult
from ocisync.drop.rule import DropRule
from ocisync.errors import OcisyncError
from ocisync.state.input_records import InputRecord, InputRecords, InputState
from ocisync.state.rule_records import RuleStatus

MOST = 1000  # inputs of one folder that are listed
_REASON_SIZE = 65_536  # bytes of a file that tells a reason

WAITING = "waiting"  # a set lacks a file, a file is not stable yet, or its turn has not come
BUSY = "publishing"
RETRY = "retry"  # it failed, and is tried again
FAILED = "failed"  # it was set aside; or its set waits for more, and a file of it is bad
SKIPPED = "skipped"  # it is no archive by its name, or cannot be read
UNREADABLE = "unreadable"  # the folder itself
MISSING = "drop.missing"  # the code of a folder that is not there
_ORDER = {UNREADABLE: 0, FAILED: 1, RETRY: 2, BUSY: 3, WAITING: 4, SKIPPED: 5}


@dataclass(frozen=True, slots=True)
class DroppedInput:
    """An input of a drop folder that is not published, and why."""

    key: str
    state: str
    reason: str
    code: str = ""
    due: float | None = None  # seconds since the epoch: not tried again before
    at: float | None = None  # seconds since the epoch: when it failed


@dataclass(frozen=True, slots=True)
class FolderReport:
    """A drop rule: how it fares, and what is not published."""

    status: RuleStatus
    inputs: tuple[DroppedInput, ...]
    left_out: int = 0  # inputs beyond `MOST`, which are not listed

    def count(self, *states: str) -> int:
        """How many of the listed inputs are in one of these states."""
        return sum(one.state in states for one in self.inputs)


async def look_at_folder(rule: DropRule, records: InputRecords, poller: FolderPoller) -> FolderReport:
    """Look at the folder now, and report; nothing is changed."""
    known = await records.of_rule(rule.name)
    try:
        look = await poller.plan()
    except OcisyncError as exc:
        broken = DroppedInput(str(rule.path), UNREADABLE, exc.message, exc.code)
        return await report_folder(rule, known, None, others=[broken])
    return await report_folder(
        rule, known, look, poller.skipped, others=missing_folder(rule) if poller.is_missing else ()
    )


def missing_folder(rule: DropRule) -> list[DroppedInput]:
    """What is told of a folder that is not there: nothing can be dropped into it."""
    reason = "the folder is not there. Create it, mount it, or correct `path`; it is looked for again by itself"
    return [DroppedInput(str(rule.path), UNREADABLE, reason, MISSING)]


async def report_folder(
    rule: DropRule,
    known: Mapping[str, InputRecord],
    look: PollResult | None,
    skipped: Mapping[str, str] | None = None,
    busy: Iterable[str] = (),
    others: Iterable[DroppedInput] = (),
) -> FolderReport:
    """Join what is on record, what a look found, and what the files in the folder of failed ones tell."""
    found = {one.key: one for one in others}
    found |= {one.key: _from_record(one) for one in known.values() if one.state is not InputState.DONE}
    for one in await run_file(partial(_read_failed, rule.failed_path)):
        found.setdefault(one.key, one)
    for key in busy:
        found[key] = replace(found.get(key, DroppedInput(key, BUSY, "")), state=BUSY)
    for dropped in (*look.ready, *(one for one, _ in look.waiting)) if look else ():
        record = known.get(dropped.key)
        if record and record.state is InputState.DONE and record.due and is_as_recorded(dropped, record):
            stays = f"it was published, but its file stays: {record.message}"
            found.setdefault(dropped.key, replace(_from_record(record), reason=stays))
    for dropped, later in look.waiting if look else ():
        found.setdefault(dropped.key, DroppedInput(dropped.key, WAITING, later.reason))
    for dropped in look.ready if look else ():
        found.setdefault(dropped.key, DroppedInput(dropped.key, WAITING, "new or changed"))
    for path, reason in (skipped or {}).items():
        found.setdefault(path, DroppedInput(path, SKIPPED, reason))
    ordered = sorted(found.values(), key=lambda one: (_ORDER.get(one.state, 9), one.key))
    return FolderReport(summarise(known.values(), found.values()), tuple(ordered[:MOST]), max(0, len(ordered) - MOST))


def summarise(records: Iterable[InputRecord], inputs: Iterable[DroppedInput]) -> RuleStatus:
    """A drop rule's inputs, told as a rule's status: what was published last, and what is refused or tried again."""
    done = [record for record in records if record.state is InputState.DONE]
    failed = sorted((one for one in inputs if one.state in (FAILED, RETRY)), key=lambda one: one.at or 0.0)
    last = failed[-1] if failed else None
    return RuleStatus(
        last_success=max((record.at for record in done), default=None),
        last_failure=last.at if last else None,
        code=last.code if last else "",
        message=f"{last.key}: {without_name(last.key, last.reason)}" if last else "",
        failures=len(failed),
        next_due=min((one.due for one in failed if one.due is not None), default=None),
    )


def without_name(key: str, message: str) -> str:
    """A message about an input without the input's name before it, for where that stands already. Pure."""
    start, colon, rest = message.partition(": ")
    return rest if colon and rest and (start == key or start.endswith(f"/{key}")) else message


def _from_record(record: InputRecord) -> DroppedInput:
    state = FAILED if record.state is InputState.QUARANTINED or not record.due else RETRY
    return DroppedInput(record.key, state, record.message, record.code, record.due or None, record.at)


def _read_failed(folder: Path) -> list[DroppedInput]:
    """What was set aside, by the files that tell the reason; what cannot be read is left out."""
    found: list[DroppedInput] = []
    try:
        files = sorted(file for file in folder.rglob(f"*{REASON}") if not file.is_symlink())[:MOST]
    except OSError:
        return found
    for file in files:
        with suppress(OSError), file.open(encoding="utf-8", errors="replace") as lines:
            facts = dict(line.partition(":")[::2] for line in lines.read(_REASON_SIZE).splitlines())
            name = str(file.relative_to(folder)).removesuffix(REASON).encode(errors="replace").decode()
            reason, code = facts.get("message", "").strip(), facts.get("code", "").strip()
            found.append(DroppedInput(name, FAILED, reason, code, at=file.stat().st_mtime))
    return found
