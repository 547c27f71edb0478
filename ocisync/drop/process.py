"""Process one input: know it by its content, run its jobs, record what became of it, then clear its files away.

The order is what makes a kill at any moment harmless. What became of an input is on record before its files are
touched, so the next start finds a remnant: it clears the files away and publishes nothing a second time.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from ocisync.content.concurrency import for_each
from ocisync.content.threads import run_file
from ocisync.drop.blame import INTERNAL, UNFINISHED, back_off, describe_error, find_failure
from ocisync.drop.disposal import clear_done, quarantine
from ocisync.drop.fingerprint import as_record, check_unchanged, identity_of, is_of_bytes, read_members, without_claim
from ocisync.drop.input_jobs import jobs_of, published_by, source_of, without_names
from ocisync.drop.inputs import SUPERSEDED, Input, InputMember, is_as_recorded
from ocisync.drop.newest import PublishedNames
from ocisync.drop.rule import ArchiveReader, DropRule, InputReport, InputVerdict, TimeSource
from ocisync.errors import (
    DiskError,
    Handling,
    InputChanged,
    InputError,
    OcisyncError,
)
from ocisync.state.input_records import InputRecord, InputRecords, InputState, MemberRecord
from ocisync.sync.job import Job
from ocisync.sync.reports import STOPPED, Failure, JobReport, describe_failure

log = structlog.get_logger()

RunJob = Callable[[Job], Awaitable[JobReport]]
"""Runs a job: waits for its turn and for its end."""

Members = tuple[MemberRecord, ...]

_LEFT_OUT = "name.missing"  # of a published input: some of its images have no name, and so the file is not deleted
DISK_PAUSE = 60.0  # seconds in which a rule takes nothing after a target's disk failed, or until its next rescan


@dataclass(slots=True)
class _Attempt:
    """An input on its way: what is known of it from before, and what has been found out so far."""

    dropped: Input
    known: InputRecord | None
    report: InputReport
    members: Members
    left_out: tuple[str, ...] = ()  # images of the archive that were not published


@dataclass(slots=True)
class InputProcessor:
    """Publishes the inputs of one rule, each by `process`.

    An input is known by its content: by what the archive says it holds, where it says so, else by the digest of its
    bytes. Content that was published before for the same targets is not published again. Files are read as
    late as can be: those whose stamps are on record not at all, an archive that tells what it holds only by its jobs,
    and all others while they are published.
    """

    rule: DropRule
    records: InputRecords
    archives: ArchiveReader
    run_job: RunJob
    clock: TimeSource
    rng: random.Random = field(default_factory=random.Random)
    paused_until: float = 0.0  # monotonic seconds
    names: PublishedNames = field(init=False)
    _are_names_loaded: bool = False
    _set_aside: dict[str, tuple[int, float]] = field(default_factory=dict)  # key -> failures, and until when

    def __post_init__(self) -> None:
        self.names = PublishedNames(self.rule.path)

    def pause_left(self) -> float:
        """Seconds for which nothing is to be taken, because a disk is full or failing."""
        return self.paused_until - self.clock.monotonic()

    def pause(self) -> None:
        """Take nothing for a while."""
        self.paused_until = self.clock.monotonic() + min(DISK_PAUSE, self.rule.rescan)

    async def load_names(self) -> None:
        """Know who published which name, as the records have it; once."""
        if not self._are_names_loaded:
            self.names.load((await self.records.of_rule(self.rule.name)).values())
            self._are_names_loaded = True

    async def process(self, dropped: Input) -> InputReport:
        """Publish an input and clear it away; every error ends up in the report."""
        report = InputReport(self.rule.name, dropped.key, tuple(dropped.stamps), InputVerdict.FAILED)
        try:
            await self.load_names()
            known = await self.records.find(self.rule.name, dropped.key)
            attempt = _Attempt(dropped, known, report, tuple(map(as_record, dropped.members)))
            if dropped.waits:
                await self._check(attempt)
                return report
            try:
                await self._bring(attempt)
            except Exception as exc:  # noqa: BLE001 (the edge of an input: the others go on)
                await self._fail(attempt, exc)
            else:
                await self._clear(attempt)
            self._set_aside.pop(dropped.key, None)
        except Exception as exc:  # noqa: BLE001 (nothing could be recorded: what was done is done again, harmlessly)
            report.verdict, report.failure = InputVerdict.FAILED, describe_error(exc, dropped)
            if report.failure.code == INTERNAL:
                self._wait_without_record(dropped, report.failure)
            else:  # the state failed, which is no fault of the input's
                self.pause()
        return report

    def is_set_aside(self, dropped: Input) -> bool:
        """Whether nothing could be put on record of an input, and it is not to be tried again yet."""
        return dropped.key in self._set_aside and self._set_aside[dropped.key][1] > self.clock.monotonic()

    def _wait_without_record(self, dropped: Input, failure: Failure) -> None:
        failures = 1 + self._set_aside.get(dropped.key, (0, 0.0))[0]
        wait = back_off(failure, failures, self.rule.rescan, self.rng.random())
        self._set_aside[dropped.key] = failures, self.clock.monotonic() + wait

    async def _check(self, attempt: _Attempt) -> None:
        """Read files of a set while others of it are awaited, and put on record what is wrong with them."""
        dropped, report = attempt.dropped, attempt.report
        bad = await self._find_bad(dropped)
        if not bad:
            report.verdict, report.reason = InputVerdict.WAITING, dropped.waits
            if attempt.known and attempt.known.state is InputState.WAITING:
                await self.records.remove(self.rule.name, [dropped.key])
            return
        failure = replace(next(iter(bad.values())), message="; ".join(one.message for one in bad.values()))
        may_pass = failure.handling != Handling.QUARANTINE.value
        if not may_pass:
            failure = replace(
                failure, message=f"{failure.message} (put a good file in its place; the set {dropped.waits})"
            )
        report.paths = tuple(member.entry.relative for member in bad)
        report.failure, report.reason, report.aftermath = failure, dropped.waits, "kept"
        attempt.members = tuple(map(as_record, bad))
        await self._save(attempt, InputState.WAITING, failure, wait=may_pass)

    async def _find_bad(self, dropped: Input) -> dict[InputMember, Failure]:
        """The files of a set that cannot be used, and why; each is read whole."""
        bad: dict[InputMember, Failure] = {}
        for member in dropped.members:
            part, path = replace(dropped, members=(member,)), member.entry.relative
            try:
                await self.archives.check(source_of(part))
            except Exception as exc:  # noqa: BLE001 (what is wrong with one file hides nothing of the others)
                failure, _ = await find_failure(exc, part, self.clock)
                named = failure.message if path in failure.message else f"{path}: {failure.message}"
                bad[member] = replace(failure, message=named)
        return bad

    async def _bring(self, attempt: _Attempt) -> None:
        """Publish what was not published before, and put on record that it is."""
        dropped, known = attempt.dropped, attempt.known
        if dropped.refusal is not None:
            raise dropped.refusal
        if not self._was_published(attempt):
            if known and known.members and all(map(is_of_bytes, known.members)):
                # Hashing the bytes may show that they are on record under other stamps: then nothing is to be done.
                await self._read(attempt)
                if not self._was_published(attempt):
                    self._warn_of_lost_platforms(attempt)
                    await self._publish(attempt)
            else:
                async with self._hold(dropped):
                    await self._identify_and_publish(attempt)
        await self._save(attempt, InputState.DONE)

    async def _identify_and_publish(self, attempt: _Attempt) -> None:
        """Publish by what the archive says it holds, so that its bytes are read once, by the jobs."""
        dropped = attempt.dropped
        claim = "" if dropped.is_set else await self.archives.identify(source_of(dropped))
        if not claim:
            await self._read_and_publish(attempt)
            return
        attempt.members = tuple(as_record(member, claim) for member in dropped.members)
        if not self._was_published(attempt):
            await self._publish(attempt)

    async def _read_and_publish(self, attempt: _Attempt) -> None:
        """What is known by nothing else is published while its bytes are read; they go on record if it fails, too."""
        failures: list[Exception] = []

        async def keep_failure(act: Callable[[_Attempt], Awaitable[None]]) -> None:
            try:
                await act(attempt)
            except Exception as exc:  # noqa: BLE001 (raised below, once both are done)
                failures.append(exc)

        await for_each((self._read, self._publish), keep_failure, 2)
        if failures:
            raise failures[0]

    async def _read(self, attempt: _Attempt) -> None:
        attempt.members = await read_members(attempt.dropped, attempt.known)

    def _was_published(self, attempt: _Attempt) -> bool:
        """Whether all of this content is on record for the same purpose; raises what it was refused for.

        Part of a set is known as well: the others were cleared away, perhaps just before the process was killed.
        """
        known, report = attempt.known, attempt.report
        if known is None or known.purpose != self.rule.purpose:
            return False
        if is_as_recorded(attempt.dropped, known):
            attempt.members = known.members
        elif _holds(known.members, attempt.members):
            attempt.members = _merge(known.members, attempt.members)
        else:
            return False
        is_new = known.state is InputState.DONE and not is_as_recorded(attempt.dropped, known)
        if is_new and (known.code == SUPERSEDED or self.names.was_replaced(attempt.dropped, known.published)):
            return False  # the same content, but newer than what has its names now
        if known.state is InputState.QUARANTINED:
            raise InputError(known.message, code=known.code)
        if known.state is InputState.DONE:
            report.verdict, report.published = InputVerdict.UNCHANGED, known.published
            attempt.left_out = (known.message,) if known.code == _LEFT_OUT else ()
            report.reason = "the same content was published before"
        return known.state is InputState.DONE

    async def _publish(self, attempt: _Attempt) -> None:
        """Run the jobs, but for names that a newer input has published; see `PublishedNames`."""
        dropped, report = attempt.dropped, attempt.report

        async def run(job: Job) -> None:
            report.jobs.append(await self.run_job(job))

        async with self._hold(dropped):
            planned = await jobs_of(dropped, self.rule, self.archives)
            report.warnings += planned.warnings
            attempt.left_out = planned.left_out
            names = published_by(planned.jobs)
            async with self.names.hold(names):
                newer = await self.names.list_newer(dropped, names)
                report.warnings += [f"{name} is left as it is: {key} is newer" for name, key in newer.items()]
                jobs = without_names(planned.jobs, newer)
                await for_each(jobs, run, len(jobs))
                failures = [job.worst() for job in report.jobs if not job.ok]
                failures += [withheld for job in report.jobs for withheld in job.withheld]
                if failures:
                    raise _as_error(failures)
                await run_file(partial(check_unchanged, dropped))
                report.published = published_by(jobs)
                self.names.record(dropped, report.published, self.clock.wall())
        report.verdict = InputVerdict.PUBLISHED if jobs else InputVerdict.UNCHANGED
        if not jobs:
            report.reason = "newer files have the same names"

    def _hold(self, dropped: Input) -> AbstractAsyncContextManager[None]:
        """Keep a single archive open; the many files of a set would be too many descriptors."""
        return nullcontext() if dropped.is_set else self.archives.hold(source_of(dropped))

    def _warn_of_lost_platforms(self, attempt: _Attempt) -> None:
        dropped, known = attempt.dropped, attempt.known
        if known is None or known.state is not InputState.DONE or not dropped.is_set:
            return
        lost = {member.platform for member in known.members} - {member.platform for member in attempt.members}
        if lost:
            attempt.report.warnings.append(
                f"{dropped.name}:{dropped.tag} had {', '.join(sorted(lost))}, which the set no longer holds; "
                "declare `platforms` if it should wait for them"
            )

    async def _clear(self, attempt: _Attempt) -> None:
        """Keep, move or delete the files; what is published stays on record whatever happens here."""
        report = attempt.report
        if attempt.left_out and self.rule.done == "delete":
            report.aftermath = "kept"  # what was not published would be lost
            return
        try:
            report.aftermath = await run_file(
                partial(clear_done, attempt.dropped, self.rule, published=bool(report.published))
            )
        except InputChanged as exc:
            report.warnings.append(exc.message)
        except DiskError as exc:
            report.verdict, report.failure = InputVerdict.FAILED, describe_failure(exc)
            await self._save(attempt, InputState.DONE, report.failure, wait=True)

    async def _fail(self, attempt: _Attempt, error: Exception) -> None:
        failure, is_unfinished = await find_failure(error, attempt.dropped, self.clock)
        if failure.handling == Handling.QUARANTINE.value:
            failure = await self._name_member(attempt.dropped, failure)
        attempt.report.verdict, attempt.report.failure = InputVerdict.FAILED, failure
        if is_unfinished:
            attempt.report.reason = UNFINISHED
        if failure.handling == Handling.QUARANTINE.value:
            await self._quarantine(attempt, failure)
            return
        if failure.code == STOPPED:
            return  # not its fault: the next start takes it at once
        if failure.code == DiskError.code and attempt.report.jobs:
            self.pause()
        await self._save(attempt, InputState.WAITING, failure, wait=True)

    async def _name_member(self, dropped: Input, failure: Failure) -> Failure:
        """Which file of a set it was, where only a digest was told."""
        is_named = any(member.entry.relative in failure.message for member in dropped.members)
        if is_named or not dropped.is_set or dropped.refusal is not None:
            return failure
        bad = await self._find_bad(dropped)
        return next(iter(bad.values())) if bad else failure

    async def _quarantine(self, attempt: _Attempt, failure: Failure) -> None:
        dropped, report = attempt.dropped, attempt.report
        await self._save(attempt, InputState.QUARANTINED, failure)
        try:
            report.aftermath = await run_file(partial(quarantine, dropped, self.rule, failure, self.clock.wall()))
        except InputChanged as exc:
            report.warnings.append(exc.message)
        except DiskError as exc:
            report.warnings.append(exc.message)
            await self._save(attempt, InputState.QUARANTINED, failure, wait=True)
            return
        await self.records.remove(self.rule.name, [dropped.key])

    async def _save(
        self, attempt: _Attempt, state: InputState, failure: Failure | None = None, *, wait: bool = False
    ) -> None:
        """Put on record what became of the input; `wait`: with the time of its next attempt."""
        dropped, known = attempt.dropped, attempt.known
        members = attempt.members if state is InputState.DONE else tuple(map(without_claim, attempt.members))
        record = InputRecord(
            dropped.key,
            state,
            self.clock.wall(),
            self.rule.purpose,
            identity_of(members) if all(member.digest for member in members) else "",
            members,
            attempt.report.published,
        )
        if failure is not None:
            record = replace(record, code=failure.code, message=failure.message)
        elif state is InputState.DONE and not attempt.report.published:
            record = replace(record, code=SUPERSEDED)
        elif attempt.left_out:
            record = replace(record, code=_LEFT_OUT, message=", ".join(attempt.left_out)[:200])
        if failure is not None and wait:
            failures = 1 + (known.failures if known and is_as_recorded(dropped, known) else 0)
            due = self.clock.wall() + back_off(failure, failures, self.rule.rescan, self.rng.random())
            record = replace(record, failures=failures, due=due)
        await self.records.save(self.rule.name, record)


def _holds(known: Members, members: Members) -> bool:
    return all(member.digest for member in members) and _contents(members) <= _contents(known)


def _merge(known: Members, members: Members) -> Members:
    """What was known, with the files that are there now in place of those of equal content."""
    now = _contents(members)
    return (*(one for one in known if (one.platform, one.digest) not in now), *members)


def _contents(members: Members) -> set[tuple[str, str]]:
    return {(one.platform, one.digest) for one in members}


def _as_error(failures: list[Failure | None]) -> OcisyncError:
    """The failure that decides what becomes of the input: one that can pass, else any."""
    known = [failure for failure in failures if failure is not None]
    worst = min(known, key=lambda failure: failure.handling != Handling.RETRY.value, default=None)
    if worst is None:
        return InputError("a job failed without a reason", handling=Handling.FAIL)
    return OcisyncError(worst.message, code=worst.code, handling=Handling(worst.handling))
