"""When an input can be taken, by both clocks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from ocisync.drop.fingerprint import as_record
from ocisync.drop.inputs import (
    Input,
    Moment,
    Readiness,
    Sighting,
    back_off_left,
    group,
    is_settled,
    observe,
    readiness,
)
from ocisync.drop.rule import DropRule, DropTarget, Incomplete
from ocisync.drop.scan import FolderEntry, Stamp
from ocisync.model.platform import Platform
from ocisync.state.input_records import InputRecord, InputState

RULE = DropRule("r", Path("/drop"), (DropTarget("t"),), settle=10.0, stable=2.0)
DECLARED = replace(RULE, platforms=(Platform("linux", "amd64"), Platform("linux", "arm64", "v8")))
WALL = 1_000_000.0  # seconds since the epoch
AMD, ARM = "app/1/linux.amd64.tar", "app/1/linux.arm64.tar"


def _entry(path: str, *, written: float, renamed: float = 0.0) -> FolderEntry:
    """A file by the ages that the wall clock gives its last write and its last renaming."""
    stamp = Stamp(1, int((WALL - written) * 1e9), 7)
    return FolderEntry(path, f"/drop/{path}", stamp, WALL - min(written, renamed or written))


def _one(*entries: FolderEntry) -> Input:
    (found,) = group(entries, RULE.layout)[0]
    return found


def _ready(rule: DropRule, *entries: FolderEntry, seen_for: float = 0.0) -> Readiness:
    seen = observe({}, entries, 50.0)
    return readiness(_one(*entries), rule, seen, Moment(50.0 + seen_for, WALL))


def test_fault_52_a_file_is_taken_once_it_was_left_alone_for_long_enough() -> None:
    assert _ready(RULE, _entry("a/1.tar", written=0.5)).wait == 1.5
    assert _ready(RULE, _entry("a/1.tar", written=2.0)).wait == 0
    assert _ready(RULE, _entry("a/1.tar", written=3600.0, renamed=0.1)).wait == 0  # renamed into place


def test_a_time_in_the_future_does_not_hold_a_file_for_ever() -> None:
    assert _ready(RULE, _entry("a/1.tar", written=-9999.0)).wait == 2.0
    assert _ready(RULE, _entry("a/1.tar", written=-9999.0), seen_for=2.0).wait == 0


def test_fault_52_a_change_starts_the_waiting_again() -> None:
    first, second = _entry("a/1.tar", written=-5.0), _entry("a/1.tar", written=-6.0)
    seen = observe({}, [first], 10.0)
    assert observe(seen, [first], 11.0)["a/1.tar"].since == 10.0
    seen = observe(seen, [second], 11.5)
    assert seen == {"a/1.tar": Sighting(second.stamp, 11.5)}
    assert readiness(_one(second), RULE, seen, Moment(12.0, WALL)).wait == 1.5


def test_a_set_without_declared_platforms_waits_until_nothing_came_for_a_while() -> None:
    members = _entry(AMD, written=100.0), _entry(ARM, written=100.0, renamed=4.0)
    assert _ready(RULE, *members).wait == 6.0
    assert _ready(RULE, *members, seen_for=10.0).wait == 0
    assert _ready(RULE, *(replace(member, changed=WALL - 10) for member in members)).wait == 0


def test_of_a_set_that_is_still_written_to_the_files_that_are_whole_are_known() -> None:
    state = _ready(DECLARED, _entry(AMD, written=9.0), _entry(ARM, written=0.5))
    assert (state.wait, state.reason) == (1.5, "still being written")
    assert [member.entry.relative for member in state.stable] == [AMD]


def test_a_set_with_declared_platforms_is_taken_when_they_are_there_and_not_before() -> None:
    waits = _ready(DECLARED, _entry(AMD, written=9999.0))
    assert [member.entry.relative for member in waits.stable] == [AMD]
    assert replace(waits, stable=()) == Readiness(math.inf, "waits for linux/arm64/v8", "linux/arm64/v8")
    assert _ready(DECLARED, _entry(AMD, written=3.0), _entry(ARM, written=3.0)).wait == 0


def test_the_time_of_an_incomplete_set_begins_with_the_last_file_that_came() -> None:
    rule = replace(DECLARED, incomplete=Incomplete(100.0, "publish"))
    waits = _ready(rule, _entry(AMD, written=9999.0, renamed=40.0))
    assert (waits.wait, waits.overdue) == (60.0, False)
    other = _entry("app/1/linux.s390x.tar", written=9999.0)
    assert _ready(rule, _entry(AMD, written=9999.0, renamed=40.0), other).wait == 60.0
    assert _ready(rule, other, _entry(AMD, written=9999.0)) == Readiness(0, overdue=True)
    assert _ready(rule, _entry(AMD, written=3.0), _entry(ARM, written=3.0)) == Readiness(0)
    assert _ready(DECLARED, _entry(AMD, written=3.0), _entry(ARM, written=1.0)).wait == 1.0


def _record(found: Input, **changes: object) -> InputRecord:
    record = InputRecord(
        found.key, InputState.DONE, 0.0, RULE.purpose, "sha256:x", tuple(map(as_record, found.members)), due=WALL + 30
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def test_what_was_published_and_stays_is_settled_until_a_file_or_the_purpose_changes() -> None:
    found = _one(_entry(AMD, written=9.0), _entry(ARM, written=9.0))
    assert is_settled(found, _record(found), RULE)
    assert not is_settled(found, None, RULE)
    assert not is_settled(found, _record(found, state=InputState.WAITING), RULE)
    assert not is_settled(found, _record(found), replace(RULE, done="move"))
    assert not is_settled(found, _record(found), replace(RULE, targets=(DropTarget("other"),)))
    assert not is_settled(_one(_entry(AMD, written=8.0), _entry(ARM, written=9.0)), _record(found), RULE)
    assert is_settled(_one(_entry(AMD, written=9.0)), _record(found), RULE)  # somebody took a file away


@pytest.mark.parametrize(("now", "left"), [(WALL, 30.0), (WALL + 31, 0.0), (WALL - 10_000, 0.0)])
def test_back_off_ends_when_due_or_when_the_clock_was_set(now: float, left: float) -> None:
    found = _one(_entry("a/1.tar", written=9.0))
    assert back_off_left(found, _record(found), now) == left
    assert back_off_left(_one(_entry("a/1.tar", written=8.0)), _record(found), now) == 0.0


def test_groups_and_what_is_left_over() -> None:
    paths = ["a/1.tar", AMD, "notes.txt", ARM, "app/2/linux.amd64.tar", "Bad/2/linux.amd64.tar"]
    inputs, others = group([_entry(path, written=9.0) for path in paths], RULE.layout)
    assert {found.key: [member.entry.relative for member in found.members] for found in inputs} == {
        "a/1.tar": ["a/1.tar"],
        "app/1/": [AMD, ARM],
        "app/2/": ["app/2/linux.amd64.tar"],
        "Bad/2/linux.amd64.tar": ["Bad/2/linux.amd64.tar"],
    }
    assert [found.refusal is not None for found in inputs] == [False, True, False, False]
    assert others == ["notes.txt"]
