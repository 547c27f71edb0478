"""The daemon's notifier: begun when a configuration first asks for it, and told of every reload."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ocisync.config.models import Config
from ocisync.content.concurrency import Wakeup
from ocisync.drop.rule import InputReport
from ocisync.state.history_records import HistoryRecords
from ocisync.state.rule_records import RuleView
from ocisync.sync.reports import JobReport, RunReport

if TYPE_CHECKING:  # who tells nobody does not pay for it
    from ocisync.notify.notice_sender import NoticeSender


class DaemonNotifier:
    """Passes reports on, where somebody is to be told."""

    def __init__(
        self,
        records: HistoryRecords,
        count: Callable[[str, str], None],
        views: Callable[[], Mapping[str, RuleView]],
    ) -> None:
        self._records = records
        self._count = count
        self._views = views
        self._late_after: float | None = None
        self._sender: NoticeSender | None = None
        self._begun = Wakeup()

    def use(self, config: Config) -> None:
        """Tell those whom this configuration names."""
        self._late_after = config.daemon.late_after
        if self._sender is None and not config.notify:
            return
        from ocisync.notify.notice_sender import NoticeSender
        from ocisync.wiring.notify_channels import subscriptions

        if self._sender is None:
            is_shared = bool(config.dsn)
            self._sender = NoticeSender(self._records, socket.gethostname(), self._count, is_shared=is_shared)
            self._begun.set()
        self._sender.replace(subscriptions(config))

    def observe_run(self, run: RunReport) -> None:
        """A run of a rule ended."""
        if self._sender is not None:
            self._sender.observe_run(run)

    def observe_job(self, report: JobReport) -> None:
        """A job ended."""
        if self._sender is not None:
            self._sender.observe_job(report)

    def observe_input(self, report: InputReport) -> None:
        """An input was processed."""
        if self._sender is not None:
            self._sender.observe_input(report)

    async def serve(self) -> None:
        """Send until cancelled."""
        while self._sender is None:
            await self._begun.wait(math.inf)
        await self._sender.serve(self._views, self._list_limits)

    def _list_limits(self) -> Mapping[str, float]:
        return {rule: view.lag_limit(self._late_after) for rule, view in self._views().items()}
