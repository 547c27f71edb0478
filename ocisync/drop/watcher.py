"""Take what is dropped into a folder: look, wait until it is whole, know it by its content, publish it, clear it away.

Each input is published once per content and purpose. What became of it is recorded before its files are touched, so a
kill at any moment loses nothing and repeats nothing but the clearing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ocisync.content.concurrency import Wakeup, for_each
from ocisync.content.threads import run_file
from ocisync.drop.awaited_sets import AwaitedSets
from ocisync.drop.disposal import remove_old, take_back_grown
from ocisync.drop.inputs import Input
from ocisync.drop.newest import age_of
from ocisync.drop.poll import FolderPoller, PollResult
from ocisync.drop.process import InputProcessor
from ocisync.drop.report import UNREADABLE, DroppedInput, FolderReport, missing_folder, report_folder
from ocisync.drop.rule import InputReport, InputVerdict
from ocisync.errors import OcisyncError

log = structlog.get_logger()

WORKERS = 8  # inputs taken at a time; the runner bounds what their jobs do
QUEUE = 1000  # inputs that wait for a worker; those beyond are found by a later look
PATIENCE = 3.0  # seconds that one pass waits beyond `stable` and `settle`
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 3.0  # seconds between two looks, however often the bell rings
GROWN = 60.0  # seconds between two looks for files in the failed folder that were written to; never less than a rescan
CLEAN = 3600.0  # seconds between two looks for old files in the done and failed folders


def _ignore(report: InputReport) -> None:
    """Nobody asked to be told."""


class DropWatcher:
    """One rule's drop folder: looks again and again, and hands what is ready to the processor.

    Looking and processing run side by side: one task looks, `WORKERS` others process what it found, so that a large
    archive holds up no other. An input is `busy` from the look that finds it ready until it has been processed, and is
    left out of the looks meanwhile. `observe` is called for every input that was processed.
    """

    def __init__(self, processor: InputProcessor, observe: Callable[[InputReport], None] = _ignore) -> None:
        self.rule = processor.rule
        self._processor = processor
        self._observe = observe
        self._clock = processor.clock
        self._poller = FolderPoller(processor.rule, processor.records, processor.clock)
        self._awaited = AwaitedSets()
        self._readings: set[anyio.CancelScope] = set()  # of files whose sets wait
        self._busy: set[str] = set()
        self._stopping = False
        self._clean_at = 0.0  # monotonic seconds
        self._grown_at = 0.0  # monotonic seconds
        self._wakeup: Wakeup | None = None
        self._look_failure: DroppedInput | None = None  # the folder itself, while it cannot be read

    @property
    def skipped(self) -> int:
        """How many files the last look left alone: not an archive by their name, or not to be read."""
        return len(self._poller.skipped)

    def list_skipped(self) -> Mapping[str, str]:
        """The files that the last look left alone, and why."""
        return self._poller.skipped

    async def report(self) -> FolderReport:
        """What is not published, by the last look; only records and the folder of failed files are read."""
        known = await self._processor.records.of_rule(self.rule.name)
        others = missing_folder(self.rule) if self._poller.is_missing else []
        others += [self._look_failure] if self._look_failure else []
        return await report_folder(self.rule, known, self._poller.last, self._poller.skipped, self._busy, others)

    def stop(self) -> None:
        """Take nothing more; `serve` returns once what is being taken has ended. What is only read is given up."""
        self._stopping = True
        for reading in self._readings:
            reading.cancel()
        self._wake()

    async def serve(self, wakeup: Wakeup) -> None:
        """Take what comes until `stop` or cancellation. `wakeup` rings for changes; a rescan comes without it."""
        self._wakeup = wakeup
        self._busy.clear()  # if a defect ended it before
        async with self._workers() as send:
            while not self._stopping:
                started = self._clock.monotonic()
                wait = min(await self._offer(send), self.rule.rescan)
                took = self._clock.monotonic() - started
                await self._sleep(wait, min(max(SHORTEST_PAUSE, 5 * took), LONGEST_PAUSE), wakeup)

    async def pass_once(self, *, patience: bool) -> list[InputReport]:
        """Take everything that is there, due or not; with patience also what is whole within a few seconds.

        What is still growing or incomplete is reported as waiting, what was published before and stays is not reported.

        Raises:
            DiskError: the folder cannot be read.
        """
        tried: dict[str, InputReport] = {}
        allowance = self.rule.stable + self.rule.settle + PATIENCE if patience else 0.0
        deadline = self._clock.monotonic() + allowance
        await self._take_back_grown()
        while True:
            result = await self._poller.look(use_back_off=False)
            fresh = [dropped for dropped in _newest_first(result.ready) if dropped.key not in tried]
            await for_each(fresh, partial(self._process_into, tried), WORKERS)
            if self._clock.monotonic() + result.wait > deadline:
                break
            await anyio.sleep(result.wait)
        await for_each(self._choose_awaited(result), partial(self._process_into, tried), WORKERS)
        await self._clean()
        waiting = [
            self._report_waiting(dropped, state.reason) for dropped, state in result.waiting if dropped.key not in tried
        ]
        return [*tried.values(), *waiting]

    async def _sleep(self, wait: float, at_least: float, wakeup: Wakeup) -> None:
        """Until the bell rings or `wait` is over; looks at a huge folder leave time for other work."""
        if not self._stopping:
            await anyio.sleep(min(at_least, self.rule.rescan))
            await wakeup.wait(max(0.0, wait - at_least))

    async def _offer(self, send: MemoryObjectSendStream[Input]) -> float:
        """Hand over what is ready; returns the seconds after which another look is worth while."""
        if (pause := self._processor.pause_left()) > 0:
            return pause
        try:
            await self._take_back_grown()
            result = await self._poller.look(self._busy)
            await self._clean()
        except OcisyncError as exc:
            log.warning("drop.look_failed", rule=self.rule.name, code=exc.code, error=exc.message)
            self._look_failure = DroppedInput(str(self.rule.path), UNREADABLE, exc.message, exc.code)
            return self.rule.rescan
        self._look_failure = None
        ready = [dropped for dropped in _newest_first(result.ready) if not self._processor.is_set_aside(dropped)]
        for dropped in [*ready, *self._choose_awaited(result)][: QUEUE - len(self._busy)]:
            self._busy.add(dropped.key)
            send.send_nowait(dropped)
        return result.wait

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
            async for dropped in receive:
                try:
                    if not self._stopping and self._processor.pause_left() <= 0:
                        with self._cancelled_by_stop() if dropped.waits else nullcontext():
                            await self._process(dropped)
                finally:
                    self._busy.discard(dropped.key)
                    self._wake()

    @contextmanager
    def _cancelled_by_stop(self) -> Iterator[None]:
        with anyio.CancelScope() as scope:
            self._readings.add(scope)
            try:
                yield
            finally:
                self._readings.discard(scope)

    async def _process_into(self, reports: dict[str, InputReport], dropped: Input) -> None:
        if self._processor.pause_left() > 0:
            reports[dropped.key] = self._report_waiting(
                dropped, "a disk is full or failing; nothing more is taken for now"
            )
        else:
            reports[dropped.key] = await self._process(dropped)

    def _choose_awaited(self, result: PollResult) -> list[Input]:
        return self._awaited.choose(result.waiting, self._busy, self._clock.monotonic())

    async def _process(self, dropped: Input) -> InputReport:
        report = await self._processor.process(dropped)
        if dropped.waits:
            self._awaited.note(dropped, report, self._clock.monotonic() + self.rule.rescan)
        _log(report)
        self._observe(report)
        return report

    async def _take_back_grown(self) -> None:
        """Move back what lies in the failed folder and was written to since: it was refused before it was whole."""
        if self._clock.monotonic() < self._grown_at:
            return
        self._grown_at = self._clock.monotonic() + min(self.rule.rescan, GROWN)
        for path in await run_file(partial(take_back_grown, self.rule, self._clock.wall())):
            log.info("drop.taken_back", rule=self.rule.name, path=path)

    async def _clean(self) -> None:
        if self._clock.monotonic() < self._clean_at:
            return
        self._clean_at = self._clock.monotonic() + CLEAN
        rule = self.rule
        for folder, keep in ((rule.done_path, rule.keep_done), (rule.failed_path, rule.keep_failed)):
            try:
                removed = await run_file(partial(remove_old, rule, folder, keep, self._clock.wall()))
            except OcisyncError as exc:
                log.warning("drop.clean_failed", rule=rule.name, error=exc.message)
                continue
            if removed:
                log.info("drop.cleaned", rule=rule.name, folder=str(folder), files=len(removed))

    def _report_waiting(self, dropped: Input, reason: str) -> InputReport:
        return InputReport(self.rule.name, dropped.key, tuple(dropped.stamps), InputVerdict.WAITING, reason)

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.set()


def _newest_first(inputs: Iterable[Input]) -> list[Input]:
    """So that an older input mostly finds its names published, and the tag does not go there and back."""
    return sorted(inputs, key=age_of, reverse=True)


def _log(report: InputReport) -> None:
    facts = {"rule": report.rule, "input": report.key, "aftermath": report.aftermath}
    for warning in report.warnings:
        log.warning("drop.warned", warning=warning, **facts)
    if report.verdict is InputVerdict.WAITING:
        log.debug("drop.read", reason=report.reason, **facts)
    elif report.failure is None:
        log.info("drop.taken", verdict=report.verdict.value, published=report.published, **facts)
    else:
        log.warning("drop.failed", code=report.failure.code, error=report.failure.message, **facts)
