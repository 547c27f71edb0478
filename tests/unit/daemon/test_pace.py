"""Repositories of a whole registry that never change are asked less and less."""

from dataclasses import replace

from ocisync.daemon.pace import RepositoryPace
from ocisync.daemon.schedule import Schedule
from ocisync.sync.job import Job
from ocisync.sync.judging.acceptance import UNSIGNED, YOUNG, Judgement, Outcome
from ocisync.sync.reports import Failure, JobReport, TagReport, Verdict
from tests.unit.daemon.jobs import job

MINUTE = 60.0
RULE = Schedule("rule", (), 5 * MINUTE, longest=20 * MINUTE)
JOBS = tuple(job("rule", name) for name in ("quiet", "busy", "broken"))


def test_what_changes_or_fails_is_looked_at_in_each_run() -> None:
    now = 0.0
    pace = RepositoryPace(lambda: now)
    seen: dict[str, list[float]] = {"quiet": [], "busy": [], "broken": []}
    for _ in range(13):  # an hour, by runs of the shortest interval
        for due in pace.select(RULE, JOBS):
            assert isinstance(due, Job)
            name = due.target.repository
            seen[name].append(now / MINUTE)
            verdict = Verdict.COPIED if name == "busy" else Verdict.UNCHANGED
            failure = Failure("net.unreachable", "", "retry") if name == "broken" else None
            report = JobReport("rule", "", "", tags=[TagReport("1", verdict, "")], failure=failure)
            pace.observe(due, report)
        now += RULE.interval
    assert seen["busy"] == seen["broken"] == [5.0 * run for run in range(13)]
    assert seen["quiet"] == [0, 5, 10, 20, 35, 55]


def test_who_wants_all_gets_all_and_a_push_begins_anew() -> None:
    pace = RepositoryPace(lambda: 0.0)
    unchanged = JobReport("rule", "", "", tags=[TagReport("1", Verdict.UNCHANGED, "")])
    quiet = JOBS[0]
    pace.select(RULE, JOBS)
    for _ in range(3):
        pace.observe(quiet, unchanged)
    assert quiet not in pace.select(RULE, JOBS)
    assert quiet in pace.select(replace(RULE, longest=0.0), JOBS)
    part = replace(quiet, is_partial=True)
    pace.observe(part, unchanged)
    assert quiet not in pace.select(RULE, JOBS)
    pace.observe(part, JobReport("rule", "", "", tags=[TagReport("2", Verdict.COPIED, "")]))
    assert quiet in pace.select(RULE, JOBS)


def test_a_rule_without_a_range_is_left_alone() -> None:
    pace = RepositoryPace(lambda: 0.0)
    for _ in range(3):
        assert pace.select(replace(RULE, longest=RULE.interval), JOBS) == JOBS
        pace.observe(JOBS[0], JobReport("rule", "", ""))


def pending(code: str, until: float) -> JobReport:
    judgement = Judgement(Outcome.PENDING, code, "", until)
    return JobReport("rule", "", "", tags=[TagReport("1", Verdict.PENDING, "", judgement=judgement)])


def test_what_grows_old_is_looked_at_at_its_time_and_a_signature_is_waited_for() -> None:
    """An age of three days would else keep all repositories at the shortest interval for ever."""
    now = 0.0
    pace = RepositoryPace(lambda: now, lambda: now)
    seen: dict[str, list[float]] = {"quiet": [], "busy": []}
    for _ in range(13):
        for due in pace.select(RULE, JOBS[:2]):
            assert isinstance(due, Job)
            name = due.target.repository
            seen[name].append(now / MINUTE)
            young = pending(YOUNG, 50 * MINUTE) if now < 50 * MINUTE else JobReport("rule", "", "")
            pace.observe(due, pending(UNSIGNED, 90 * MINUTE) if name == "busy" else young)
        now += RULE.interval
    assert seen["busy"] == [5.0 * run for run in range(13)]
    assert seen["quiet"] == [0, 5, 10, 20, 35, 50]
