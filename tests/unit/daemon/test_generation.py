"""One generation of rules: what ends a part of it ends nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
from structlog.testing import capture_logs

from ocisync.daemon.generation import Generation, Observers
from ocisync.daemon.rule_set import RuleSet
from ocisync.daemon.schedule import AnyJob, Schedule
from ocisync.daemon.supervision import Supervisor
from ocisync.drop.rule import DropRule, DropTarget, InputReport
from ocisync.state.input_records import InputRecord, InputRecords
from ocisync.state.open import open_state
from ocisync.sync.reports import JobReport
from tests.drop_archives import NamedArchives
from tests.unit.daemon.clocks import TestClock, until
from tests.unit.daemon.jobs import FunctionRunner, job


@dataclass(frozen=True)
class Flaky(InputRecords):
    """Records that fail first, in ways that nobody expected."""

    defects: list[Exception] = field(default_factory=list)

    async def of_rule(self, rule: str) -> Mapping[str, InputRecord]:
        if self.defects:
            raise self.defects.pop()
        return await super().of_rule(rule)


async def test_a_folder_that_a_defect_ends_is_served_again_and_other_rules_never_stop(tmp_path: Path) -> None:
    clock, ran, taken = TestClock(), list[str](), list[InputReport]()
    supervisor = Supervisor(clock)

    async def run(wanted: AnyJob) -> JobReport:
        ran.append(wanted.rule)
        return JobReport(wanted.rule, "", "")

    drop = DropRule("builds", _folder_with_an_archive(tmp_path), (DropTarget("local"),), stable=0.0, rescan=0.1)
    mirror = job("mirror")
    rules = RuleSet((Schedule("mirror", (mirror,), 3600.0),), (drop,), FunctionRunner(run), NamedArchives(), workers=2)
    async with open_state(tmp_path / "state") as opened:
        state = replace(opened, inputs=Flaky(opened.inputs._database, [KeyError(), KeyError()]))
        generation = Generation(rules, state, Observers(input=taken.append), supervisor)
        with capture_logs() as logs, anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(generation.run)
                for pause in (1.0, 2.0):
                    await until(lambda: bool(clock.sleeping))
                    (reason,) = supervisor.failed_parts()
                    assert reason.startswith("the drop folder of rule builds was ended by a defect (KeyError)")
                    clock.advance(pause)
                    await until(lambda: not clock.sleeping or clock.sleeping[0] > clock.now)
                while not taken:  # noqa: ASYNC110 (what is waited for has no event)
                    await anyio.sleep(0.01)
                generation.stop(1.0)
    assert [report.key for report in taken] == ["app/1.tar"]
    assert {"mirror", "builds"} <= set(ran)
    assert [line["part"] for line in logs if line["event"] == "part.failed"] == ["the drop folder of rule builds"] * 2
    assert supervisor.failed_parts() == ()


def _folder_with_an_archive(tmp_path: Path) -> Path:
    path = tmp_path / "drop/app/1.tar"
    path.parent.mkdir(parents=True)
    path.write_text("an archive")
    return tmp_path / "drop"
