"""A set that waits for files: those that are there are read meanwhile, and people hear of a bad one at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from ocisync.content.concurrency import Wakeup
from ocisync.drop.process import InputProcessor
from ocisync.drop.rule import InputVerdict
from ocisync.drop.watcher import DropWatcher
from ocisync.errors import ArchiveError
from ocisync.model.locator import Locator, SetLocator
from tests.drop_archives import NamedArchives
from tests.integration.mainjob import Directory, write_config
from tests.integration.test_daemon_faults import metric
from tests.integration.test_drop import _room
from tests.integration.test_drop_sets import BOTH, configured, index
from tests.integration.test_notify import receiving
from tests.integration.test_status_page import status
from tests.servers.command import daemon, run_ocisync
from tests.servers.images import Image, docker_archive, docker_members, make_image, oci_archive, write_archive
from tests.servers.process import wait_for

AMD = make_image("amd", size=200_000)
ARM = make_image("arm", platform=("linux", "arm64", "v8"))
PLATFORMS = ", platforms: [linux/amd64, linux/arm64]"


def spoil(write: Callable[[Path, Image], Path]) -> Callable[[Path], object]:
    """Write an archive, and turn one bit in the middle of its layer."""

    def put(path: Path) -> None:
        data = bytearray(write(path, AMD).read_bytes())
        layer = next(one for one in (*AMD.layers, *AMD.blobs.values()) if len(one) > 10_000 and one in data)
        data[data.index(layer) + len(layer) // 2] ^= 1
        path.write_bytes(data)

    return put


def leave_out_layer(path: Path) -> None:
    members = docker_members({"": AMD})
    write_archive(path, {name: data for name, data in members.items() if data != AMD.layers[0]})


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (lambda path: path.write_bytes(b"no archive" * 500), "archive.invalid"),
    "docker layer": (spoil(docker_archive), "verify.diffid"),
    "oci blob": (spoil(oci_archive), "verify.digest"),
    "layer left out": (leave_out_layer, "archive.invalid"),
    "platform": (lambda path: docker_archive(path, ARM), "platform.mismatch"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_told_while_its_set_waits_and_a_good_one_heals_it(tmp_path: Path, kind: str) -> None:
    write, code = BAD[kind]
    folder = tmp_path / "drop/team/app/1"
    folder.mkdir(parents=True)
    bad = folder / "linux.amd64.tar"
    config = configured(tmp_path, PLATFORMS)
    write(bad)

    report = json.loads(run_ocisync("once", "--json", "-c", config).expect(1).stdout)
    (told,) = report["inputs"]
    assert (told["verdict"], told["failure"]["code"], told["aftermath"]) == ("failed", code, "kept")
    assert told["paths"] == ["team/app/1/linux.amd64.tar"]
    assert "linux.amd64.tar" in told["failure"]["message"]
    assert "put a good file in its place; the set waits for linux/arm64" in told["failure"]["message"]
    assert bad.exists(), "it is only told"
    assert not (tmp_path / "registry/v2/team/app/manifests").exists()
    assert "builds: team/app/1/ failed: " in run_ocisync("status", "-c", config).expect(0).stdout

    docker_archive(bad, AMD)
    waits = run_ocisync("once", "-c", config).expect(0)
    assert "builds: team/app/1/ waits: waits for linux/arm64" in waits.stderr
    assert "builds: team/app/1/ waiting: waits for linux/arm64" in run_ocisync("status", "-c", config).expect(0).stdout
    docker_archive(folder / "linux.arm64.tar", ARM)
    run_ocisync("once", "-c", config).expect(0)
    assert [architecture for architecture, _ in index(tmp_path)] == ["amd64", "arm64"]


def test_a_file_that_is_cut_off_may_still_grow_and_is_told_as_that(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "drop/team/app/1/linux.amd64.tar", AMD)
    path.write_bytes(path.read_bytes()[:100_000])
    config = configured(tmp_path, PLATFORMS)
    told = run_ocisync("once", "-c", config).expect(1).stderr
    assert "it may not be complete yet: it stays, and is tried again" in told
    assert "builds: team/app/1/ retry: " in run_ocisync("status", "-c", config).expect(0).stdout


def test_people_hear_of_it_within_ten_seconds(tmp_path: Path) -> None:
    """With the times that a rule has unasked."""
    drop, place = tmp_path / "drop", Directory(tmp_path / "registry")
    rule: dict[str, object] = {"name": "builds", "path": str(drop), "target": "out"}
    rule["platforms"] = ["linux/amd64", "linux/arm64"]
    with receiving() as receiver:
        notify = {"ops": {"type": "webhook", "url": receiver.url}}
        file = write_config(tmp_path, {"out": place.settings}, drop=[rule], notify=notify, daemon={"serve": "out"})
        with daemon(file) as running:

            def find_inputs() -> list[tuple[str, str, str]]:
                found = status(running)["drops"]["builds"]["inputs"]
                return [(one["key"], one["state"], one["code"]) for one in found]

            (drop / "team/app/1").mkdir(parents=True)
            started = time.monotonic()
            (drop / "team/app/1/linux.amd64.tar").write_bytes(b"no archive" * 500)
            wait_for(lambda: receiver.got, "the failure to be told")
            assert time.monotonic() - started < 10
            assert find_inputs() == [("team/app/1/", "failed", "archive.invalid")]
            assert [one["what"] for one in status(running)["failures"]] == ["team/app/1/"]
            page = running.get("/").body.decode()
            assert "1 of 1 needs attention" in page
            assert "the set waits for linux/arm64" in page
            assert metric(running, "ocisync_drop_inputs_total", rule="builds", outcome="failed") == 1

            docker_archive(drop / "team/app/1/linux.amd64.tar", AMD)
            wait_for(lambda: len(receiver.got) == 2, "the recovery to be told")
            assert find_inputs() == [("team/app/1/", "waiting", "")]
            assert status(running)["failures"] == []
            docker_archive(drop / "team/app/1/linux.arm64.tar", ARM)
            wait_for(lambda: not find_inputs(), "the set to be published")
            assert metric(running, "ocisync_drop_inputs_total", rule="builds", outcome="failed") == 1
    assert receiver.titles() == [("failure", "team/app/1/ (builds)"), ("recovery", "team/app/1/ (builds)")]
    assert [architecture for architecture, _ in index(tmp_path, "team/app")] == ["amd64", "arm64"]


def test_of_a_set_that_is_refused_the_bad_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "drop/team/app/1"
    folder.mkdir(parents=True)
    oci_archive(folder / "linux.arm64.tar", ARM)
    spoil(oci_archive)(folder / "linux.amd64.tar")
    told = run_ocisync("once", "-c", configured(tmp_path, PLATFORMS)).expect(1).stderr
    assert "team/app/1/linux.amd64.tar: sha256:" in told
    assert "linux.arm64.tar" not in told
    assert not folder.exists() or not list(folder.iterdir()), "the set is set aside as a whole"


@pytest.mark.anyio
async def test_each_file_is_read_once_and_a_bad_set_that_is_complete_is_set_aside(tmp_path: Path) -> None:
    read: list[str] = []

    class Archives(NamedArchives):
        async def check(self, locator: Locator) -> None:
            assert isinstance(locator, SetLocator)
            (member,) = locator.members
            read.append(member.path.rpartition("/")[2])
            if "bad" in await anyio.Path(member.path).read_text():
                raise ArchiveError(f"{member.path}: no archive")

    async with _room(tmp_path, platforms=BOTH) as room:
        watcher = DropWatcher(InputProcessor(room.rule, room.state.inputs, Archives(), room.runner, room.clock))
        room.put("app/1/linux.amd64.tar", "bad " * 500)
        for _ in range(3):
            await room.once(watcher)
        assert read == ["linux.amd64.tar"]
        (record,) = (await room.state.inputs.of_rule("builds")).values()
        assert (record.code, record.due) == ("archive.invalid", 0.0)
        (room.rule.path / "app/1/linux.amd64.tar").unlink()
        room.put("app/1/linux.arm64.tar", "good")
        (report,) = await room.once(watcher)
        assert (report.verdict, read[1:]) == (InputVerdict.WAITING, ["linux.arm64.tar"])
        assert await room.state.inputs.of_rule("builds") == {}, "nothing is told any more of what is gone"
        assert room.runner.jobs == []
        room.put("app/1/linux.amd64.tar", "bad " * 500)
        (report,) = await room.once(watcher)
        assert report.verdict is InputVerdict.PUBLISHED, "the jobs decide once it is whole, and this runner takes all"
        assert len(read) == 2


@pytest.mark.anyio
async def test_a_stop_does_not_wait_for_what_is_only_read(tmp_path: Path) -> None:
    began = anyio.Event()

    class SlowArchives(NamedArchives):
        async def check(self, locator: Locator) -> None:
            began.set()
            await anyio.sleep_forever()

    async with _room(tmp_path, platforms=BOTH, stable=0.0) as room:
        room.put("app/1/linux.amd64.tar")
        watcher = DropWatcher(InputProcessor(room.rule, room.state.inputs, SlowArchives(), room.runner, room.clock))
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(watcher.serve, Wakeup())
                await began.wait()
                watcher.stop()
        assert await room.state.inputs.of_rule("builds") == {}
