"""Cron expressions, and what clocks do to them."""

from datetime import UTC, datetime

import pytest

from ocisync.model.cron import Cron, parse_cron, parse_zone


def next_run(fields: str, zone: str, after: str) -> str:
    """In UTC, as text."""
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC).timestamp()
    return datetime.fromtimestamp(Cron(fields, parse_zone(zone)).next_after(moment), UTC).isoformat()[:16]


@pytest.mark.parametrize(
    ("fields", "zone", "after", "expected"),
    [
        ("0 3 * * *", "UTC", "2025-01-01T03:00", "2025-01-02T03:00"),
        ("0 3 * * *", "UTC", "2025-01-01T02:59:59", "2025-01-01T03:00"),
        ("0 3 * * *", "Europe/Berlin", "2025-01-01T00:00", "2025-01-01T02:00"),
        ("30 2 * * *", "Europe/Berlin", "2025-03-30T00:00", "2025-03-30T01:00"),  # 02:30 does not come that day
        ("30 2 * * *", "Europe/Berlin", "2025-10-26T00:00", "2025-10-26T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2025-10-26T00:30", "2025-10-27T01:30"),  # 02:30 comes twice
        ("*/15 * * * MON-FRI", "UTC", "2025-01-03T23:50", "2025-01-06T00:00"),
    ],
)
def test_the_next_time(fields: str, zone: str, after: str, expected: str) -> None:
    assert next_run(fields, zone, after) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [(" 0  3 * * * ", "0 3 * * *"), ("@daily", "0 0 * * *"), ("@Hourly", "0 * * * *")]
)
def test_what_is_understood(text: str, expected: str) -> None:
    assert parse_cron(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("0 0 3 * * *", "five fields"),
        ("61 * * * *", "bad minute"),
        ("x * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("@every 1h", "`interval:`"),
        ("@reboot", "five fields"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_cron(text)


@pytest.mark.parametrize("name", ["Mars/Olympus", "../../etc/passwd", "", "/etc/localtime"])
def test_unknown_zones_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="Europe/Berlin"):
        parse_zone(name)
