"""The last day as small pictures: geometry for inline SVG. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ocisync.model.text.quantities import short_duration, size_text
from ocisync.state.history_records import Sample

WIDTH, HEIGHT = 288.0, 60.0  # of the drawing; a sample of five minutes is one unit wide
_DAY = 86400.0  # seconds
_TOP = 4.0  # units that stay free above the largest value


@dataclass(frozen=True, slots=True)
class Picture:
    """One drawing: paths in a box of WIDTH by HEIGHT, and what is told beside it."""

    title: str
    value: str  # what the day came to
    peak: str  # what the largest value is
    paths: tuple[tuple[str, str], ...]  # class -> path
    is_empty: bool


def draw_day(samples: Sequence[Sample], now: float) -> Sequence[Picture]:
    """Throughput, images and delay."""
    sent, copied = sum(one.bytes for one in samples), sum(one.copied for one in samples)
    failed, late = sum(one.failed for one in samples), samples[-1].late if samples else 0.0
    speeds = [one.bytes / max(1.0, one.seconds) for one in samples]
    counts = [float(one.copied + one.failed) for one in samples]
    lates = [one.late for one in samples]
    failures = f", {failed} failed" if failed else ""
    return [
        _picture(
            "Sent", size_text(sent), lambda top: f"peak {size_text(top)}/s", speeds, (("line", speeds),), samples, now
        ),
        _picture(
            "Images copied",
            f"{copied:,}{failures}",
            lambda top: f"peak {top:,.0f} in 5 min",
            counts,
            (("line", counts), ("bad", [float(one.failed) for one in samples])),
            samples,
            now,
        ),
        _picture(
            "Longest delay",
            short_duration(late) if late >= 60 else "none",
            lambda top: f"peak {short_duration(top)}",
            lates,
            (("slow", lates),),
            samples,
            now,
        ),
    ]


def _picture(
    title: str,
    value: str,
    tell_peak: Callable[[float], str],
    heights: Sequence[float],
    layers: Sequence[tuple[str, Sequence[float]]],
    samples: Sequence[Sample],
    now: float,
) -> Picture:
    top = max(heights, default=0.0)
    paths = tuple((name, _bars(samples, values, top, now)) for name, values in layers)
    return Picture(title, value, tell_peak(top) if top else "", paths, not top)


def _bars(samples: Sequence[Sample], values: Sequence[float], top: float, now: float) -> str:
    """One bar for each sample, as wide as it lasted."""
    if not top:
        return ""
    path = []
    for sample, value in zip(samples, values, strict=True):
        if value <= 0:
            continue
        right = WIDTH * (1 - (now - sample.at) / _DAY)
        left = max(0.0, right - max(0.8, WIDTH * sample.seconds / _DAY))
        high = HEIGHT - max(1.0, (HEIGHT - _TOP) * value / top)
        path.append(f"M{left:.1f} {HEIGHT:g}V{high:.1f}H{max(right, left + 0.8):.1f}V{HEIGHT:g}Z")
    return "".join(path)
