"""Sets of every kind: those that stay incomplete, change, or are made of OCI archives and layouts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ocisync.drop.process import InputProcessor
from ocisync.drop.rule import DropTarget, Incomplete, InputVerdict
from ocisync.drop.watcher import DropWatcher
from ocisync.model.locator import ArchiveLocator, Locator
from ocisync.model.platform import Platform
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport
from ocisync.wiring.archives import Archives
from tests.drop_archives import NamedArchives
from tests.integration.test_archive_readers import CONFIG
from tests.integration.test_drop import Room, _room, _verdicts
from tests.servers.command import run_ocisync
from tests.servers.images import Image, docker_archive, layout_files, make_image, oci_archive

pytestmark = pytest.mark.anyio

BOTH = (Platform("linux", "amd64"), Platform("linux", "arm64"))


@pytest.mark.parametrize("action", ["warn", "publish", "fail"])
async def test_a_set_that_stays_incomplete(tmp_path: Path, action: str) -> None:
    policy = Incomplete(3600.0, action)  # type: ignore[arg-type]
    async with _room(tmp_path, platforms=BOTH, incomplete=policy) as room:
        room.put("app/1/linux.amd64.tar")
        (report,) = await room.once()
        assert (report.verdict, report.reason) == (InputVerdict.WAITING, "waits for linux/arm64")
        room.clock.ahead += 3600.0
        with capture_logs() as logs:
            (report,) = await room.once()
        if action == "warn":
            assert report.verdict is InputVerdict.WAITING
            assert "no file for linux/arm64 came within 3600 seconds" in report.reason
            assert [entry["log_level"] for entry in logs if entry["event"] == "drop.waits"] == ["warning"]
        elif action == "publish":
            assert report.verdict is InputVerdict.PUBLISHED
            assert room.runner.sources == ["linux.amd64.tar"]
            assert await room.once() == []
        else:
            assert report.failure
            assert report.failure.code == "set.incomplete"
            assert list(room.tree()) == ["failed/app/1/linux.amd64.tar", "failed/app/1/linux.amd64.tar.reason.txt"]
            assert room.runner.jobs == []
        room.put("app/1/linux.arm64.tar", "late")
        if action == "fail":
            room.put("app/1/linux.amd64.tar", "again")
        assert _verdicts(await room.once()) == {"app/1/": "published"}
        assert room.runner.sources[-1] == "linux.amd64.tar linux.arm64.tar"


async def test_a_replaced_member_publishes_the_set_again(tmp_path: Path) -> None:
    async with _room(tmp_path, platforms=BOTH) as room:
        room.put("app/1/linux.amd64.tar", "one")
        room.put("app/1/linux.arm64.tar", "two")
        await room.once()
        assert await room.once() == []
        room.put("app/1/linux.arm64.tar", "three")
        assert _verdicts(await room.once()) == {"app/1/": "published"}
        room.put("app/1/linux.arm64.tar", "three")  # written again, with the same content
        assert _verdicts(await room.once()) == {"app/1/": "unchanged"}
        assert len(room.runner.jobs) == 2


def configured(tmp_path: Path, more: str = "") -> Path:
    config = tmp_path / "ocisync.yaml"
    config.write_text(
        "version: 1\n"
        "targets: {local: {type: static, path: ./registry}}\n"
        f"drop: [{{name: builds, path: ./drop, target: local, stable: 0s, settle: 0s{more}}}]\n"
        "daemon: {state: ./state}\n"
    )
    return config


def index(tmp_path: Path, name: str = "team/app", tag: str = "1") -> list[tuple[str, str]]:
    """Architecture and digest of the children that a published index lists."""
    listed = json.loads((tmp_path / "registry/v2" / name / "manifests" / tag).read_bytes())["manifests"]
    return [(child["platform"]["architecture"], child["digest"]) for child in listed]


def members() -> tuple[Image, Image]:
    return make_image("amd"), make_image("arm", platform=("linux", "arm64", "v8"))


@pytest.mark.parametrize("kind", ["oci-archive", "layout"])
def test_sets_of_oci_archives_and_of_layouts_keep_their_digests(tmp_path: Path, kind: str) -> None:
    amd, arm = members()
    for name, image in (("linux.arm64", arm), ("linux.amd64", amd)):
        if kind == "oci-archive":
            oci_archive(tmp_path / f"drop/team/app/1/{name}.tar.gz", image, compress=True)
        else:
            write(tmp_path / f"drop/team/app/1/{name}", layout_files({"": image}))
    config = configured(tmp_path, ", platforms: [linux/amd64, linux/arm64]")
    run_ocisync("once", "-c", config).expect()
    assert index(tmp_path) == [("amd64", amd.digest), ("arm64", arm.digest)]


def test_other_patterns_and_a_platform_that_does_not_agree(tmp_path: Path) -> None:
    amd, arm = members()
    docker_archive(tmp_path / "drop/app-1_linux-arm64.tar", arm)
    docker_archive(tmp_path / "drop/app-1_linux-amd64.tar", amd)
    docker_archive(tmp_path / "drop/bad-1_linux-amd64.tar", arm)
    config = configured(tmp_path, ', layout: "{name}-{tag}_{os}-{arch}"')
    report = json.loads(run_ocisync("once", "--json", "-c", config).expect(1).stdout)
    assert [architecture for architecture, _ in index(tmp_path, "app")] == ["amd64", "arm64"]
    failures = {one["input"]: one["failure"]["code"] for one in report["inputs"] if one["failure"]}
    assert failures == {"bad/1/": "platform.mismatch"}


def test_incomplete_needs_platforms(tmp_path: Path) -> None:
    refused = run_ocisync("config", "check", "-c", configured(tmp_path, ", incomplete: {after: 1h}")).expect(2)
    assert "without `platforms` no set is incomplete" in refused.stdout + refused.stderr
    run_ocisync(
        "config", "check", "-c",
        configured(tmp_path, ", platforms: [linux/amd64], incomplete: {after: 1h, action: publish}"),
    ).expect()  # fmt: skip


async def test_an_archive_is_opened_once_for_its_names_and_all_its_targets(tmp_path: Path) -> None:
    docker_archive(tmp_path / "drop/a.tar", {"team/app:1": make_image()}, compress=True)
    archives = Archives(CONFIG, tmp_path)
    used: list[object] = []

    async def run(job: Job) -> JobReport:
        assert isinstance(job.source, ArchiveLocator)
        async with archives.source(job.source) as source:
            used.append(source)
        return JobReport(job.rule, str(job.source), str(job.target))

    async def names(locator: Locator) -> list[str]:
        assert isinstance(locator, ArchiveLocator)
        async with archives.source(locator) as source:
            used.append(source)
        return list(await archives.names(locator))

    class HeldArchives(NamedArchives):
        def hold(self, locator: Locator) -> AbstractAsyncContextManager[None]:
            return archives.hold(locator)

    async with _two_targets(tmp_path) as room:
        processor = InputProcessor(room.rule, room.state.inputs, HeldArchives(names), run, room.clock)
        (report,) = await DropWatcher(processor).pass_once(patience=True)
    assert report.verdict is InputVerdict.PUBLISHED, report
    assert len(used) == 3
    assert len({id(source) for source in used}) == 1
    async with archives.source(ArchiveLocator(str(tmp_path / "drop/a.tar"))) as source:
        assert source is not used[0]


@asynccontextmanager
async def _two_targets(tmp_path: Path) -> AsyncIterator[Room]:
    async with _room(tmp_path, targets=(DropTarget("one"), DropTarget("two")), stable=0.0) as room:
        room.rule = replace(room.rule, settle=0.0)
        yield room


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
