"""Take one input: read it, run its jobs, record what became of it, then clear its files away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial

import structlog

from ocisync.content.backoff import Backoff
from ocisync.content.concurrency import for_each
from ocisync.content.threads import run_file
from ocisync.drop.disposal import clear_done, quarantine
from ocisync.drop.fingerprint import check_unchanged, identity_of, is_of_bytes, read_members, unread, without_claim
from ocisync.drop.inputs import MAX_WAIT, Input, is_as_recorded
from ocisync.drop.jobs import jobs_of, published_by, source_of
from ocisync.drop.rule import DropRule, Hold, Identify, InputReport, InputVerdict, Names, hold_nothing
from ocisync.errors import DiskError, Handling, InputChanged, InputError, OcisyncError
from ocisync.state.inputs import InputRecord, InputRecords, InputState, MemberRecord
from ocisync.sync.job import Job
from ocisync.sync.reports import STOPPED, Failure, JobReport, failure_of

log = structlog.get_logger()

Run = Callable[[Job], Awaitable[JobReport]]
"""Runs a job: waits for its turn and for its end."""

Members = tuple[MemberRecord, ...]

FIRST_WAIT = 5.0  # seconds before an error that can pass is tried again, doubled each time
LONGEST_RETRY = 600.0  # seconds
DISK_PAUSE = 60.0  # seconds in which a rule takes nothing after a target's disk failed, or until its next rescan


@dataclass(slots=True)
class InputProcessor:
    """What taking inputs needs; see `intake.IntakeTools`."""

    rule: DropRule
    inputs: InputRecords
    names: Names
    run: Run
    now: Callable[[], float]
    monotonic: Callable[[], float]
    chance: Callable[[], float]
    hold: Hold
    identify: Identify
    paused_until: float = 0.0  # monotonic seconds

    def pause_left(self) -> float:
        """Seconds for which nothing is to be taken, because a disk is full or failing."""
        return self.paused_until - self.monotonic()

    def pause(self) -> None:
        """Take nothing for a while."""
        self.paused_until = self.monotonic() + min(DISK_PAUSE, self.rule.rescan)

    async def take(self, found: Input) -> InputReport:
        """Publish an input and clear it away; every error ends up in the report."""
        report = InputReport(self.rule.name, found.key, tuple(found.stamps), InputVerdict.FAILED)
        try:
            known = await self.inputs.one(self.rule.name, found.key)
            await _Attempt(self, found, known, report).go()
        except OcisyncError as exc:  # the state failed: what was done is done again, harmlessly
            report.verdict, report.failure = InputVerdict.FAILED, failure_of(exc)
            self.pause()
        return report


class _Attempt:
    def __init__(self, taker: InputProcessor, found: Input, known: InputRecord | None, report: InputReport) -> None:
        self.taker = taker
        self.rule = taker.rule
        self.found = found
        self.known = known
        self.report = report
        self.members: Members = tuple(map(unread, found.members))

    async def go(self) -> None:
        try:
            await self._bring()
        except Exception as exc:  # noqa: BLE001 (the edge of an input: the others go on)
            failure = _failure(exc, self.found)
        else:
            await self._clear()
            return
        await self._failed(await self._if_unchanged(failure))

    async def _bring(self) -> None:
        if self.found.refusal is not None:
            raise self.found.refusal
        if not self._was_published():
            await self._bring_changed()
        await self._save(InputState.DONE)

    async def _bring_changed(self) -> None:
        """Bytes on record are compared first; an archive that tells what it holds is not read for that."""
        if self.known and self.known.members and all(map(is_of_bytes, self.known.members)):
            await self._read()
            if not self._was_published():
                self._warn_of_lost_platforms()
                await self._publish()
            return
        async with self._held():
            claim = "" if self.found.is_set else await self.taker.identify(source_of(self.found))
            if not claim:
                await self._read_and_publish()
                return
            self.members = tuple(unread(member, claim) for member in self.found.members)
            if not self._was_published():
                await self._publish()

    async def _read_and_publish(self) -> None:
        """What is known by nothing else is published while its bytes are read; they go on record if it fails, too."""
        failures: list[Exception] = []

        async def kept(act: Callable[[], Awaitable[None]]) -> None:
            try:
                await act()
            except Exception as exc:  # noqa: BLE001 (raised below, once both are done)
                failures.append(exc)

        await for_each((self._read, self._publish), kept, 2)
        if failures:
            raise failures[0]

    async def _read(self) -> None:
        self.members = await read_members(self.found, self.known)

    def _was_published(self) -> bool:
        """Whether all of this content is on record for the same purpose; raises what it was refused for.

        Part of a set is known as well: the others were cleared away, perhaps just before the process was killed.
        """
        known, report = self.known, self.report
        if known is None or known.purpose != self.rule.purpose:
            return False
        if is_as_recorded(self.found, known):
            self.members = known.members
        elif _holds(known.members, self.members):
            self.members = _merged(known.members, self.members)
        else:
            return False
        if known.state is InputState.QUARANTINED:
            raise InputError(known.message, code=known.code)
        if known.state is InputState.DONE:
            report.verdict, report.published = InputVerdict.UNCHANGED, known.published
            report.reason = "the same content was published before"
        return known.state is InputState.DONE

    async def _publish(self) -> None:
        async with self._held():
            jobs, warnings = await jobs_of(self.found, self.rule, self.taker.names)
            self.report.warnings += warnings
            await for_each(jobs, self._run, len(jobs))
        failures = [report.worst() for report in self.report.jobs if not report.ok]
        if failures:
            raise _as_error(failures)
        await run_file(partial(check_unchanged, self.found))
        self.report.verdict, self.report.published = InputVerdict.PUBLISHED, published_by(jobs)

    def _held(self) -> AbstractAsyncContextManager[None]:
        hold = hold_nothing if self.found.is_set else self.taker.hold
        return hold(source_of(self.found))

    async def _run(self, job: Job) -> None:
        self.report.jobs.append(await self.taker.run(job))

    def _warn_of_lost_platforms(self) -> None:
        if self.known is None or self.known.state is not InputState.DONE or not self.found.is_set:
            return
        lost = {member.platform for member in self.known.members} - {member.platform for member in self.members}
        if lost:
            self.report.warnings.append(
                f"{self.found.name}:{self.found.tag} had {', '.join(sorted(lost))}, which the set no longer holds; "
                "declare `platforms` if it should wait for them"
            )

    async def _clear(self) -> None:
        """Keep, move or delete the files; what is published stays on record whatever happens here."""
        try:
            self.report.aftermath = await run_file(partial(clear_done, self.found, self.rule))
        except InputChanged as exc:
            self.report.warnings.append(exc.message)
        except DiskError as exc:
            await self._not_cleared(failure_of(exc), InputState.DONE)

    async def _if_unchanged(self, failure: Failure) -> Failure:
        """A fault of files that changed meanwhile is no fault of what lies there now."""
        if failure.handling != Handling.QUARANTINE.value:
            return failure
        try:
            await run_file(partial(check_unchanged, self.found))
        except InputChanged as exc:
            return failure_of(exc)
        return failure

    async def _failed(self, failure: Failure) -> None:
        self.report.verdict, self.report.failure = InputVerdict.FAILED, failure
        if failure.handling == Handling.QUARANTINE.value:
            await self._quarantine(failure)
            return
        if failure.code == STOPPED:
            return  # not its fault: the next start takes it at once
        if failure.code == DiskError.code and self.report.jobs:
            self.taker.pause()
        await self._save(InputState.WAITING, failure)

    async def _quarantine(self, failure: Failure) -> None:
        await self._save(InputState.QUARANTINED, failure)
        try:
            self.report.aftermath = await run_file(
                partial(quarantine, self.found, self.rule, failure, self.taker.now())
            )
        except InputChanged as exc:
            self.report.warnings.append(exc.message)
        except DiskError as exc:
            self.report.warnings.append(exc.message)
            await self._save(InputState.QUARANTINED, failure, wait=True)
            return
        await self.taker.inputs.remove(self.rule.name, [self.found.key])

    async def _not_cleared(self, failure: Failure, state: InputState) -> None:
        self.report.verdict, self.report.failure = InputVerdict.FAILED, failure
        await self._save(state, failure, wait=True)

    async def _save(self, state: InputState, failure: Failure | None = None, *, wait: bool = False) -> None:
        """Put on record what became of the input; one that waits gets the time of its next attempt."""
        members = self.members if state is InputState.DONE else tuple(map(without_claim, self.members))
        record = InputRecord(
            self.found.key,
            state,
            self.taker.now(),
            self.rule.purpose,
            identity_of(members) if all(member.digest for member in members) else "",
            members,
            self.report.published,
        )
        if failure is not None:
            record = replace(record, code=failure.code, message=failure.message)
        if failure is not None and (wait or state is InputState.WAITING):
            failures = 1 + (self.known.failures if self.known and is_as_recorded(self.found, self.known) else 0)
            due = self.taker.now() + _back_off(failure, failures, self.rule.rescan, self.taker.chance())
            record = replace(record, failures=failures, due=due)
        await self.taker.inputs.save(self.rule.name, record)


def _holds(known: Members, members: Members) -> bool:
    return all(member.digest for member in members) and _contents(members) <= _contents(known)


def _merged(known: Members, members: Members) -> Members:
    """What was known, with the files that are there now in place of those of equal content."""
    now = _contents(members)
    return (*(one for one in known if (one.platform, one.digest) not in now), *members)


def _contents(members: Members) -> set[tuple[str, str]]:
    return {(one.platform, one.digest) for one in members}


def _back_off(failure: Failure, failures: int, rescan: float, chance: float) -> float:
    """Seconds until the next attempt: full jitter, at least one second."""
    can_pass = failure.handling == Handling.RETRY.value
    first, longest = (FIRST_WAIT, LONGEST_RETRY) if can_pass else (rescan, MAX_WAIT)
    return Backoff(first, longest, shortest=1.0).wait(failures, chance)


def _as_error(failures: list[Failure | None]) -> OcisyncError:
    """The failure that decides what becomes of the input: one that can pass, else any."""
    known = [failure for failure in failures if failure is not None]
    worst = min(known, key=lambda failure: failure.handling != Handling.RETRY.value, default=None)
    if worst is None:
        return InputError("a job failed without a reason", handling=Handling.FAIL)
    return OcisyncError(worst.message, code=worst.code, handling=Handling(worst.handling))


def _failure(exc: Exception, found: Input) -> Failure:
    if isinstance(exc, OcisyncError):
        return failure_of(exc)
    log.error("drop.crashed", input=found.key, exc_info=exc)
    return Failure("internal", f"{type(exc).__name__}: {exc}", Handling.FAIL.value)
