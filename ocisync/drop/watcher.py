"""Take what is dropped into a folder: look, wait until it is whole, know it by its content, publish it, clear it away.

Each input is published once per content and purpose. What became of it is recorded before its files are touched, so a
kill at any moment loses nothing and repeats nothing but the clearing.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ocisync.content.concurrency import Wakeup, for_each
from ocisync.content.threads import run_file
from ocisync.drop.disposal import remove_old
from ocisync.drop.inputs import Input
from ocisync.drop.poll import FolderPoller
from ocisync.drop.process import InputProcessor, Run
from ocisync.drop.rule import DropRule, Hold, Identify, InputReport, InputVerdict, Names, hold_nothing, identify_nothing
from ocisync.errors import OcisyncError
from ocisync.state.inputs import InputRecords

log = structlog.get_logger()

WORKERS = 8  # inputs taken at a time; the runner bounds what their jobs do
QUEUE = 1000  # inputs that wait for a worker; those beyond are found by a later look
PATIENCE = 3.0  # seconds that one pass waits beyond `stable` and `settle`
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 3.0  # seconds between two looks, however often the bell rings
CLEAN = 3600.0  # seconds between two looks for old files in the done and failed folders


def _ignore(report: InputReport) -> None:
    """Nobody asked to be told."""


@dataclass(frozen=True, slots=True)
class IntakeTools:
    """What an intake works with."""

    inputs: InputRecords
    names: Names
    run: Run
    on_report: Callable[[InputReport], None] = _ignore  # called for every input that was taken
    now: Callable[[], float] = time.time  # seconds since the epoch
    monotonic: Callable[[], float] = time.monotonic  # seconds
    chance: Callable[[], float] = random.random  # from 0 to 1, for jitter
    hold: Hold = hold_nothing
    identify: Identify = identify_nothing


async def one_pass(rule: DropRule, tools: IntakeTools, *, patience: bool = True) -> list[InputReport]:
    """Take everything that is there, due or not; with patience also what is whole within a few seconds.

    What is still growing or incomplete is reported as waiting, what was published before and stays is not reported.

    Raises:
        DiskError: the folder cannot be read.
    """
    return await DropWatcher(rule, tools).pass_once(patience=patience)


class DropWatcher:
    """One rule's drop folder."""

    def __init__(self, rule: DropRule, tools: IntakeTools) -> None:
        self.rule = rule
        self._tools = tools
        self._lookout = FolderPoller(rule, tools.inputs, tools.now, tools.monotonic)
        self._taker = InputProcessor(
            rule, tools.inputs, tools.names, tools.run, tools.now, tools.monotonic, tools.chance, tools.hold,
            tools.identify,
        )  # fmt: skip
        self._busy: set[str] = set()
        self._stopping = False
        self._clean_at = 0.0  # monotonic seconds
        self._wakeup: Wakeup | None = None

    def stop(self) -> None:
        """Take nothing more; `serve` returns once what is being taken has ended."""
        self._stopping = True
        self._wake()

    async def serve(self, wakeup: Wakeup) -> None:
        """Take what comes until `stop` or cancellation. `wakeup` rings for changes; a rescan comes without it."""
        self._wakeup = wakeup
        async with self._workers() as send:
            while not self._stopping:
                started = self._tools.monotonic()
                wait = min(await self._offer(send), self.rule.rescan)
                took = self._tools.monotonic() - started
                await self._sleep(wait, min(max(SHORTEST_PAUSE, 5 * took), LONGEST_PAUSE), wakeup)

    async def pass_once(self, *, patience: bool) -> list[InputReport]:
        """See `one_pass`."""
        tried: dict[str, InputReport] = {}
        allowance = self.rule.stable + self.rule.settle + PATIENCE if patience else 0.0
        deadline = self._tools.monotonic() + allowance
        while True:
            look = await self._lookout.look(use_back_off=False)
            fresh = [found for found in look.ready if found.key not in tried]
            await for_each(fresh, partial(self._take_into, tried), WORKERS)
            if self._tools.monotonic() + look.wait > deadline:
                break
            await anyio.sleep(look.wait)
        await self._clean()
        waiting = [self._waits(found, state.reason) for found, state in look.waiting if found.key not in tried]
        return [*tried.values(), *waiting]

    async def _sleep(self, wait: float, at_least: float, wakeup: Wakeup) -> None:
        """Until the bell rings or `wait` is over; looks at a huge folder leave time for other work."""
        if not self._stopping:
            await anyio.sleep(min(at_least, self.rule.rescan))
            await wakeup.wait(max(0.0, wait - at_least))

    async def _offer(self, send: MemoryObjectSendStream[Input]) -> float:
        """Hand over what is ready; returns the seconds after which another look is worth while."""
        if (pause := self._taker.pause_left()) > 0:
            return pause
        try:
            look = await self._lookout.look(self._busy)
            await self._clean()
        except OcisyncError as exc:
            log.warning("drop.look_failed", rule=self.rule.name, code=exc.code, error=exc.message)
            return self.rule.rescan
        for found in look.ready[: QUEUE - len(self._busy)]:
            self._busy.add(found.key)
            send.send_nowait(found)
        return look.wait

    @asynccontextmanager
    async def _workers(self) -> AsyncIterator[MemoryObjectSendStream[Input]]:
        send, receive = anyio.create_memory_object_stream[Input](QUEUE)
        async with anyio.create_task_group() as workers:
            for _ in range(WORKERS):
                workers.start_soon(self._work, receive.clone())
            receive.close()
            async with send:
                yield send

    async def _work(self, receive: MemoryObjectReceiveStream[Input]) -> None:
        async with receive:
            async for found in receive:
                try:
                    if not self._stopping and self._taker.pause_left() <= 0:
                        await self._take(found)
                finally:
                    self._busy.discard(found.key)
                    self._wake()

    async def _take_into(self, reports: dict[str, InputReport], found: Input) -> None:
        if self._taker.pause_left() > 0:
            reports[found.key] = self._waits(found, "a disk is full or failing; nothing more is taken for now")
        else:
            reports[found.key] = await self._take(found)

    async def _take(self, found: Input) -> InputReport:
        report = await self._taker.take(found)
        _log(report)
        self._tools.on_report(report)
        return report

    async def _clean(self) -> None:
        if self._tools.monotonic() < self._clean_at:
            return
        self._clean_at = self._tools.monotonic() + CLEAN
        rule = self.rule
        for folder, keep in ((rule.done_path, rule.keep_done), (rule.failed_path, rule.keep_failed)):
            try:
                removed = await run_file(partial(remove_old, folder, keep, self._tools.now()))
            except OcisyncError as exc:
                log.warning("drop.clean_failed", rule=rule.name, error=exc.message)
                continue
            if removed:
                log.info("drop.cleaned", rule=rule.name, folder=str(folder), files=len(removed))

    def _waits(self, found: Input, reason: str) -> InputReport:
        return InputReport(self.rule.name, found.key, tuple(found.stamps), InputVerdict.WAITING, reason)

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.set()


def _log(report: InputReport) -> None:
    facts = {"rule": report.rule, "input": report.key, "aftermath": report.aftermath}
    for warning in report.warnings:
        log.warning("drop.warned", warning=warning, **facts)
    if report.failure is None:
        log.info("drop.taken", verdict=report.verdict.value, published=report.published, **facts)
    else:
        log.warning("drop.failed", code=report.failure.code, error=report.failure.message, **facts)
