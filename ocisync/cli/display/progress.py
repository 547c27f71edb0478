"""Progress: bars on a terminal, plain lines elsewhere. Always on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ocisync.cli.display.output import printable, warn
from ocisync.sync.context import Progress


class LineProgress(Progress):
    """One line per tag, for logs and pipes."""

    def tag_finished(self, target: str, tag: str, verdict: str) -> None:
        """Say what became of a tag, unless nothing did."""
        if verdict == "unchanged":
            return
        warn(f"{printable(target.removeprefix('target:'))}:{printable(tag)} {verdict}")

    def held_up(self, reason: str) -> None:
        """Say why nothing moves."""
        warn(reason)


@contextmanager
def progress(is_quiet: bool = False) -> Iterator[Progress]:
    """The display that fits standard error."""
    if is_quiet:
        yield Progress()
    elif sys.stderr.isatty():
        from ocisync.cli.display.progress_bars import TerminalProgress

        with TerminalProgress() as bars:
            yield bars
    else:
        yield LineProgress()
