"""Times as people read them; sizes and spans are tested where they are shown."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ocisync.model.text.quantities import time_text


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("seconds", "here", "text"),
    [
        (0, "1970-01-01 09:00:00 JST", "1970-01-01 00:00:00Z"),
        (1e9, "2001-09-09 10:46:40 JST", "2001-09-09 01:46:40Z"),
        (253402300799, "after the year 9999", "9999-12-31 23:59:59Z"),
        (9e18, "after the year 9999", "after the year 9999"),
        (float("inf"), "after the year 9999", "after the year 9999"),
        (-62135596800, "1-01-01 09:00:00 JST", "1-01-01 00:00:00Z"),
        (-9e18, "before the year 1", "before the year 1"),
    ],
)
def test_times(in_tokyo: None, seconds: float, here: str, text: str) -> None:
    assert (time_text(seconds, is_local=True), time_text(seconds)) == (
        here.replace("0001", "1"),
        text.replace("0001", "1"),
    )
