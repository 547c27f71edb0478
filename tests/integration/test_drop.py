"""Drop folders on a real disk: what is taken, when, how often, and where it ends up. The runner is the test's own."""

from __future__ import annotations

import os
import random
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from ocisync.content.concurrency import Wakeup
from ocisync.drop.process import InputProcessor
from ocisync.drop.rule import DropRule, DropTarget, InputReport, InputVerdict
from ocisync.drop.scan import DELETING
from ocisync.drop.watch import watch_folder
from ocisync.drop.watcher import DropWatcher
from ocisync.errors import ArchiveError
from ocisync.model.locator import Locator, SetLocator
from ocisync.model.platform import Platform
from ocisync.state.open import State, open_state
from ocisync.sync.job import Job
from ocisync.sync.reports import Failure, JobReport
from tests.drop_archives import NamedArchives, no_names

BAD = Failure("archive.invalid", "the archive ends too early; save it again", "quarantine")
DOWN = Failure("net.unreachable", "no route to the target", "retry")
DENIED = Failure("auth.denied", "the target refuses the credentials", "fail")
FULL = Failure("disk", "no space left on the target's disk", "fail")
DEADLINE = 20.0  # seconds


@dataclass
class Runner:
    """Runs jobs as the test says, and remembers them."""

    failures: dict[str, Failure] = field(default_factory=dict)  # by target repository
    meanwhile: Callable[[], object] = lambda: None
    jobs: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    async def __call__(self, job: Job) -> JobReport:
        await anyio.to_thread.run_sync(self.meanwhile)
        self.jobs.extend(f"{job.lock_name}:{tag}" for tag in job.tags.literal or ())
        paths = job.source.members if isinstance(job.source, SetLocator) else ()
        self.sources.append(" ".join(member.path.rpartition("/")[2] for member in paths) or str(job.source))
        report = JobReport(job.rule, str(job.source), str(job.target))
        report.failure = self.failures.get(job.target.repository)
        return report


