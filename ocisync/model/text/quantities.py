"""Sizes, times and spans of time as people read them: one kind of unit everywhere. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def size_text(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration_text(seconds: float) -> str:
    """A span of time in its two largest units, such as 3d 4h; below a second it is "0s"."""
    rest, parts = int(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def short_duration(seconds: float) -> str:
    """A span of time in its largest unit, such as 3d or 12m."""
    return duration_text(seconds).partition(" ")[0]


def time_text(seconds: float, *, is_local: bool = False) -> str:
    """A time, in seconds since the epoch, in UTC or where this machine is; others tell also what no clock can show."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
        return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}" if is_local else f"{moment:%Y-%m-%d %H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return "after the year 9999" if seconds > 0 else "before the year 1"
