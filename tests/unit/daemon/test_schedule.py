"""When rules are due."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.daemon.schedule import FIRST_WAIT, LONGEST_WAIT, SHORTEST_WAIT, Schedule, first_wait, next_due
from ocisync.model.cron import Cron
from ocisync.state.rule_records import RuleStatus

SEEDS = st.integers(0, 2**32)
HOUR = 3600.0


def test_a_rule_that_never_ran_is_due_at_once() -> None:
    assert next_due(50.0, None, 0, HOUR, random.Random(1)) == 50.0


@given(SEEDS)
def test_after_success_the_interval_with_a_tenth_of_jitter(seed: int) -> None:
    assert 0.9 * HOUR <= next_due(0.0, 0.0, 0, HOUR, random.Random(seed)) <= 1.1 * HOUR


def test_rules_of_one_interval_spread() -> None:
    rng = random.Random(1)
    assert len({next_due(0.0, 0.0, 0, HOUR, rng) for _ in range(20)}) == 20


@given(SEEDS, st.integers(1, 1000), st.floats(0.1, 100 * HOUR))
def test_a_failing_rule_waits_between_the_floor_and_the_cap(seed: int, failures: int, interval: float) -> None:
    wait = next_due(0.0, 0.0, failures, interval, random.Random(seed))
    assert min(SHORTEST_WAIT, 0.9 * interval) <= wait <= min(max(interval, SHORTEST_WAIT), LONGEST_WAIT)


@given(SEEDS)
def test_the_first_retry_comes_soon(seed: int) -> None:
    assert next_due(0.0, 0.0, 1, HOUR, random.Random(seed)) <= FIRST_WAIT


def test_back_off_grows_with_full_jitter() -> None:
    rng = random.Random(1)
    means = [sum(next_due(0.0, 0.0, failures, HOUR, rng) for _ in range(400)) / 400 for failures in (2, 4, 6)]
    assert means[0] * 2 < means[1]
    assert means[1] * 2 < means[2]


@given(SEEDS, st.integers(0, 5))
def test_it_is_never_in_the_past(seed: int, failures: int) -> None:
    assert next_due(10 * HOUR, 0.0, failures, HOUR, random.Random(seed)) == 10 * HOUR


DAY = 24 * HOUR
NOON = 20_000 * DAY + 12 * HOUR  # UTC
AT_THREE = Schedule("rule", (), HOUR, cron=Cron("0 3 * * *"))


@pytest.mark.parametrize(
    ("status", "wait"),
    [
        (RuleStatus(), 15 * HOUR),
        (RuleStatus(last_started=NOON - DAY, last_success=NOON - DAY), 0.0),  # the time came while nobody was there
        (RuleStatus(last_started=NOON - HOUR, last_success=NOON - HOUR), 15 * HOUR),
        (RuleStatus(last_started=NOON - HOUR, last_failure=NOON - HOUR), 15 * HOUR),
        (RuleStatus(last_started=NOON - HOUR, last_failure=NOON - HOUR, failures=1, next_due=NOON + 60), 60.0),
        (RuleStatus(last_started=NOON - HOUR, last_success=NOON - 2 * HOUR), 0.0),  # cut short
        (RuleStatus(last_started=NOON + DAY, last_success=NOON + DAY), 15 * HOUR),  # by a clock that was ahead
    ],
)
def test_after_a_start_a_rule_of_the_calendar_catches_up_or_waits(status: RuleStatus, wait: float) -> None:
    assert first_wait(AT_THREE, status, NOON) == wait


def test_the_gap_between_two_runs() -> None:
    assert Schedule("rule", (), HOUR).gap(NOON) == HOUR
    assert AT_THREE.gap(NOON) == DAY
