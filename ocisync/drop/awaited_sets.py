"""Which files of a set are read while others of it are awaited, so that people hear of a bad one at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from ocisync.drop.inputs import Input, InputMember, Readiness
from ocisync.drop.rule import InputReport
from ocisync.drop.scan import Stamp
from ocisync.errors import Handling


@dataclass(frozen=True, slots=True)
class _Reading:
    """A set as it was read last."""

    stamps: dict[str, Stamp]  # of what was read, by path
    bad: frozenset[str] = frozenset()  # the paths of those that cannot be used
    due: float = math.inf  # monotonic seconds: when those are read again, though they are as they were


@dataclass(slots=True)
class AwaitedSets:
    """Chooses what to read of sets that wait. Each file is read once, and again when it changes.

    A bad file is only told, and left where it is: without it the rest could be published as if it were the whole set.
    """

    _readings: dict[str, _Reading] = field(default_factory=dict)  # by the set's key

    def choose(self, waiting: Iterable[tuple[Input, Readiness]], busy: Collection[str], now: float) -> list[Input]:
        """The sets with the files that are to be read; `now` in monotonic seconds. Those that are `busy` stay known."""
        sets = [(dropped, state) for dropped, state in waiting if dropped.is_set and not dropped.refusal]
        keys = {dropped.key for dropped, _ in sets}
        self._readings = {key: one for key, one in self._readings.items() if key in keys or key in busy}
        chosen = (self._choose_members(dropped, state, now) for dropped, state in sets)
        return [one for one in chosen if one is not None]

    def note(self, dropped: Input, report: InputReport, again: float) -> None:
        """Remember what was read; a fault that may pass is looked at again at `again`, in monotonic seconds."""
        before = self._readings.get(dropped.key, _Reading({}))
        failure = report.failure
        may_pass = failure is not None and failure.handling != Handling.QUARANTINE.value
        self._readings[dropped.key] = _Reading(
            {**before.stamps, **dropped.stamps},
            frozenset(report.paths) if failure else frozenset(),
            again if may_pass else math.inf,
        )

    def _choose_members(self, dropped: Input, state: Readiness, now: float) -> Input | None:
        known = self._readings.get(dropped.key, _Reading({}))
        stamps = dropped.stamps
        is_healed = any(known.stamps[path] != stamps.get(path) for path in known.bad)

        def is_unread(member: InputMember) -> bool:
            return known.stamps.get(member.entry.relative) != member.entry.stamp

        if not (is_healed or now >= known.due or any(map(is_unread, state.stable))):
            return None
        members = [one for one in state.stable if is_unread(one) or one.entry.relative in known.bad]
        return replace(dropped, members=tuple(members), waits=state.reason)
