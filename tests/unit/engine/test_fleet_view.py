"""What daemons tell each other of their jobs, and how rules fare over all of them."""

from __future__ import annotations

from ocisync.daemon.schedule import Schedule
from ocisync.daemon.status.activity import RunningJob
from ocisync.daemon.status.history import EVERY, merge_samples
from ocisync.engine.fleet_view import FleetView, read_jobs, write_jobs
from ocisync.engine.follow_table import RuleCourse
from ocisync.state.history_records import Sample
from ocisync.state.rule_records import RuleStatus

JOB = RunningJob("r", "docker://a.example/app", "target:t/app", 1000.0, ("v1", "v2"), 3, 1, 5, 10, 2.5, 0.0)


def test_jobs_are_told_to_other_daemons_and_those_of_another_version_are_left_out() -> None:
    assert read_jobs(write_jobs([JOB])) == [JOB]
    assert read_jobs('[{"rule": "r"}]') == []
    assert read_jobs("not JSON") == []


def test_a_rule_runs_and_is_wanted_wherever_a_unit_of_it_is() -> None:
    fleet = FleetView({"r": RuleStatus(last_success=900.0)}, {"r": RuleCourse(2, is_wanted=True, waiting=3)})
    view = fleet.view(Schedule("r", (), 60.0), since=5000.0, now=1000.0)
    assert (view.lag, view.gap, view.is_running, view.is_wanted) == (100.0, 60.0, True, True)
    assert fleet.waiting == 3
    unknown = fleet.view(Schedule("s", (), 60.0), since=5000.0, now=1000.0)
    assert (unknown.lag, unknown.is_running, unknown.status) == (5000.0, False, RuleStatus())


def test_a_whole_registry_is_as_late_as_its_slowest_repository_may_be() -> None:
    fleet = FleetView({"r": RuleStatus(last_success=900.0, interval=600.0)})
    assert fleet.view(Schedule("r", (), 60.0, longest=3600.0), 0.0, 1000.0).gap == 600.0
    assert fleet.view(Schedule("r", (), 60.0), 0.0, 1000.0).gap == 60.0


def test_samples_of_several_daemons_are_one() -> None:
    first, second = Sample(EVERY, 200.0, 10, 1, 1, 0, 5.0), Sample(EVERY + 0.2, 300.0, 20, 2, 0, 1, 3.0)
    later = Sample(2 * EVERY, 300.0, 1, 1, 0, 0, 0.0)
    assert merge_samples([first, second, later]) == [Sample(EVERY + 0.2, EVERY, 30, 3, 1, 1, 5.0), later]
