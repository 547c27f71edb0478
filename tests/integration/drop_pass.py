"""Two passes over a drop folder whose jobs only write down that they ran: what the kill tests kill.

`python -m tests.integration.drop_pass FOLDER keep|move|delete good|bad`.
"""

import sys
from pathlib import Path
from typing import Any

import anyio

from ocisync.daemon.clock import SystemClock
from ocisync.drop.process import InputProcessor
from ocisync.drop.rule import DropRule, DropTarget
from ocisync.drop.watcher import DropWatcher
from ocisync.state.open import open_state
from ocisync.sync.job import Job
from ocisync.sync.reports import Failure, JobReport
from tests.drop_archives import NamedArchives


class Later(SystemClock):
    """A minute later than it is."""

    def wall(self) -> float:
        """Seconds since the epoch."""
        return super().wall() + 60


async def main(root: Path, done: Any, is_bad: bool) -> None:
    """Pass twice; `done` is the rule's."""

    async def run(job: Job) -> JobReport:
        with (root / "runs").open("a") as runs:
            runs.write(job.lock_name + "\n")
        report = JobReport(job.rule, str(job.source), str(job.target))
        report.failure = Failure("archive.invalid", "it is no archive", "quarantine") if is_bad else None
        return report

    rule = DropRule("builds", root / "drop", (DropTarget("local"),), done=done, stable=0.0, settle=0.0)
    async with open_state(root / "state") as state:
        processor = InputProcessor(rule, state.inputs, NamedArchives(), run, Later())
        for _ in range(2):
            await DropWatcher(processor).pass_once(patience=False)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "bad")
