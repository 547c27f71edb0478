"""Tells people of changes: gathers them for some seconds, sends one message on each channel, and tries again.

Nothing here is in a copy's way. Whoever reports only puts a value into memory; a task of its own sends. What is waiting
is bounded, and a channel that fails for hours costs a line in the log.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.abc import TaskGroup

from ocisync.content.backoff import Backoff
from ocisync.content.concurrency import Wakeup
from ocisync.drop.rule import InputReport
from ocisync.errors import OcisyncError
from ocisync.notify.channels import Channel
from ocisync.notify.events import EVENTS, Notice, StateTracker, merge_changes
from ocisync.state.history_records import HistoryRecords
from ocisync.state.rule_records import RuleView
from ocisync.sync.reports import JobReport, RunReport

GATHER = 3.0  # seconds in which changes become one message
LOOK = 15.0  # seconds between two looks at the lag of rules
RETRIES = Backoff(5.0, 600.0, shortest=1.0)  # seconds
ATTEMPTS = 12  # of one message; the last is about an hour and a half after the first
_MOST = 1000  # notices that wait for one channel

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A channel, and what it is told."""

    name: str
    channel: Channel
    events: frozenset[str] = frozenset(EVENTS)
    rules: tuple[str, ...] = ()  # expressions for whole names; empty: all

    def wants(self, notice: Notice) -> bool:
        """Whether a notice is for it."""
        is_meant = not self.rules or any(re.fullmatch(rule, notice.rule) for rule in self.rules)
        return is_meant and notice.event in self.events


@dataclass(slots=True)
class _Mailbox:
    """What waits for one channel."""

    subscription: Subscription
    notices: list[Notice] = field(default_factory=list)
    sending: list[Notice] = field(default_factory=list)
    changed: Wakeup = field(default_factory=Wakeup)
    is_served: bool = False
    is_closed: bool = False


def _ignore(channel: str, outcome: str) -> None:
    """Nobody counts."""


