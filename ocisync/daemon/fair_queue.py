"""Whose turn it is: waiting jobs, round robin by rule, then by target repository, each once. No tasks, no waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import anyio

from ocisync.daemon.schedule import AnyJob
from ocisync.sync.reports import JobReport

Key = tuple[object, ...]


@dataclass(slots=True)
class QueuedJob:
    """A job on its way, and those who wait for its report."""

    job: AnyJob
    report: JobReport | None = None  # None when done: it was stopped
    done: anyio.Event = field(default_factory=anyio.Event)


class FairQueue:
    """Waiting jobs as rule -> lock -> key, each in the order of their turns.

    Round robin over rules, then over target repositories: whichever has had its turn goes to the end of its dictionary,
    which keeps the order of insertion. So a rule with ten thousand jobs delays another's first job by one job, and
    finding the next costs the same however many wait.
    """

    def __init__(self) -> None:
        self._rules: dict[str, dict[str, dict[Key, QueuedJob]]] = {}
        self.count = 0

    def find(self, job: AnyJob) -> QueuedJob | None:
        """The entry of an equal job."""
        return self._rules.get(job.rule, {}).get(job.lock_name, {}).get(job.key)

    def add(self, entry: QueuedJob) -> None:
        """Put a job behind the others of its rule and lock."""
        locks = self._rules.setdefault(entry.job.rule, {})
        locks.setdefault(entry.job.lock_name, {})[entry.job.key] = entry
        self.count += 1

    def pop(self, may_run: Callable[[AnyJob], bool], is_free: Callable[[str], bool]) -> QueuedJob | None:
        """Take the next job: of the first rule that may run, at the first target repository that is free.

        The rule and the repository then go behind all others.
        """
        for rule, locks in self._rules.items():
            lock = next(filter(is_free, locks), None)
            if lock is not None and may_run(next(iter(locks[lock].values())).job):
                return self._take(rule, lock)
        return None

    def drain(self) -> Iterator[QueuedJob]:
        """Take out everything."""
        rules, self._rules, self.count = self._rules, {}, 0
        return (entry for locks in rules.values() for entries in locks.values() for entry in entries.values())

    def by_rule(self) -> dict[str, int]:
        """How many jobs of each rule wait."""
        return {rule: sum(map(len, locks.values())) for rule, locks in self._rules.items()}

    def _take(self, rule: str, lock: str) -> QueuedJob:
        locks = self._rules.pop(rule)
        entries = locks.pop(lock)
        entry = entries.pop(next(iter(entries)))
        self.count -= 1
        if entries:
            locks[lock] = entries
        if locks:
            self._rules[rule] = locks
        return entry
