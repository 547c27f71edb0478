"""Look at a drop folder and decide what can be taken now, what must wait, and what to warn of."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import structlog

from ocisync.content.threads import run_file
from ocisync.drop.inputs import (
    Input,
    Moment,
    Readiness,
    Sighting,
    back_off_left,
    group,
    is_remnant,
    is_settled,
    is_settled_whole,
    leave_bundles,
    observe,
    readiness,
)
from ocisync.drop.moves import restore
from ocisync.drop.rule import DAY, DropRule, TimeSource
from ocisync.drop.scan import Scan, scan
from ocisync.state.input_records import InputRecord, InputRecords, InputState

log = structlog.get_logger()

FORGET = 90 * DAY  # a record whose files are gone this long is dropped
_NOT_OURS = "its name is not that of an archive (.tar, .tar.gz, .tgz, …)"


@dataclass(frozen=True, slots=True)
class PollResult:
    """What one look at the folder found; settled inputs are not in it."""

    ready: list[Input]
    waiting: list[tuple[Input, Readiness]]

    @property
    def wait(self) -> float:
        """Seconds until one of those that wait may be ready; infinite when files must come."""
        return min((state.wait for _, state in self.waiting), default=math.inf)


async def forget_settled(rule: DropRule, records: InputRecords) -> None:
    """Let the next look take what was published and still lies there, all of it, as if it had just come.

    Raises:
        DiskError: the folder cannot be read.
    """
    found, known = await run_file(partial(scan, rule)), await records.of_rule(rule.name)
    leave_bundles(found, rule)
    inputs, _ = group(found.entries, rule.layout, has_sets=bool(rule.platforms))
    await records.remove(rule.name, [one.key for one in inputs if is_settled_whole(one, known.get(one.key), rule)])


class FolderPoller:
    """Looks at one rule's folder again and again, and remembers since when each file is as it is."""

    def __init__(self, rule: DropRule, records: InputRecords, clock: TimeSource) -> None:
        self._rule = rule
        self._records = records
        self._clock = clock
        self._seen: Mapping[str, Sighting] = {}
        self._logged: Mapping[str, str] = {}
        self.skipped: Mapping[str, str] = {}  # path -> why the last look left it alone
        self.last: PollResult | None = None  # what the last look found
        self.is_missing = False  # the last look found no folder

    async def plan(self) -> PollResult:
        """What would be taken now, due or not; nothing is changed.

        Raises:
            DiskError: the folder cannot be read.
        """
        found = await run_file(partial(scan, self._rule))
        leave_bundles(found, self._rule)
        moment = Moment(self._clock.monotonic(), self._clock.wall())
        self._seen = observe(self._seen, found.entries, moment.monotonic)
        inputs, others = group(found.entries, self._rule.layout, has_sets=bool(self._rule.platforms))
        self.skipped, self.is_missing = _tell_skipped(found, others), found.is_missing
        return self._decide(inputs, await self._records.of_rule(self._rule.name), moment, use_back_off=False)

    async def look(self, busy: Collection[str] = (), *, use_back_off: bool = True) -> PollResult:
        """Look once; inputs whose keys are `busy` are left out.

        Raises:
            DiskError: the folder cannot be read.
        """
        found = await self._scan(restoring=not busy)
        leave_bundles(found, self._rule)
        moment = Moment(self._clock.monotonic(), self._clock.wall())
        self._seen = observe(self._seen, found.entries, moment.monotonic)
        inputs, others = group(found.entries, self._rule.layout, has_sets=bool(self._rule.platforms))
        records = await self._records.of_rule(self._rule.name)
        if not found.is_missing:
            await self._forget_absent(records, {one.key for one in inputs} | set(busy), moment.wall)
        free = (one for one in inputs if one.key not in busy)
        result = self._decide(free, records, moment, use_back_off=use_back_off)
        self.skipped, self.last, self.is_missing = _tell_skipped(found, others), result, found.is_missing
        self._log(self.skipped, result)
        return result

    async def _scan(self, *, restoring: bool) -> Scan:
        found = await run_file(partial(scan, self._rule))
        if not found.leftovers or not restoring:
            return found
        for path in found.leftovers:  # deletions that the end of a process interrupted
            await run_file(partial(self._restore, path))
        return await run_file(partial(scan, self._rule))

    def _restore(self, leftover: str) -> None:
        """One that cannot be restored, as in a folder that is read-only, is no reason to take nothing."""
        try:
            restore(self._rule.path, leftover)
        except OSError as exc:
            log.debug("drop.leftover_kept", rule=self._rule.name, path=leftover, error=exc.strerror or str(exc))

    def _decide(
        self, inputs: Iterable[Input], records: Mapping[str, InputRecord], now: Moment, *, use_back_off: bool
    ) -> PollResult:
        result = PollResult([], [])
        for dropped in inputs:
            record = records.get(dropped.key)
            if is_settled(dropped, record, self._rule):
                continue
            is_cleared_away = is_remnant(dropped, record, self._rule)
            state = Readiness(0) if is_cleared_away else readiness(dropped, self._rule, self._seen, now)
            pause = back_off_left(dropped, record, now.wall) if use_back_off else 0.0
            if pause > state.wait:
                state = Readiness(pause, record.message if record else "")
            if state.wait > 0:
                result.waiting.append((dropped, state))
            else:
                result.ready.append(replace(dropped, refusal=dropped.refusal or state.refusal))
        return result

    async def _forget_absent(self, records: Mapping[str, InputRecord], present: set[str], now: float) -> None:
        """Only what was published is remembered beyond the files, so that the same content is known again."""
        absent = [
            key
            for key, record in records.items()
            if key not in present and (record.state is not InputState.DONE or now - record.at > FORGET)
        ]
        await self._records.remove(self._rule.name, absent)

    def _log(self, skipped: Mapping[str, str], result: PollResult) -> None:
        """Log once each thing that is not taken, until it is gone or the reason changes."""
        for path, reason in skipped.items():
            if self._logged.get(path) != reason:
                log.warning("drop.skipped", rule=self._rule.name, path=path, reason=reason)
        incomplete = {dropped.key: state for dropped, state in result.waiting if state.lacks}
        for key, state in incomplete.items():
            if self._logged.get(key) != state.reason:
                write = log.warning if state.overdue else log.info
                write("drop.waits", rule=self._rule.name, input=key, reason=state.reason)
        self._logged = {**skipped, **{key: state.reason for key, state in incomplete.items()}}


def _tell_skipped(found: Scan, others: Iterable[str]) -> Mapping[str, str]:
    """Path, as it can be shown -> why a look leaves it alone."""
    skipped = {**found.skipped, **dict.fromkeys(others, _NOT_OURS)}
    return {path.encode(errors="replace").decode(): reason for path, reason in skipped.items()}
