"""The dispatcher of pushes, with a clock that the test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from ocisync.daemon.generation import Generation, Observers
from ocisync.daemon.push_dispatcher import MOST_TAGS, SETTLE, PushDispatcher
from ocisync.daemon.rule_set import RuleSet
from ocisync.daemon.schedule import FIRST_WAIT, AnyJob, Schedule
from ocisync.daemon.webhooks.payloads import Push
from ocisync.errors import NetworkError
from ocisync.model.locator import ViewLocator
from ocisync.state.rule_records import MemoryRecords, RuleStatus
from ocisync.sync.job import Job, WritePolicy
from ocisync.sync.judging.acceptance import Acceptance
from ocisync.sync.referrers.referrer_set import ReferrerChoice
from ocisync.sync.reports import JobReport
from ocisync.sync.select import TagSelection, TagSet
from tests.drop_archives import NamedArchives
from tests.unit.daemon.clocks import TestClock, until
from tests.unit.daemon.jobs import FunctionRunner, Gate, job

HOUR = 3600.0
WITH_SIGNATURES = ReferrerChoice(digest_tags=True)
DEMANDS_SIGNATURES = Acceptance(policies=("ours",))


class Daemon:
    """A dispatcher before one generation of rules; the rules themselves are not due."""

    def __init__(self, *jobs: Job, gate: Gate | None = None) -> None:
        self.gate = gate or Gate(is_open=True)
        self.error: NetworkError | None = None
        self.clock = TestClock()
        self.records = MemoryRecords()
        self.triggered: list[tuple[str, float]] = []
        self.generation = self.next_generation(*jobs)
        self.dispatcher = PushDispatcher(lambda: self.generation, self.clock)

    def next_generation(self, *jobs: Job) -> Generation:
        schedules = tuple(Schedule(one.rule, (one,), HOUR) for one in jobs)
        rules = RuleSet(schedules, (), FunctionRunner(self.run_job), NamedArchives(), workers=4)
        made = Generation(rules, _State(self.records), Observers())  # type: ignore[arg-type]
        made.scheduler.trigger = self.trigger  # type: ignore[method-assign]
        return made

    def trigger(self, rule: str, within: float = 0.0) -> bool:
        self.triggered.append((rule, within))
        return True

    async def run_job(self, wanted: AnyJob) -> JobReport:
        report = await self.gate(wanted)
        if self.error is not None:
            raise self.error
        return report

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with anyio.fail_after(100):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.generation.queue.run, FunctionRunner(self.run_job), 4)
                tasks.start_soon(self.dispatcher.serve)
                yield
                tasks.cancel_scope.cancel()

    async def settle(self) -> None:
        await self.let_pass(SETTLE)

    async def let_pass(self, seconds: float) -> None:
        await until(lambda: bool(self.clock.sleeping))
        self.clock.advance(seconds)
        await until(lambda: all(due > self.clock.now for due in self.clock.sleeping))

    @property
    def looked(self) -> list[tuple[str, Mapping[str, str] | None]]:
        return [(started.rule, started.tags.literal) for started in self.gate.started]


class _State:
    """The part of the state that a generation of rules without drop folders asks for."""

    def __init__(self, records: MemoryRecords) -> None:
        self.rules = records
        self.inputs = None


def push(tag: str = "1", repository: str = "repo", registry: str = "") -> Push:
    return Push(repository, tag, registry)


async def test_a_push_has_only_its_tag_looked_at() -> None:
    daemon = Daemon(job(), job("other", "elsewhere"))
    async with daemon.running():
        assert daemon.dispatcher.accept([push()]) == ["rule"]
        await daemon.settle()
        await until(lambda: len(daemon.gate.finished) == 1)
    assert daemon.looked == [("rule", {"1": "1"})]


async def test_a_burst_is_one_look_at_all_its_tags() -> None:
    daemon = Daemon(job())
    async with daemon.running():
        for tag in ("1", "2", "1", "3"):
            daemon.dispatcher.accept([push(tag)])
        await daemon.settle()
        await until(lambda: len(daemon.gate.finished) == 1)
    assert daemon.looked == [("rule", {"1": "1", "2": "2", "3": "3"})]


async def test_what_comes_during_a_look_is_one_more_look() -> None:
    daemon = Daemon(job(), gate=Gate())
    async with daemon.running():
        daemon.dispatcher.accept([push("1")])
        await daemon.settle()
        await daemon.gate.until_started(1)
        for tag in ("2", "3"):
            daemon.dispatcher.accept([push(tag)])
        await daemon.settle()
        daemon.gate.open()
        await daemon.settle()
        await until(lambda: len(daemon.gate.finished) == 2)
    assert [set(tags or ()) for _, tags in daemon.looked] == [{"1"}, {"2", "3"}]


async def test_a_tag_that_no_rule_selects_is_not_looked_at() -> None:
    daemon = Daemon(job(tags=TagSelection(sets=(TagSet(("3.*",), ("3.*-rc",)),))))
    assert daemon.dispatcher.accept([push("2.0"), push("3-rc")]) == []
    assert daemon.dispatcher.accept([push("3.1")]) == ["rule"]
    assert daemon.dispatcher.accept([push("3.1", registry="else.example")]) == []


async def test_a_push_without_a_tag_has_everything_looked_at() -> None:
    selection = TagSelection(sets=(TagSet(("3.*",)),))
    daemon = Daemon(job(tags=selection))
    async with daemon.running():
        assert daemon.dispatcher.accept([push("")]) == ["rule"]
        await daemon.settle()
        await until(lambda: len(daemon.gate.finished) == 1)
    assert daemon.gate.started[0].tags == selection


async def test_too_many_tags_are_everything() -> None:
    daemon = Daemon(job())
    async with daemon.running():
        daemon.dispatcher.accept([push(str(number)) for number in range(MOST_TAGS + 1)])
        await daemon.settle()
        await until(lambda: len(daemon.gate.finished) == 1)
    assert daemon.looked == [("rule", None)]


async def test_one_tag_of_a_rule_can_be_asked_for() -> None:
    daemon = Daemon(job(tags=TagSelection(literal={"stable": "1"})), job("other"))
    async with daemon.running():
        assert not daemon.dispatcher.ask("rule", "2")
        assert not daemon.dispatcher.ask("unknown", "1")
        assert daemon.dispatcher.ask("rule", "1")
        await daemon.settle()
        await until(lambda: len(daemon.gate.finished) == 1)
    assert daemon.looked == [("rule", {"stable": "1"})]


async def test_one_repository_of_a_rule_can_be_asked_for() -> None:
    daemon = Daemon(job())

    def follow(host: str, repository: str) -> list[Job]:
        return [] if host else [job("whole", repository, TagSelection(sets=(TagSet(("1.*",)),)))]

    daemon.generation.rules = replace(daemon.generation.rules, runner=FunctionRunner(daemon.run_job, follow=follow))
    assert not daemon.dispatcher.ask("rule", "", "elsewhere")
    assert not daemon.dispatcher.ask("rule", "1", "elsewhere")
    assert not daemon.dispatcher.ask("whole", "1")
    assert not daemon.dispatcher.ask("whole", "2", "new")
    assert daemon.dispatcher.ask("whole", "1.5", "new")
    async with daemon.running():
        assert daemon.dispatcher.ask("rule", "", "repo")
        await daemon.settle()
        await until(lambda: len(daemon.gate.finished) == 1)
    assert daemon.looked == [("rule", None)]


async def test_a_converted_source_is_known_too() -> None:
    daemon = Daemon(replace(job(), source=ViewLocator(job().source, format="oci")))
    assert daemon.dispatcher.accept([push()]) == ["rule"]


async def test_a_signature_has_everything_looked_at_where_signatures_go_along() -> None:
    signature = push(f"sha256-{'0' * 64}.sig")
    signed = replace(job("signed"), tags=TagSelection(sets=(TagSet(allow=("v.*",)),)), referrers=WITH_SIGNATURES)
    bare = replace(signed, rule="bare", referrers=ReferrerChoice())
    demanding = replace(bare, rule="demanding", acceptance=DEMANDS_SIGNATURES)
    daemon = Daemon(signed, bare, demanding)
    async with daemon.running():
        assert daemon.dispatcher.accept([signature]) == ["signed", "demanding"]
        await daemon.settle()
        await until(lambda: len(daemon.gate.finished) == 2)
    assert sorted(daemon.looked) == [("demanding", None), ("signed", None)]


async def test_what_is_pushed_without_a_tag_is_of_interest_to_rules_with_referrers() -> None:
    signed = replace(job("signed"), referrers=ReferrerChoice(referrers=True))
    demanding = replace(job("demanding"), acceptance=DEMANDS_SIGNATURES)
    daemon = Daemon(signed, replace(signed, rule="by tag", referrers=WITH_SIGNATURES), job("bare"), demanding)
    async with daemon.running():
        assert daemon.dispatcher.accept([replace(push(""), is_untagged=True)]) == ["signed", "demanding"]
        await daemon.settle()
        await until(lambda: len(daemon.gate.finished) == 2)
    assert sorted(daemon.looked) == [("demanding", None), ("signed", None)]


async def test_a_push_has_nothing_pruned() -> None:
    daemon = Daemon(replace(job(), policy=WritePolicy(prune=True, prune_limit=1.0, backup="old-{tag}")))
    async with daemon.running():
        daemon.dispatcher.accept([push()])
        await daemon.settle()
        await until(lambda: len(daemon.gate.finished) == 1)
    assert daemon.gate.started[0].policy == WritePolicy(prune=False, prune_limit=1.0, backup="old-{tag}")


async def test_a_look_that_failed_is_left_to_the_rule_soon() -> None:
    daemon = Daemon(job())
    daemon.error = NetworkError("registry.example: connection refused")
    async with daemon.running():
        daemon.dispatcher.accept([push()])
        await daemon.settle()
        await until(lambda: bool(daemon.triggered))
    assert daemon.triggered == [("rule", FIRST_WAIT)]


async def test_what_a_reload_interrupts_is_looked_at_by_the_next_rules() -> None:
    daemon = Daemon(job())
    async with daemon.running():
        daemon.generation.queue.close()
        daemon.dispatcher.accept([push()])
        await daemon.settle()
        await until(lambda: bool(daemon.clock.sleeping))
        assert daemon.looked == []
        daemon.generation = daemon.next_generation(job())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(daemon.generation.queue.run, FunctionRunner(daemon.run_job), 4)
            await daemon.let_pass(1)
            await daemon.settle()
            await until(lambda: len(daemon.gate.finished) == 1)
            tasks.cancel_scope.cancel()
    assert daemon.looked == [("rule", {"1": "1"})]


@pytest.mark.parametrize("settled", [False, True])
async def test_what_a_stop_interrupts_makes_its_rule_due_at_the_next_start(settled: bool) -> None:
    daemon = Daemon(job(), job("other", "elsewhere"), gate=Gate())
    daemon.records.statuses["rule"] = daemon.records.statuses["other"] = RuleStatus(last_success=1.0, next_due=9e9)
    async with daemon.running():
        daemon.dispatcher.accept([push()])
        if settled:
            await daemon.settle()
            await daemon.gate.until_started(1)
        await daemon.dispatcher.persist_pending(daemon.records)
    dues = {rule: status.next_due or 0.0 for rule, status in daemon.records.statuses.items()}
    assert 1.7e9 < dues["rule"] < 8e9
    assert dues["other"] == 9e9


async def test_a_repository_of_a_whole_registry_is_looked_at_also_when_it_is_new() -> None:
    daemon = Daemon()

    def follow(host: str, repository: str) -> list[Job]:
        return [job("whole", repository)] if (host, repository) == ("registry.example", "new") else []

    daemon.generation.rules = replace(daemon.generation.rules, runner=FunctionRunner(daemon.run_job, follow=follow))
    async with daemon.running():
        assert daemon.dispatcher.accept([push("1", "new"), push("1", "other", "registry.example")]) == []
        assert daemon.dispatcher.accept([push("1", "new", "registry.example")]) == ["whole"]
        await daemon.settle()
        await until(lambda: len(daemon.gate.finished) == 1)
    assert daemon.looked == [("whole", {"1": "1"})]
