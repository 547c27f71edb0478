"""Whether an image may be taken, as a table."""

from datetime import datetime

import pytest

from ocisync.sync.judging.acceptance import (
    UNSIGNED,
    YOUNG,
    Acceptance,
    ImageDates,
    Outcome,
    SignatureVerdict,
    decide_acceptance,
    decide_converted,
)

NOW, DAY = 1_000_000.0, 24 * 3600.0
GOOD = SignatureVerdict(True, policy="ours", signer="key x", signed_at=NOW - 2 * DAY)
UNTIMED = SignatureVerdict(True, policy="ours", signer="key x")
BARE = SignatureVerdict(False, UNSIGNED, "no signature")
SIGNED, WARNS = Acceptance(("ours",)), Acceptance(("ours",), only_warns=True)
WAITS = Acceptance(("ours",), wait=900.0)
SEEN, MADE = Acceptance(min_age=3 * DAY), Acceptance(min_age=3 * DAY, age_of="created")
LOGGED = Acceptance(("ours",), min_age=3 * DAY, age_of="log")
JUST_NOW, LONG_AGO = ImageDates(NOW - 60, NOW - 60), ImageDates(NOW - 4 * DAY, NOW - 4 * DAY)


@pytest.mark.parametrize(
    ("wanted", "verdict", "dates", "outcome", "code"),
    [
        (SIGNED, GOOD, ImageDates(), Outcome.ACCEPTED, ""),
        (SIGNED, BARE, ImageDates(), Outcome.REFUSED, UNSIGNED),
        (WARNS, BARE, ImageDates(), Outcome.WARNED, UNSIGNED),
        (WAITS, BARE, JUST_NOW, Outcome.PENDING, UNSIGNED),
        (WAITS, BARE, LONG_AGO, Outcome.REFUSED, UNSIGNED),
        (WAITS, GOOD, JUST_NOW, Outcome.ACCEPTED, ""),
        (SEEN, None, JUST_NOW, Outcome.PENDING, YOUNG),
        (SEEN, None, LONG_AGO, Outcome.ACCEPTED, ""),
        (SEEN, None, ImageDates(), Outcome.REFUSED, YOUNG),
        (MADE, None, ImageDates(NOW - 4 * DAY, NOW - 60), Outcome.PENDING, YOUNG),
        (MADE, None, ImageDates(NOW - 60, NOW - 4 * DAY), Outcome.ACCEPTED, ""),
        (MADE, None, ImageDates(NOW - 4 * DAY, None), Outcome.REFUSED, YOUNG),  # it says nothing
        (MADE, None, ImageDates(NOW - 4 * DAY, NOW + DAY), Outcome.PENDING, YOUNG),  # it says something impossible
        (LOGGED, GOOD, LONG_AGO, Outcome.PENDING, YOUNG),
        (LOGGED, UNTIMED, LONG_AGO, Outcome.REFUSED, YOUNG),
        (LOGGED, BARE, LONG_AGO, Outcome.REFUSED, UNSIGNED),
    ],
)
def test_decisions(
    wanted: Acceptance, verdict: SignatureVerdict | None, dates: ImageDates, outcome: Outcome, code: str
) -> None:
    found = decide_acceptance(wanted, verdict, dates, NOW, is_fresh=True)
    assert (found.outcome, found.code) == (outcome, code)
    assert (found.until > NOW) == (outcome is Outcome.PENDING)


@pytest.mark.parametrize("made", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"])
def test_an_image_that_says_it_was_made_at_the_end_of_time_is_pending(made: str) -> None:
    dates = ImageDates(NOW, datetime.fromisoformat(made).timestamp())
    found = decide_acceptance(MADE, None, dates, NOW, is_fresh=True)
    assert (found.outcome, "after the year 9999" in found.reason) == (Outcome.PENDING, True)


@pytest.mark.parametrize(
    ("wanted", "outcome", "code"),
    [
        (SIGNED, Outcome.REFUSED, UNSIGNED),
        (WAITS, Outcome.REFUSED, UNSIGNED),  # none can come
        (WARNS, Outcome.WARNED, UNSIGNED),
        (SEEN, Outcome.REFUSED, YOUNG),
        (MADE, Outcome.REFUSED, YOUNG),
        (Acceptance(("ours",), only_warns=True, min_age=DAY), Outcome.REFUSED, YOUNG),
    ],
)
def test_of_what_is_converted_nothing_is_known(wanted: Acceptance, outcome: Outcome, code: str) -> None:
    found = decide_converted(wanted)
    assert (found.outcome, found.code, found.until) == (outcome, code, 0.0)
    assert "OCI archive" in found.reason


def test_what_the_target_has_is_not_asked_for_its_age_but_for_its_signature() -> None:
    assert decide_acceptance(SEEN, None, ImageDates(), NOW, is_fresh=False).outcome is Outcome.ACCEPTED
    assert decide_acceptance(LOGGED, UNTIMED, ImageDates(), NOW, is_fresh=False).outcome is Outcome.ACCEPTED
    assert decide_acceptance(WAITS, BARE, JUST_NOW, NOW, is_fresh=False).outcome is Outcome.REFUSED


def test_the_time_at_which_a_pending_image_is_taken() -> None:
    assert decide_acceptance(SEEN, None, JUST_NOW, NOW, is_fresh=True).until == NOW - 60 + 3 * DAY
    assert decide_acceptance(WAITS, BARE, JUST_NOW, NOW, is_fresh=True).until == NOW - 60 + 900
    assert decide_acceptance(LOGGED, GOOD, JUST_NOW, NOW, is_fresh=True).until == NOW + DAY
