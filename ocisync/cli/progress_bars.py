"""Bars on a terminal. Imported where there is one: rich takes its time."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from ocisync.cli.output import printable
from ocisync.logs import clean
from ocisync.model.descriptor import Descriptor
from ocisync.sync.context import Progress

_SHOWN = 1024 * 1024  # bytes; smaller blobs come and go too fast for a bar of their own


class TerminalProgress(Progress):
    """A bar for all bytes and one per large blob under way."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
        )
        self.console = Console(stderr=True, soft_wrap=True)
        self._bars = Bars(*columns, console=self.console, transient=True)
        self._total = self._bars.add_task("copied", total=None, visible=False)
        self._known = 0
        self._blobs: dict[str, TaskID] = {}
        self._seen: set[str] = set()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def tag_finished(self, target: str, tag: str, verdict: str) -> None:
        """Print above the bars what became of a tag, unless nothing did."""
        if verdict == "unchanged":
            return
        mark = "[green]copied[/]" if verdict == "copied" else f"[red]{verdict}[/]"
        name = escape(printable(f"{target.removeprefix('target:')}:{tag}"))
        self.console.print(f"{name} {mark}", highlight=False)

    def held_up(self, reason: str) -> None:
        """Print above the bars why nothing moves."""
        self.console.print(clean(reason), highlight=False, markup=False)

    def blob_started(self, desc: Descriptor) -> None:
        """Grow the total; give a large blob its bar."""
        if desc.digest not in self._seen:
            self._seen.add(desc.digest)
            self._known += desc.size
            self._bars.update(self._total, total=self._known, visible=True)
        if desc.size >= _SHOWN:
            self._blobs[desc.digest] = self._bars.add_task(f"  {desc.digest[7:19]}", total=desc.size)

    def blob_moved(self, desc: Descriptor, count: int) -> None:
        """Advance both bars."""
        self._bars.advance(self._total, count)
        if desc.digest in self._blobs:
            self._bars.advance(self._blobs[desc.digest], count)

    def blob_finished(self, desc: Descriptor) -> None:
        """Take the blob's bar away."""
        if (task := self._blobs.pop(desc.digest, None)) is not None:
            self._bars.remove_task(task)