@dataclass
class Clock:
    """Both clocks at once; `ahead` is how far the test has moved them."""

    ahead: float = 0.0

    def wall(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


class LongestWaits(random.Random):
    """No jitter: every wait is as long as it can be."""

    def random(self) -> float:
        return 1.0


@dataclass
class Room:
    """A drop folder and all that belongs to it."""

    rule: DropRule
    state: State
    runner: Runner = field(default_factory=Runner)
    clock: Clock = field(default_factory=Clock)
    names: Callable[[Locator], Awaitable[Sequence[str]]] = no_names

    def watcher(self) -> DropWatcher:
        archives = NamedArchives(self.names)
        return DropWatcher(
            InputProcessor(self.rule, self.state.inputs, archives, self.runner, self.clock, LongestWaits())
        )

    async def once(self, watcher: DropWatcher | None = None) -> list[InputReport]:
        """One pass after everything there has become old enough."""
        self.clock.ahead += 60.0
        return await (watcher or self.watcher()).pass_once(patience=False)

    def put(self, relative: str, content: str = "an archive") -> Path:
        """Write a file beside the folder and rename it into place."""
        path = self.rule.path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(content)
        return part.replace(path)

    def tree(self) -> dict[str, str]:
        """Path -> content of every file below the folder."""
        return {
            str(path.relative_to(self.rule.path)): path.read_text()
            for path in sorted(self.rule.path.rglob("*"))
            if path.is_file()
        }


@asynccontextmanager
async def _room(tmp_path: Path, **changes: object) -> AsyncIterator[Room]:
    folder = tmp_path / "drop"
    folder.mkdir(exist_ok=True)
    rule = replace(DropRule("builds", folder, (DropTarget("local"),)), **changes)  # type: ignore[arg-type]
    async with open_state(tmp_path / "state") as state:
        yield Room(rule, state)


def _verdicts(reports: list[InputReport]) -> dict[str, str]:
    return {report.key: report.verdict.value for report in reports}


async def test_a_set_and_a_single_archive_are_published_and_kept(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        room.put("team/app/1.0/linux.amd64.tar.gz")
        room.put("team/app/1.0/linux.arm64.tgz")
        room.put("tool/2.tar")
        before = room.tree()
        reports = await room.once()
        assert _verdicts(reports) == {"team/app/1.0/": "published", "tool/2.tar": "published"}
        assert sorted(room.runner.jobs) == ["local/team/app:1.0", "local/tool:2"]
        assert "linux.amd64.tar.gz linux.arm64.tgz" in room.runner.sources
        assert {report.aftermath for report in reports} == {"kept"}
        assert room.tree() == before
        assert await room.once() == []


async def test_content_is_taken_once_also_after_a_restart(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        path = room.put("tool/2.tar")
        await room.once()
    async with _room(tmp_path) as room:
        assert await room.once() == []
        path.touch()
        room.put("tool/2.tar")
        assert _verdicts(await room.once()) == {"tool/2.tar": "unchanged"}
        assert room.runner.jobs == []
        room.put("tool/2.tar", "other bytes")  # as long as before: the size tells nothing
        assert _verdicts(await room.once()) == {"tool/2.tar": "published"}


@pytest.mark.parametrize("done", ["move", "delete"])
async def test_the_same_content_dropped_again_is_cleared_away_and_not_published_again(
    tmp_path: Path, done: str
) -> None:
    async with _room(tmp_path, done=done) as room:
        room.put("tool/2.tar")
        first = await room.once()
        room.put("tool/2.tar")
        second = await room.once()
        assert [first[0].verdict, second[0].verdict] == [InputVerdict.PUBLISHED, InputVerdict.UNCHANGED]
        assert second[0].published == ("local/tool:2",)
        assert room.runner.jobs == ["local/tool:2"]
        assert room.tree() == ({"done/tool/2.tar": "an archive"} if done == "move" else {})


async def test_a_replaced_member_publishes_the_set_again(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        room.put("app/1/linux.amd64.tar", "amd64")
        room.put("app/1/linux.arm64.tar", "arm64")
        await room.once()
        room.put("app/1/linux.arm64.tar", "newer")
        assert _verdicts(await room.once()) == {"app/1/": "published"}
        assert room.runner.sources == ["linux.amd64.tar linux.arm64.tar"] * 2


async def test_a_set_is_moved_together_and_never_over_another_file(tmp_path: Path) -> None:
    async with _room(tmp_path, done="move") as room:
        for content in ("first", "second"):
            room.put("app/1/linux.amd64.tar", content)
            room.put("app/1/linux.arm64.tar", "the same")
            await room.once()
        assert room.tree() == {
            "done/app/1/linux.amd64.tar": "first",
            "done/app/1/linux.amd64.tar.2": "second",
            "done/app/1/linux.arm64.tar": "the same",
        }


async def test_a_set_that_lost_a_platform_says_so(tmp_path: Path) -> None:
    async with _room(tmp_path, done="move") as room:
        room.put("app/1/linux.amd64.tar")
        room.put("app/1/linux.arm64.tar")
        await room.once()
        room.put("app/1/linux.amd64.tar", "newer")
        (report,) = await room.once()
        assert "linux/arm64" in report.warnings[0]


async def test_declared_platforms_are_waited_for(tmp_path: Path) -> None:
    async with _room(tmp_path, platforms=(Platform("linux", "amd64"), Platform("linux", "arm64"))) as room:
        room.put("app/1/linux.amd64.tar")
        (report,) = await room.once()
        assert (report.verdict, report.reason, report.ok) == (InputVerdict.WAITING, "waits for linux/arm64", True)
        room.put("app/1/linux.arm64.tar")
        assert _verdicts(await room.once()) == {"app/1/": "published"}


async def test_names_come_from_the_archive(tmp_path: Path) -> None:
    async def names(locator: Locator) -> Sequence[str]:
        return ["ghcr.io/org/app:1", "org/tool:2"]

    async with _room(tmp_path, targets=(DropTarget("local"), DropTarget("mirror", "team"))) as room:
        room.names = names
        room.put("whatever.tar")
        await room.once()
        assert sorted(room.runner.jobs) == [
            "local/org/app:1", "local/org/tool:2", "mirror/team/org/app:1", "mirror/team/org/tool:2",
        ]  # fmt: skip


async def test_a_bad_archive_is_quarantined_with_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        room.runner.failures = {"bad": BAD}
        room.put("bad/1/linux.amd64.tar")
        room.put("bad/1/linux.arm64.tar")
        room.put("good/1.tar")
        reports = await room.once()
        assert _verdicts(reports) == {"good/1.tar": "published", "bad/1/": "failed"}
        assert {report.aftermath for report in reports if not report.ok} == {"quarantined"}
        tree = room.tree()
        assert set(tree) == {
            "good/1.tar",
            "failed/bad/1/linux.amd64.tar",
            "failed/bad/1/linux.amd64.tar.reason.txt",
            "failed/bad/1/linux.arm64.tar",
            "failed/bad/1/linux.arm64.tar.reason.txt",
        }
        reason = tree["failed/bad/1/linux.amd64.tar.reason.txt"]
        assert all(text in reason for text in ("archive.invalid", "ends too early", "what now:", "builds"))
        assert await room.once() == []


async def test_a_quarantined_file_that_is_put_back_is_tried_again(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        room.runner.failures = {"tool": BAD}
        room.put("tool/1.tar")
        await room.once()
        room.runner.failures = {}
        (room.rule.failed_path / "tool/1.tar").rename(room.rule.path / "tool/1.tar")
        assert _verdicts(await room.once()) == {"tool/1.tar": "published"}


async def test_an_archive_that_cannot_be_read_or_named_is_quarantined(tmp_path: Path) -> None:
    async def names(locator: Locator) -> Sequence[str]:
        if "garbage" in str(locator):
            raise ArchiveError("not a tar")
        return []

    async with _room(tmp_path) as room:
        room.names = names
        for path in ("garbage.tar", "nameless.tar", "Bad Name/1/linux.amd64.tar", "Bad/1.tar"):
            room.put(path)
        codes = {report.key: report.failure.code for report in await room.once() if report.failure}
        assert codes == {
            "garbage.tar": "archive.invalid",
            "nameless.tar": "name.missing",
            "Bad Name/1/linux.amd64.tar": "name.invalid",
            "Bad/1.tar": "name.invalid",
        }
        assert len(room.tree()) == 8
        assert all(path.startswith("failed/") for path in room.tree())


async def test_errors_that_pass_are_tried_again_with_back_off_that_survives_a_restart(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        room.runner.failures = {"tool": DOWN, "app": DENIED}
        room.put("tool/1.tar")
        room.put("app/1.tar")
        await room.once()
        assert set(room.tree()) == {"tool/1.tar", "app/1.tar"}
        records = await room.state.inputs.of_rule("builds")
    waits = {key: round(record.due - record.at) for key, record in records.items()}
    assert waits == {"tool/1.tar": 5, "app/1.tar": 60}
    async with _room(tmp_path) as room:
        room.clock.ahead = 60.0
        look = await room.watcher()._poller.look()
        assert {found.key: state.reason for found, state in look.waiting}["app/1.tar"] == DENIED.message
        await room.once()  # one pass asks for everything, due or not
        assert sorted(room.runner.jobs) == ["local/app:1", "local/tool:1"]


async def test_each_failure_doubles_the_wait_and_a_success_ends_it(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        room.runner.failures = {"tool": DOWN}
        room.put("tool/1.tar")
        waits = []
        for _ in range(9):
            await room.once()
            record = (await room.state.inputs.of_rule("builds"))["tool/1.tar"]
            waits.append(round(record.due - record.at))
        assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600]
        room.runner.failures = {}
        await room.once()
        record = (await room.state.inputs.of_rule("builds"))["tool/1.tar"]
        assert (record.failures, record.code, record.published) == (0, "", ("local/tool:1",))


async def test_one_target_down_the_input_stays_until_all_have_it(tmp_path: Path) -> None:
    async with _room(tmp_path, done="delete", targets=(DropTarget("a"), DropTarget("b", "x"))) as room:
        room.runner.failures = {"x/tool": DOWN}
        room.put("tool/1.tar")
        assert _verdicts(await room.once()) == {"tool/1.tar": "failed"}
        assert set(room.tree()) == {"tool/1.tar"}
        room.runner.failures = {}
        assert _verdicts(await room.once()) == {"tool/1.tar": "published"}
        assert room.tree() == {}


async def test_a_crash_in_one_input_stops_no_other(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        divisors = iter([0, 1])
        room.runner.meanwhile = lambda: 1 // next(divisors)
        room.put("a/1.tar")
        room.put("b/1.tar")
        with capture_logs():
            reports = await room.once()
        assert sorted(report.verdict.value for report in reports) == ["failed", "published"]
        assert {report.failure.code for report in reports if report.failure} == {"internal"}


async def test_fault_49_a_full_disk_pauses_the_intake_and_nothing_is_lost(tmp_path: Path) -> None:
    async with _room(tmp_path, done="delete") as room:
        room.runner.failures = dict.fromkeys((f"t{number}" for number in range(20)), FULL)
        for number in range(20):
            room.put(f"t{number}/1.tar")
        watcher = room.watcher()
        reports = await room.once(watcher)
        assert len(room.runner.jobs) <= 8  # those already begun
        assert {report.verdict for report in reports} == {InputVerdict.FAILED, InputVerdict.WAITING}
        assert len(room.tree()) == 20
        room.runner.failures = {}
        assert set(_verdicts(await room.once(watcher)).values()) == {"published"}
        assert room.tree() == {}


async def test_fault_50_files_that_cannot_be_moved_are_said_and_the_image_stays_on_record(tmp_path: Path) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    async with _room(tmp_path, done="move", done_folder=blocker / "done") as room:
        room.put("tool/1.tar")
        (report,) = await room.once()
        assert report.failure is not None
        assert (report.verdict.value, report.failure.code) == ("failed", "disk")
        assert report.published == ("local/tool:1",)
        blocker.unlink()
        assert _verdicts(await room.once()) == {"tool/1.tar": "unchanged"}
        assert room.runner.jobs == ["local/tool:1"]
        assert (blocker / "done/tool/1.tar").read_text() == "an archive"


async def test_fault_52_a_growing_file_waits_until_it_is_stable(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        watcher = room.watcher()
        path = room.put("tool/1.tar", "")
        for _ in range(5):
            with path.open("a") as file:
                file.write("more")
            os.utime(path, ns=(0, int((room.clock.wall() + 5) * 1e9)))  # a server's clock may be ahead
            room.clock.ahead += 1.9
            (report,) = await watcher.pass_once(patience=False)
            assert report.verdict is InputVerdict.WAITING
        room.clock.ahead += 2.1
        assert _verdicts(await watcher.pass_once(patience=False)) == {"tool/1.tar": "published"}


async def test_fault_52_a_file_renamed_into_place_is_taken_at_once_and_temporaries_never(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        for name in (".hidden.tar", "x.tar.part", "x.tar.tmp", "x.tar~"):
            (room.rule.path / name).write_text("half")
        old = tmp_path / "old.tar"
        old.write_text("an archive")
        os.utime(old, (1, 1))
        (room.rule.path / "tool").mkdir()
        old.rename(room.rule.path / "tool/1.tar")
        assert _verdicts(await room.watcher().pass_once(patience=False)) == {"tool/1.tar": "published"}


async def test_one_pass_with_patience_waits_for_what_becomes_whole_soon(tmp_path: Path) -> None:
    async with _room(tmp_path, stable=0.2, settle=0.3) as room:
        room.put("tool/1.tar")
        room.put("app/1/linux.amd64.tar")
        reports = await room.watcher().pass_once(patience=True)
        assert _verdicts(reports) == {"tool/1.tar": "published", "app/1/": "published"}


@pytest.mark.parametrize("failure", [None, BAD])
@pytest.mark.parametrize("done", ["keep", "move", "delete"])
async def test_fault_53_a_file_replaced_while_it_is_read_is_left_alone_and_read_again(
    tmp_path: Path, done: str, failure: Failure | None
) -> None:
    async with _room(tmp_path, done=done) as room:
        room.put("tool/1.tar", "old")
        room.runner.failures = {"tool": failure} if failure else {}
        room.runner.meanwhile = lambda: room.put("tool/1.tar", "new")
        (report,) = await room.once()
        assert report.failure is not None
        assert (report.failure.code, report.failure.handling) == ("input.changed", "retry")
        assert room.tree() == {"tool/1.tar": "new"}
        room.runner.meanwhile = lambda: None
        room.runner.failures = {}
        assert _verdicts(await room.once()) == {"tool/1.tar": "published"}


async def test_fault_53_a_file_cut_or_taken_away_while_it_is_read_is_no_crash(tmp_path: Path) -> None:
    async with _room(tmp_path, done="delete") as room:
        path = room.put("tool/1.tar", "a longer archive")
        room.runner.meanwhile = lambda: os.truncate(path, 3)
        (report,) = await room.once()
        assert report.failure is not None
        assert report.failure.code == "input.changed"
        assert room.tree() == {"tool/1.tar": "a l"}
        room.runner.meanwhile = path.unlink
        (report,) = await room.once()
        assert report.failure is not None
        assert report.failure.code == "input.changed"
        assert await room.once() == []


def _litter(folder: Path, outside: Path) -> None:
    """Everything that must never be taken nor waited for."""
    outside.mkdir()
    (outside / "secret.tar").write_text("secret")
    (folder / "app").mkdir()
    (folder / "app/link.tar").symlink_to(outside / "secret.tar")
    (folder / "linked").symlink_to(outside)
    os.mkfifo(folder / "app/fifo.tar")
    os.close(os.open(os.fsencode(folder) + b"/app/bad\xff.tar", os.O_CREAT | os.O_WRONLY))
    (folder / "app/new\nline.tar").write_text("x")
    (folder / "app/README").write_text("x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "app/socket.tar"))


async def test_fault_54_odd_entries_are_skipped_with_one_warning_each(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        _litter(room.rule.path, tmp_path / "outside")
        room.put("good/1.tar")
        watcher = room.watcher()
        with capture_logs() as logs, anyio.fail_after(DEADLINE):
            assert _verdicts(await room.once(watcher)) == {"good/1.tar": "published"}
            assert await room.once(watcher) == []
        skipped = sorted((str(entry["path"]), entry["reason"]) for entry in logs if entry["event"] == "drop.skipped")
        odd = ("app/README", "app/bad?.tar", "app/fifo.tar", "app/link.tar", "app/new\nline.tar", "app/socket.tar")
        assert [path for path, _ in skipped] == [*odd, "linked"]
        assert dict(skipped)["app/fifo.tar"] == "a FIFO, not a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_fault_54_an_unreadable_file_is_skipped(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        room.put("good/1.tar")
        room.put("shut/1.tar").chmod(0)
        assert _verdicts(await room.once()) == {"good/1.tar": "published"}


async def test_an_oci_layouts_folder_is_one_input(tmp_path: Path) -> None:
    async with _room(tmp_path, done="move") as room:
        for relative in ("oci-layout", "index.json", "blobs/sha256/aa.tar"):
            room.put(f"app/1.0/{relative}")
        assert _verdicts(await room.once()) == {"app/1.0": "published"}
        assert room.runner.sources == [f"oci:{room.rule.path}/app/1.0"]
        assert set(room.tree()) == {
            f"done/app/1.0/{relative}" for relative in ("oci-layout", "index.json", "blobs/sha256/aa.tar")
        }


async def test_moved_files_are_kept_for_their_time_with_their_reasons(tmp_path: Path) -> None:
    async with _room(tmp_path, done="move", keep_done=100.0, keep_failed=10_000.0) as room:
        room.runner.failures = {"bad": BAD}
        room.put("good/1.tar")
        room.put("bad/1.tar")
        (room.rule.path / "done").mkdir()
        (room.rule.path / "done/notes.txt").write_text("not ours")
        await room.once()
        room.clock.ahead += 3600.0
        await room.once()
        assert set(room.tree()) == {"done/notes.txt", "failed/bad/1.tar", "failed/bad/1.tar.reason.txt"}
        room.clock.ahead += 10_000.0
        await room.once()
        assert set(room.tree()) == {"done/notes.txt"}
        assert (room.rule.path / "failed").is_dir()


OTHER = Path("/dev/shm")


def _has_second_file_system() -> bool:
    return OTHER.is_dir() and OTHER.stat().st_dev != Path(tempfile.gettempdir()).stat().st_dev


@pytest.mark.skipif(not _has_second_file_system(), reason="needs a second file system")
@pytest.mark.parametrize("failure", [None, BAD])
async def test_files_are_moved_across_file_systems(tmp_path: Path, failure: Failure | None) -> None:
    other = OTHER / f"ocisync-test-{os.getpid()}"
    async with _room(tmp_path, done="move", done_folder=other / "done", failed_folder=other / "failed") as room:
        room.runner.failures = {"tool": failure} if failure else {}
        room.put("tool/1.tar")
        try:
            (report,) = await room.once()
            kind = "failed" if failure else "done"
            assert (other / kind / "tool/1.tar").read_text() == "an archive"
            assert room.tree() == {}
            assert report.warnings == []
        finally:
            _remove(other)


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


async def test_an_interrupted_deletion_is_undone(tmp_path: Path) -> None:
    async with _room(tmp_path, done="delete") as room:
        room.put("tool/1.tar").rename(room.rule.path / f"tool/{DELETING}1.tar")
        assert _verdicts(await room.once()) == {"tool/1.tar": "published"}
        assert room.tree() == {}


@asynccontextmanager
async def _serving(room: Room, wakeup: Wakeup) -> AsyncIterator[DropWatcher]:
    watcher = room.watcher()
    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as group:
            group.start_soon(watcher.serve, wakeup)
            yield watcher
            watcher.stop()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (what is waited for has no event)
        await anyio.sleep(0.01)


async def test_fault_55_without_any_notification_the_rescan_finds_all(tmp_path: Path) -> None:
    async with _room(tmp_path, stable=0.0, settle=0.0, rescan=0.1) as room, _serving(room, Wakeup()):
        for number in range(50):
            room.put(f"t{number}/1.tar")
        room.put("app/1/linux.amd64.tar")
        await _until(lambda: len(set(room.runner.jobs)) == 51)
        assert len(room.runner.jobs) == 51


async def test_a_slow_input_holds_up_no_other_and_stop_waits_for_it(tmp_path: Path) -> None:
    class Slow(Runner):
        def __init__(self) -> None:
            super().__init__()
            self.release = anyio.Event()

        async def __call__(self, job: Job) -> JobReport:
            if job.target.repository == "slow":
                await self.release.wait()
            return await super().__call__(job)

    async with _room(tmp_path, stable=0.0, settle=0.0, rescan=0.1) as room:
        room.runner = runner = Slow()
        async with _serving(room, Wakeup()) as watcher:
            room.put("slow/1.tar")
            room.put("quick/1.tar")
            await _until(lambda: room.runner.jobs == ["local/quick:1"])
            watcher.stop()
            runner.release.set()
        assert room.runner.jobs == ["local/quick:1", "local/slow:1"]
        assert await room.once() == []


async def test_a_missing_folder_is_no_error(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        room.rule.path.rmdir()
        assert await room.once() == []


async def test_a_folder_that_is_a_file_is_said_and_serving_goes_on(tmp_path: Path) -> None:
    async with _room(tmp_path, stable=0.0, rescan=0.1) as room:
        room.rule.path.rmdir()
        room.rule.path.write_text("")
        with capture_logs() as logs:
            async with _serving(room, Wakeup()):
                await _until(lambda: any(entry["event"] == "drop.look_failed" for entry in logs))
                room.rule.path.unlink()
                room.rule.path.mkdir()
                room.put("tool/1.tar")
                await _until(lambda: room.runner.jobs == ["local/tool:1"])


async def test_fault_55_a_burst_of_files_is_found_whole_whatever_the_notifications_say(tmp_path: Path) -> None:
    async with _room(tmp_path, stable=0.0, settle=0.0, rescan=1.0) as room:
        wakeup = Wakeup()
        async with _serving(room, wakeup), anyio.create_task_group() as group:
            group.start_soon(watch_folder, room.rule.path, wakeup)
            await anyio.to_thread.run_sync(lambda: [room.put(f"t{number}/1.tar") for number in range(1000)])
            await _until(lambda: len(set(room.runner.jobs)) == 1000)
            group.cancel_scope.cancel()
        assert len(room.runner.jobs) == 1000


@pytest.mark.parametrize("done", ["keep", "move", "delete"])
async def test_part_of_a_published_set_is_nothing_new(tmp_path: Path, done: str) -> None:
    async with _room(tmp_path, done=done) as room:
        room.put("app/1/linux.amd64.tar", "amd64")
        room.put("app/1/linux.arm64.tar", "arm64")
        await room.once()
        if done == "keep":
            (room.rule.path / "app/1/linux.arm64.tar").unlink()
            assert await room.once() == []
        room.put("app/1/linux.amd64.tar", "amd64")
        assert _verdicts(await room.once()) == {"app/1/": "unchanged"}
        room.put("app/1/linux.amd64.tar", "amd64")
        room.put("app/1/linux.arm64.tar", "arm64")
        assert _verdicts(await room.once()) == {"app/1/": "unchanged"}
        assert room.runner.jobs == ["local/app:1"]
