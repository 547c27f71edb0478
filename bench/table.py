"""Tables in Markdown."""

from collections.abc import Iterable, Sequence

from bench.measure import Requests, Usage, median
from bench.numbers import MIB
from bench.record import Bench


def measured_table(bench: Bench) -> str:
    """Every case, phase and client: the medians, and the wall time as a multiple of ocisync's."""
    head = (
        "case",
        "phase",
        "client",
        "wall s",
        "× ocisync",
        "CPU s",
        "peak MiB",
        "source",
        "target",
        "MiB read",
        "MiB stored",
    )
    rows = [_row(bench, *key, median(runs)) for key, runs in sorted(bench.records.items())]
    return markdown(head, rows)


def _row(bench: Bench, case: str, phase: str, client: str, usage: Usage) -> tuple[str, ...]:
    ours = bench.get(case, phase, "ocisync")
    ratio = f"{usage.wall / ours.wall:.2f}" if ours else ""
    figures = (f"{usage.wall:.2f}", ratio, f"{usage.cpu:.2f}", f"{usage.peak / MIB:.0f}")
    sizes = (f"{usage.read / MIB:.1f}", f"{usage.stored / MIB:.1f}")
    return (case, phase, client, *figures, requests(usage.source), requests(usage.target), *sizes)


def requests(found: Requests) -> str:
    """Counts by kind, the most frequent first."""
    return ", ".join(f"{count} {kind}" for kind, count in found.most_common())


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns are aligned."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
