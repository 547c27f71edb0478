"""Bars on a terminal. Imported where there is one: rich takes its time."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from ocisync.cli.display.output import printable
from ocisync.content.cost import list_charged_tags
from ocisync.logs import clean
from ocisync.model.descriptor import Descriptor
from ocisync.model.text.quantities import size_text
from ocisync.sync.context import Progress

_SHOWN = 1024 * 1024  # bytes; smaller blobs come and go too fast for a bar of their own


class TerminalProgress(Progress):
    """A bar for all bytes and one per large blob under way."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            DownloadColumn(binary_units=True),
            _SpeedColumn(),
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

    def for_job(self, rule: str, source: str, target: str) -> Progress:  # noqa: ARG002
        """The same bars, which know where the blobs of this job go."""
        return _JobBars(self, target.removeprefix("target:"))

    def tag_finished(self, target: str, tag: str, verdict: str) -> None:
        """Print above the bars what became of a tag, unless nothing did."""
        if verdict == "unchanged":
            return
        mark = "[green]copied[/]" if verdict == "copied" else f"[red]{verdict}[/]"
        name = escape(clean(printable(f"{target.removeprefix('target:')}:{tag}")))
        self.console.print(f"{name} {mark}", highlight=False)

    def held_up(self, reason: str) -> None:
        """Print above the bars why nothing moves."""
        self.console.print(clean(reason), highlight=False, markup=False)

    def blob_started(self, desc: Descriptor, target: str = "") -> None:
        """Grow the total; give a large blob a bar, by the name of the first image that wants it."""
        if desc.digest not in self._seen:
            self._seen.add(desc.digest)
            self._known += desc.size
            self._bars.update(self._total, total=self._known, visible=True)
        if desc.size >= _SHOWN:
            image = next(iter(list_charged_tags()), "")
            name = escape(clean(printable(f"{target}:{image}" if image else target or desc.digest[7:19])))
            self._blobs[desc.digest] = self._bars.add_task(f"  {name}", total=desc.size)

    def blob_moved(self, desc: Descriptor, count: int) -> None:
        """Advance both bars."""
        self._bars.advance(self._total, count)
        if desc.digest in self._blobs:
            self._bars.advance(self._blobs[desc.digest], count)

    def blob_finished(self, desc: Descriptor) -> None:
        """Take the blob's bar away."""
        if (task := self._blobs.pop(desc.digest, None)) is not None:
            self._bars.remove_task(task)


class _JobBars(Progress):
    """One job's part of the bars."""

    def __init__(self, bars: TerminalProgress, target: str) -> None:
        self._bars = bars
        self._target = target
        self.tag_finished = bars.tag_finished  # type: ignore[method-assign]
        self.held_up = bars.held_up  # type: ignore[method-assign]
        self.blob_finished = bars.blob_finished  # type: ignore[method-assign]

    def blob_started(self, desc: Descriptor) -> None:
        """A blob of this job."""
        self._bars.blob_started(desc, self._target)

    def blob_moved(self, desc: Descriptor, count: int) -> None:
        """Bytes of it."""
        self._bars.blob_moved(desc, count)


class _SpeedColumn(ProgressColumn):
    """Bytes per second, in the units of everything else; rich's own column has decimal ones."""

    def render(self, task: Task) -> Text:
        """The speed of one bar."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{size_text(speed)}/s", style="progress.data.speed")
