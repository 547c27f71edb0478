"""Times by the calendar: cron's five fields in a time zone. Pure; the zone is loaded by `parse_zone`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

ALIASES: Mapping[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = 5
_EXAMPLE = 'Write five fields in quotes: minute, hour, day of month, month, day of week, such as "30 3 * * *"'
_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression and the zone whose clocks it follows."""

    fields: str
    zone: tzinfo = UTC

    def next_after(self, moment: float) -> float:
        """The first time after a moment, in seconds since the epoch.

        As in Debian's cron, what falls into the hour that a clock skips runs right after it, and what falls into the
        one that comes twice runs once, unless minute or hour begin with a star.
        """
        return next(CronSim(self.fields, datetime.fromtimestamp(moment, self.zone))).timestamp()


def parse_cron(text: str) -> str:
    """Five fields, or `@daily` and the like spelled out; raises ValueError with the remedy."""
    fields = ALIASES.get(text.strip().lower(), " ".join(text.split()))
    if fields.startswith("@every"):
        raise ValueError(f"{text[:40]!r} is an interval. Write `interval:` in place of `schedule:`")
    if len(fields.split()) != _FIELDS:
        raise ValueError(f"{text[:60]!r} is not a cron expression. {_EXAMPLE}")
    try:
        next(CronSim(fields, _SOME_DAY))
    except CronSimError as exc:
        raise ValueError(f"{text[:60]!r} is not a cron expression: {str(exc).lower()}. {_EXAMPLE}") from exc
    except StopIteration:
        raise ValueError(f"{text[:60]!r} never comes. Look at its days and months") from None
    return fields


def parse_zone(name: str) -> tzinfo:
    """A zone of the system's database, by its name; raises ValueError with the remedy."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(
            f"{name[:60]!r} is not a time zone that this system knows. Write one such as Europe/Berlin, or UTC; "
            "the package tzdata brings them"
        ) from exc
