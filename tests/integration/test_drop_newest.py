"""Two inputs with one name, and inputs that time cures."""

from __future__ import annotations

import os
import random
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from ocisync.content.concurrency import Wakeup
from ocisync.drop.blame import REST_TIME
from ocisync.drop.disposal import REASON
from ocisync.drop.poll import forget_settled
from ocisync.drop.rule import InputVerdict
from ocisync.model.locator import ArchiveLocator, Locator
from ocisync.sync.job import Job
from ocisync.sync.reports import Failure, JobReport
from tests.integration.test_drop import BAD, Room, Runner, _room, _serving, _until, _verdicts

OLD, NEW = 1_700_000_000, 1_760_000_000  # seconds since the epoch


class Registry(Runner):
    """Remembers which file each tag was published from last; jobs take their turns as chance has it."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.chance = random.Random(seed)
        self.tags: dict[str, str] = {}

    async def __call__(self, job: Job) -> JobReport:
        for _ in range(self.chance.randrange(4)):
            await anyio.lowlevel.checkpoint()
        assert isinstance(job.source, ArchiveLocator)
        for tag in job.tags.literal or ():
            self.tags[f"{job.lock_name}:{tag}"] = job.source.path.rpartition("/")[2]
        return await super().__call__(job)


async def _latest(locator: Locator) -> Sequence[str]:
    return ["app:latest"]


@asynccontextmanager
async def _kept(tmp_path: Path, seed: int = 0, **changes: object) -> AsyncIterator[tuple[Room, Registry]]:
    async with _room(tmp_path, **changes) as room:
        room.names = _latest
        room.runner = registry = Registry(seed)
        yield room, registry


def _make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _put(room: Room, name: str, written: int, content: str = "") -> None:
    path = room.put(name, content or f"{name} of {written}")
    os.utime(path, (written, written))


@pytest.mark.parametrize("seed", range(20))
async def test_the_newest_of_two_kept_files_decides_together_again_and_after_a_lost_state(
    tmp_path: Path, seed: int
) -> None:
    await check_the_newest_decides(tmp_path, seed)


async def check_the_newest_decides(tmp_path: Path, seed: int) -> None:
    """Take two files of one name together, again in full, and with a new state."""
    old, new = ("a.tar", "b.tar") if seed % 2 else ("b.tar", "a.tar")
    async with _kept(_make(tmp_path / "1"), seed) as (room, registry):
        _put(room, old, OLD)
        _put(room, new, NEW)
        await room.once()
        assert registry.tags == {"local/app:latest": new}
        registry.jobs.clear()
        watcher = room.watcher()
        await watcher._processor.load_names()
        await forget_settled(room.rule, room.state.inputs)
        reports = await room.once(watcher)
        assert registry.tags == {"local/app:latest": new}
        assert registry.jobs == ["local/app:latest"], "the tag must not go to the older image and back"
        assert {report.key: report.verdict for report in reports}[old] is InputVerdict.UNCHANGED
    (tmp_path / "1/drop").rename(_make(tmp_path / "2") / "drop")
    async with _kept(tmp_path / "2", seed) as (room, registry):
        await room.once()
        assert registry.tags == {"local/app:latest": new}


async def test_files_of_one_time_are_told_apart_by_when_they_came(tmp_path: Path) -> None:
    async with _kept(tmp_path) as (room, registry):
        for name in ("b.tar", "a.tar"):
            _put(room, name, 1)
        await room.once()
        assert registry.tags == {"local/app:latest": "a.tar"}


@pytest.mark.parametrize("done", ["keep", "move", "delete"])
async def test_an_older_file_is_said_kept_and_published_once_it_is_written_anew(tmp_path: Path, done: str) -> None:
    async with _kept(tmp_path, done=done) as (room, registry):
        _put(room, "new.tar", NEW)
        _put(room, "old.tar", OLD)
        reports = {report.key: report for report in await room.once()}
        assert reports["old.tar"].warnings == ["local/app:latest is left as it is: new.tar is newer"]
        assert (reports["old.tar"].verdict.value, reports["old.tar"].aftermath) == ("unchanged", "kept")
        assert "old.tar" in room.tree(), "what was not published is never deleted"
        assert await room.once() == []
        assert registry.tags == {"local/app:latest": "new.tar"}
        _put(room, "old.tar", NEW + 5, f"old.tar of {OLD}")
        assert _verdicts(await room.once())["old.tar"] == "published"
        assert registry.tags == {"local/app:latest": "old.tar"}


async def test_without_its_newer_namesake_an_older_file_is_published(tmp_path: Path) -> None:
    async with _kept(tmp_path, done="move") as (room, registry):
        room.clock.ahead = -120.0  # the test's clock goes a minute on with each pass, the disk's does not
        _put(room, "new.tar", NEW)
        await room.once()
        _put(room, "old.tar", OLD)
        await room.once()
        assert registry.tags == {"local/app:latest": "old.tar"}


async def test_when_the_newer_one_is_refused_the_older_one_is_published(tmp_path: Path) -> None:
    class Refusing(Registry):
        async def __call__(self, job: Job) -> JobReport:
            if str(job.source).endswith("new.tar"):
                return JobReport(job.rule, str(job.source), str(job.target), failure=BAD)
            return await super().__call__(job)

    async with _kept(tmp_path) as (room, _):
        room.runner = registry = Refusing()
        _put(room, "new.tar", NEW)
        _put(room, "old.tar", OLD)
        assert _verdicts(await room.once()) == {"new.tar": "failed", "old.tar": "published"}
        assert registry.tags == {"local/app:latest": "old.tar"}


async def test_a_file_that_is_written_anew_with_size_and_time_as_before_is_taken(tmp_path: Path) -> None:
    async with _kept(tmp_path) as (room, registry):
        path = room.put("a.tar", "AAAA")
        os.utime(path, (1, 1))
        await room.once()
        before = path.stat()
        path.write_text("BBBB")
        os.utime(path, (1, 1))
        assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, before.st_size)
        assert _verdicts(await room.once()) == {"a.tar": "published"}
        assert len(registry.jobs) == 2


CUT = tarfile.TarInfo("manifest.json").tobuf() + b"the beginning of a member"


async def test_what_looks_cut_off_waits_and_is_refused_when_nobody_completes_it(tmp_path: Path) -> None:
    async with _room(tmp_path, stable=0.0, rescan=1.0) as room:
        room.runner.failures = {"app": BAD}
        path = room.put("app/1.tar")
        path.write_bytes(CUT)
        (report,) = await room.once()
        assert report.failure
        assert (report.failure.code, report.failure.handling) == ("archive.invalid", "retry")
        assert "may not be complete yet" in report.failure.message
        assert path.exists()
        room.clock.ahead += REST_TIME
        (report,) = await room.once()
        assert report.aftermath == "quarantined"
        assert not path.exists()


async def test_a_file_that_is_open_for_writing_waits_however_long_that_takes(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        room.runner.failures = {"app": BAD}
        path = room.put("app/1.tar")
        with path.open("a"):
            room.clock.ahead += 10 * REST_TIME
            (report,) = await room.once()
            assert report.failure
            assert report.failure.handling == "retry"
        (report,) = await room.once()
        assert report.aftermath == "quarantined"


async def test_a_refused_file_that_grows_in_the_failed_folder_is_taken_again(tmp_path: Path) -> None:
    async with _room(tmp_path, stable=0.1, settle=0.0, rescan=0.1) as room:
        room.runner.failures = {"app": BAD}
        with (room.put("app/1.tar", "one half")).open("a") as file:
            os.close(os.dup(file.fileno()))
        async with _serving(room, Wakeup()):
            failed = room.rule.failed_path / "app/1.tar"
            await _until((room.rule.failed_path / f"app/1.tar{REASON}").exists)
            await _until(lambda: not (room.rule.path / "app/1.tar").exists())  # its name is taken before it is moved
            room.runner.failures = {}
            with failed.open("a") as file:
                file.write(" and the other half")
            await _until(lambda: room.runner.jobs[-1:] == ["local/app:1"] and len(room.runner.jobs) == 2)
        assert room.tree() == {"app/1.tar": "one half and the other half"}


@pytest.mark.parametrize("error", [UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"), KeyError("x")])
async def test_a_defect_at_one_input_stops_no_other_and_is_tried_again_later(tmp_path: Path, error: Exception) -> None:
    async def names(locator: Locator) -> Sequence[str]:
        if "bad" in str(locator):
            raise error
        return []

    async with _room(tmp_path, stable=0.0, rescan=0.1) as room:
        room.names = names
        room.put("bad/1.tar")
        with capture_logs() as logs:
            async with _serving(room, Wakeup()):
                room.put("good/1.tar")
                await _until(lambda: room.runner.jobs == ["local/good:1"])
                await _until(lambda: any(line["event"] == "drop.crashed" for line in logs))
        async with _serving(room, Wakeup()):
            await _until(lambda: room.runner.jobs == ["local/good:1"])
        (record,) = [one for one in (await room.state.inputs.of_rule("builds")).values() if one.key == "bad/1.tar"]
        assert (record.code, record.state.value) == ("internal", "waiting")
        assert record.failures >= 1
        assert (room.rule.path / "bad/1.tar").exists()


async def test_what_a_report_says_is_recorded_whatever_characters_it_has(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        room.runner.failures = {"app": Failure("net.unreachable", "no \ud800 host", "retry")}
        room.put("app/1.tar")
        (report,) = await room.once()
        assert report.failure
        assert report.failure.code == "net.unreachable"
        (record,) = (await room.state.inputs.of_rule("builds")).values()
        assert record.message == r"no \ud800 host"


async def test_a_name_that_slips_is_refused_with_the_right_one(tmp_path: Path) -> None:
    from ocisync.model.platform import Platform

    async with _room(tmp_path, platforms=(Platform("linux", "amd64"),)) as room:
        room.names = _latest
        room.put("app/1.0/linux-amd64.tar.gz")
        room.put("linux_arm64_v8.tar")
        messages = {report.key: report.failure.message for report in await room.once() if report.failure}
        assert "call it app/1.0/linux.amd64.tar.gz" in messages["app/1.0/linux-amd64.tar.gz"]
        assert "call it NAME/TAG/linux.arm64.v8.tar" in messages["linux_arm64_v8.tar"]
        assert room.runner.jobs == []
