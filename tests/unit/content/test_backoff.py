"""The one rule by which everything that failed waits."""

import pytest

from ocisync.content.backoff import Backoff

QUARTER = Backoff(first=0.25, longest=2.0)


def test_the_ceiling_doubles_up_to_its_cap() -> None:
    assert [QUARTER.ceiling(failures) for failures in range(1, 7)] == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert Backoff(0.25, 30.0).ceiling(100_000) == 30.0


def test_jitter_takes_a_share_of_the_whole_wait() -> None:
    assert QUARTER.wait(3, 1.0) == 1.0
    assert QUARTER.wait(3, 0.5) == 0.5
    assert QUARTER.wait(3, 0.0) == 0.0


@pytest.mark.parametrize(("failures", "chance", "wait"), [(1, 0.0, 1.0), (3, 0.1, 1.0), (3, 0.5, 2.0), (9, 1.0, 60.0)])
def test_no_wait_is_shorter_than_the_shortest(failures: int, chance: float, wait: float) -> None:
    assert Backoff(1.0, 60.0, shortest=1.0).wait(failures, chance) == wait
