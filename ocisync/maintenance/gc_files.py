"""Garbage collection of a target: the plan in a file, its application, and the journal of what was removed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

import structlog
from anyio import CancelScope, to_thread

from ocisync.errors import ConfigError, DiskError, OcisyncError
from ocisync.maintenance.gc import Collected, collect, plan_collection
from ocisync.maintenance.gc_plan import Garbage, Totals, end_line, head_line, object_line, read_objects, read_totals
from ocisync.maintenance.protocols import MaintainedRegistry
from ocisync.sync.reports import describe_failure

log = structlog.get_logger()

_BUFFERED = 500  # lines per thread hop
_TRYING = 3600.0  # seconds; a scratch object that is younger may be in use, whatever the grace period


@dataclass(frozen=True, slots=True)
class Collection:
    """One target's collection."""

    registry: MaintainedRegistry
    target: str
    grace: float  # seconds
    limit: float = 0.5  # the largest part of all objects that may be removed at once
    journal: Path | None = None

    async def plan(self, file: Path, within: str = "") -> Totals:
        """Write what could be removed to a file.

        Raises:
            DiskError: the file cannot be written.
            OcisyncError: the registry cannot be listed.
        """
        totals, out = Totals(), Writer(file)
        await out.write([head_line(self.target, self.grace, time.time())])
        lines: list[str] = []
        async for doomed in plan_collection(self.registry, self.grace, totals, within):
            lines.append(object_line(doomed))
            if len(lines) >= _BUFFERED:
                await out.write(lines)
                lines = []
        await out.write([*lines, end_line(totals)])
        await out.finish()
        return totals

    async def count(self, within: str = "") -> Totals:
        """What could be removed, without a plan."""
        totals = Totals()
        async for _ in plan_collection(self.registry, self.grace, totals, within):
            pass
        return totals

    async def apply(self, file: Path) -> Collected:
        """Remove what a plan names and still may go; nothing when the plan is above the limit.

        Raises:
            ConfigError: the file is not a plan of this target, or above the limit.
        """
        refusal = (await self.totals(file)).refusal(self.limit)
        if refusal:
            raise ConfigError(f"{self.target}: {refusal}", code="gc.limit")
        done = Collected()
        async for name, doomed in _read_groups(file):
            await collect(self.registry, name, doomed, self.grace, self._write_journal, done)
        await self._finish(done)
        return done

    async def totals(self, file: Path) -> Totals:
        """What a plan comes to; raises as `apply` does."""
        first, last = await to_thread.run_sync(_read_ends, file)
        return read_totals(first, last, self.target)

    async def run(self, within: str = "") -> tuple[Totals, Collected]:
        """Plan and apply; raises as both do."""
        scratch = Path(await to_thread.run_sync(partial(tempfile.mkdtemp, prefix="ocisync-gc-")))
        try:
            totals = await self.plan(scratch / "plan.jsonl", within)
            done = await self.apply(scratch / "plan.jsonl")
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(shutil.rmtree, scratch)
        done.problems = sorted({*totals.problems, *done.problems})
        return totals, done

    async def _finish(self, done: Collected) -> None:
        try:
            done.left = await self.registry.remove_abandoned(uploads=self.grace, scratch=max(self.grace, _TRYING))
            if done.removed:
                await self.registry.rebuild_derived()
        except OcisyncError as exc:
            done.failures[""] = describe_failure(exc)
        log.info(
            "registry.collected",
            target=self.target,
            removed=done.removed,
            bytes=done.bytes,
            spared=done.spared,
            uploads=done.left.uploads,
            problems=len(done.problems),
        )

    async def _write_journal(self, gone: Sequence[Garbage]) -> None:
        if self.journal is not None and gone:
            text = "".join(json.dumps({"at": time.time(), **one.as_json()}) + "\n" for one in gone)
            await to_thread.run_sync(_append, self.journal, text)


class Writer:
    """A plan being written; it appears under its name when it is whole."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._new = file.with_name(f".{file.name}.new")
        self._mode = "w"

    async def write(self, lines: Sequence[str]) -> None:
        """Append lines."""
        await to_thread.run_sync(self._write, lines)
        self._mode = "a"

    async def finish(self) -> None:
        """Give the file its name."""
        await to_thread.run_sync(os.replace, self._new, self._file)

    def _write(self, lines: Sequence[str]) -> None:
        try:
            with self._new.open(self._mode, encoding="utf-8") as out:
                out.writelines(lines)
        except OSError as exc:
            raise DiskError(f"{self._file}: the plan cannot be written: {exc.strerror}") from exc


def _read_ends(file: Path) -> tuple[str, str]:
    first = last = ""
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                first = first or line
                last = line
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigError(
            f"{file}: cannot be read as a plan: {reason}; `ocisync gc TARGET --plan FILE` writes one"
        ) from exc
    return first, last


async def _read_groups(file: Path) -> AsyncIterator[tuple[str, list[Garbage]]]:
    """A plan's objects by repository, read in a thread."""

    def following(groups: Iterator[tuple[str, list[Garbage]]]) -> tuple[str, list[Garbage]] | None:
        return next(groups, None)

    lines = await to_thread.run_sync(_open, file)
    try:
        groups = read_objects(lines)
        while (found := await to_thread.run_sync(following, groups)) is not None:
            yield found
    finally:
        lines.close()


def _open(file: Path) -> TextIO:
    return file.open(encoding="utf-8")


def _append(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
    except OSError as exc:
        raise DiskError(f"{file}: the journal cannot be written, so nothing is removed: {exc.strerror}") from exc
