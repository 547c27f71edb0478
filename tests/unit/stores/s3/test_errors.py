"""What a store's refusal tells of clocks."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from ocisync.stores.s3.errors import S3Fault, error_from_fault


def refuse(date: str) -> str:
    error = error_from_fault(S3Fault(403, "RequestTimeTooSkewed", "", "", date), "s3://b", "put a")
    assert (error.code, error.retryable) == ("clock.skew", False)
    return error.message


@pytest.mark.parametrize(("offset", "told"), [(7200.5, "behind"), (-7200.5, "ahead of")])
def test_a_clock_that_differs_is_told_by_how_much(offset: float, told: str) -> None:
    message = refuse(formatdate(time.time() + offset, usegmt=True))
    assert message.startswith("s3://b: put a: RequestTimeTooSkewed: this machine's clock is 720")
    assert message.endswith(f" s {told} the store's: set it by NTP")


@pytest.mark.parametrize(
    "date", ["", "now", "Fri, 99 Foo 99999", "Sat, 01 Jan 0001 00:00:00 -0000", "Fri, 31 Dec 9999 23:59:59 -0000"]
)
def test_a_date_that_is_none_is_no_offset(date: str) -> None:
    assert refuse(date).endswith("the store's: set it by NTP")


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 -1400", "Sat, 01 Jan 0001 00:00:00 +1400"])
def test_a_date_at_an_end_of_time_is_one(date: str) -> None:
    assert "this machine's clock is " in refuse(date)