class NoticeSender:
    """Takes reports of rules, jobs and inputs, and tells people what changed.

    `lag_limits` is asked again and again which rule is late after how many seconds. What people were told is remembered
    in the state, so that a restart neither repeats it nor forgets that something has to become well.
    """

    def __init__(
        self,
        records: HistoryRecords,
        host: str,
        count: Callable[[str, str], None] = _ignore,
        gather: float = GATHER,
        *,
        is_shared: bool = False,
    ) -> None:
        """`is_shared`: other daemons have the same records, and each change is told by one of them."""
        self._is_shared = is_shared
        self._unclaimed: list[Notice] = []
        self._claim = Wakeup()
        self._records = records
        self._host = host
        self._count = count
        self._gather = gather
        self._tracker = StateTracker()
        self._boxes: dict[str, _Mailbox] = {}
        self._tasks: TaskGroup | None = None  # while it serves
        self._changes: list[Notice] = []  # of which the state does not know yet
        self._is_loaded = False
        self._early: list[Callable[[], Iterable[Notice]]] = []  # reports that came before the state was read

    def replace(self, subscriptions: Iterable[Subscription]) -> None:
        """Tell these from now on; what waits for one that had the same name before goes there."""
        wanted = {one.name: one for one in subscriptions}
        for name in self._boxes.keys() - wanted.keys():
            box = self._boxes.pop(name)
            box.is_closed = True
            box.changed.set()
        for name, subscription in wanted.items():
            self._boxes.setdefault(name, _Mailbox(subscription)).subscription = subscription
        self._serve_boxes()

    def observe_run(self, run: RunReport) -> None:
        """A run of a rule ended."""
        self._take(lambda: self._tracker.see_run(run, time.time()))

    def observe_job(self, report: JobReport) -> None:
        """A job ended. Images that were refused are told by the code of `errors.SignatureError`."""
        self._take(lambda: self._tracker.see_images(report, time.time()))

    def observe_input(self, report: InputReport) -> None:
        """An input was processed."""
        self._take(lambda: self._tracker.see_input(report, time.time()))

    async def serve(
        self, views: Callable[[], Mapping[str, RuleView]], lag_limits: Callable[[], Mapping[str, float]]
    ) -> None:
        """Send until cancelled."""
        await self._load()
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for box in self._boxes.values():
                box.is_served = False  # if a defect ended it before
            self._serve_boxes()
            if self._is_shared:
                tasks.start_soon(self._claim_all)
            while True:
                self._take(lambda: self._tracker.see_statuses(views(), time.time()))
                self._take(lambda: self._tracker.see_lag(views(), lag_limits(), time.time()))
                await self._save()
                await anyio.sleep(LOOK)

    def _take(self, see: Callable[[], Iterable[Notice]]) -> None:
        if not self._is_loaded:
            self._early = [*self._early[-_MOST:], see]
            return
        for notice in see():
            if self._is_shared:
                self._unclaimed.append(notice)
                self._claim.set()
            else:
                self._changes.append(notice)
                self._hand_out(notice)

    def _hand_out(self, notice: Notice) -> None:
        for box in self._boxes.values():
            if box.subscription.wants(notice):
                box.notices = [*box.notices[-_MOST:], notice]
                box.changed.set()

    async def _claim_all(self) -> None:
        """Tell what no other daemon has told; it is on record before it is sent."""
        while True:
            await self._claim.wait(math.inf)
            notices, self._unclaimed = self._unclaimed, []
            for notice in notices:
                try:
                    is_ours = await self._records.claim_notice(notice.subject, notice.state, time.time())
                except OcisyncError as exc:
                    log.warning("notices.unwritable", code=exc.code, error=exc.message)
                    is_ours = True  # rather twice than not at all
                if is_ours:
                    self._hand_out(notice)

    async def _load(self) -> None:
        try:
            self._tracker.load(await self._records.notices())
        except OcisyncError as exc:
            log.warning("notices.unreadable", code=exc.code, error=exc.message)
        self._is_loaded = True
        early, self._early = self._early, []
        for see in early:
            self._take(see)

    async def _save(self) -> None:
        """Put on record what people know; what is still to be sent would be lost with the process."""
        waiting = {notice.subject for box in self._boxes.values() for notice in (*box.notices, *box.sending)}
        changes = [one for one in self._changes if one.subject not in waiting]
        self._changes = [one for one in self._changes if one.subject in waiting]
        if not changes:
            return
        try:
            await self._records.save_notices({one.subject: one.state for one in changes}, time.time())
        except OcisyncError as exc:
            log.warning("notices.unwritable", code=exc.code, error=exc.message)

    def _serve_boxes(self) -> None:
        for box in self._boxes.values():
            if self._tasks is not None and not box.is_served:
                box.is_served = True
                self._tasks.start_soon(self._serve_box, box)

    async def _serve_box(self, box: _Mailbox) -> None:
        failures = 0
        while not box.is_closed:
            await box.changed.wait(math.inf)
            await anyio.sleep(self._gather)
            while box.notices and not box.is_closed:
                box.sending, box.notices = merge_changes(box.notices), []
                if not box.sending or await self._send(box.subscription, box.sending, failures + 1):
                    failures, box.sending = 0, []
                    continue
                failures += 1
                if failures >= ATTEMPTS:
                    log.error("notify.given_up", channel=box.subscription.name, notices=len(box.sending))
                    failures, box.sending = 0, []
                    continue
                box.notices, box.sending = [*box.sending, *box.notices], []
                await anyio.sleep(RETRIES.wait(failures, random.random()))
            await self._save()

    async def _send(self, subscription: Subscription, notices: Sequence[Notice], attempt: int) -> bool:
        """Whether nothing is left to be done: it was taken, or it never will be."""
        try:
            await subscription.channel.send(notices, self._host)
        except OcisyncError as exc:
            facts = {"channel": subscription.name, "code": exc.code, "error": exc.message, "attempt": attempt}
            log.warning("notify.failed", retried=exc.retryable, **facts)
            self._count(subscription.name, "failed")
            return not exc.retryable
        except Exception:
            log.exception("notify.crashed", channel=subscription.name)
            self._count(subscription.name, "failed")
            return True
        log.debug("notify.sent", channel=subscription.name, notices=len(notices))
        self._count(subscription.name, "sent")
        return True
