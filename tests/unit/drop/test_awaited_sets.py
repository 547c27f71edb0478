"""Which files of sets that wait are read, and when again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ocisync.drop.awaited_sets import AwaitedSets
from ocisync.drop.inputs import Input, InputMember, Readiness
from ocisync.drop.rule import InputReport, InputVerdict
from ocisync.drop.scan import FolderEntry, Stamp
from ocisync.errors import InputError
from ocisync.sync.reports import Failure

AMD, ARM = "app/1/linux.amd64.tar", "app/1/linux.arm64.tar"
BAD = Failure("archive.invalid", "no tar archive", "quarantine")
UNREADABLE = Failure("disk", "input/output error", "retry")


def _set(*files: tuple[str, int], key: str = "app/1/") -> Input:
    """A set of files, each with its inode."""
    entries = [FolderEntry(path, f"/drop/{path}", Stamp(1, 1, inode), 0.0) for path, inode in files]
    return Input(key, tuple(map(InputMember, entries)), "app", "1", is_set=True)


def _waits(dropped: Input, stable: Sequence[InputMember] | None = None) -> tuple[Input, Readiness]:
    return dropped, Readiness(math.inf, "waits for more", stable=dropped.members if stable is None else tuple(stable))


def _report(*bad: str, failure: Failure | None = None) -> InputReport:
    verdict = InputVerdict.FAILED if failure else InputVerdict.WAITING
    return InputReport("r", "app/1/", bad, verdict, failure=failure)


def _choose(sets: AwaitedSets, dropped: Input, now: float = 0.0) -> list[str] | None:
    """The files that are to be read; None: nothing is to be done."""
    chosen = sets.choose([_waits(dropped)], (), now)
    if not chosen:
        return None
    assert (chosen[0].waits, chosen[0].key) == ("waits for more", "app/1/")
    return [member.entry.relative for member in chosen[0].members]


def test_each_file_is_read_once_and_again_when_it_changed() -> None:
    sets = AwaitedSets()
    first = _set((AMD, 1))
    assert _choose(sets, first) == [AMD]
    assert _choose(sets, first) == [AMD]  # it was only chosen: nobody has read it yet
    sets.note(first, _report(), 60.0)
    assert _choose(sets, first, now=9999.0) is None
    assert _choose(sets, _set((AMD, 1), (ARM, 2))) == [ARM]
    assert _choose(sets, _set((AMD, 3))) == [AMD]


def test_a_bad_file_is_read_beside_new_ones_and_its_end_is_noticed() -> None:
    sets = AwaitedSets()
    first = _set((AMD, 1))
    sets.note(first, _report(AMD, failure=BAD), 60.0)
    assert _choose(sets, first, now=9999.0) is None  # it does not get better by waiting
    assert _choose(sets, _set((AMD, 1), (ARM, 2))) == [AMD, ARM]  # so that what is told stays true of all
    assert _choose(sets, _set((AMD, 9))) == [AMD]
    sets.note(_set((ARM, 2)), _report(AMD, failure=BAD), 60.0)
    assert _choose(sets, _set((ARM, 2))) == []  # it was taken away: nothing is to be read, and all is well


def test_what_may_pass_is_read_again_when_its_time_has_come() -> None:
    sets = AwaitedSets()
    first = _set((AMD, 1))
    sets.note(first, _report(AMD, failure=UNREADABLE), 60.0)
    assert _choose(sets, first, now=59.0) is None
    assert _choose(sets, first, now=60.0) == [AMD]


def test_only_sets_wait_and_only_stable_files_are_read() -> None:
    sets = AwaitedSets()
    dropped = _set((AMD, 1), (ARM, 2))
    (chosen,) = sets.choose([_waits(dropped, dropped.members[:1])], (), 0.0)
    assert [member.entry.relative for member in chosen.members] == [AMD]
    single, refused = replace(dropped, is_set=False), replace(dropped, refusal=InputError("two for one platform"))
    assert sets.choose([_waits(single), _waits(refused)], (), 0.0) == []


def test_what_is_gone_is_forgotten_but_for_sets_that_are_being_read() -> None:
    sets = AwaitedSets()
    sets.note(_set((AMD, 1)), _report(), 60.0)
    sets.choose([], ("app/1/",), 0.0)
    assert _choose(sets, _set((AMD, 1))) is None
    sets.choose([], (), 0.0)
    assert _choose(sets, _set((AMD, 1))) == [AMD]
