"""Real archives through a drop folder into a static registry in a directory, as `ocisync once` takes them."""

from __future__ import annotations

import gzip
import json
import shutil
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import zstandard

from ocisync.commands.demo_samples import docker_archive, write_sample
from ocisync.config.load import load_config
from ocisync.daemon.single_pass import PassReport, run_pass
from ocisync.drop.rule import InputVerdict
from ocisync.state.open import open_state
from ocisync.wiring.rules import open_rules
from tests.servers.command import run_ocisync
from tests.servers.images import docker_members, make_image, write_archive

CONFIG = """
version: 1
targets:
  local: {type: static, path: ./registry}
drop:
  - {name: builds, path: ./drop, target: local, done: move, settle: 0s, stable: 0s}
daemon: {state: ./state}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration beside a drop folder with a set, a single archive and two bad ones."""
    for architecture in ("amd64", "arm64"):
        write_sample(tmp_path / f"drop/team/app/1.0/linux.{architecture}.tar.gz", architecture)
    whole = docker_archive("amd64")
    (tmp_path / "drop/any.tar").write_bytes(whole)
    (tmp_path / "drop/cut.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "drop/junk.tar").write_bytes(b"no archive at all" * 1000)
    path = tmp_path / "ocisync.yaml"
    path.write_text(CONFIG)
    return path


async def _pass(file: Path) -> PassReport:
    config = await anyio.to_thread.run_sync(load_config, file)
    async with open_state(config.daemon.state) as state, open_rules(config, state) as rules:
        return await run_pass(rules, state)


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_fault_65_bad_archives_are_quarantined_and_the_good_ones_published(file: Path, tmp_path: Path) -> None:
    report = await _pass(file)
    codes = {one.key: one.failure.code if one.failure else "" for one in report.inputs}
    assert codes == {
        "any.tar": "",
        "team/app/1.0/": "",
        "cut.tar": "archive.invalid",
        "junk.tar": "archive.invalid",
    }
    assert _files(tmp_path / "drop") == {
        "done/any.tar",
        "done/team/app/1.0/linux.amd64.tar.gz",
        "done/team/app/1.0/linux.arm64.tar.gz",
        "cut.tar",
        "failed/junk.tar",
        "failed/junk.tar.reason.txt",
    }
    index = json.loads((tmp_path / "registry/v2/team/app/manifests/1.0").read_bytes())
    assert {child["platform"]["architecture"] for child in index["manifests"]} == {"amd64", "arm64"}
    assert (tmp_path / "registry/v2/demo/hello/manifests/1.0").is_file()
    assert not (tmp_path / "registry/v2/cut").exists()


async def test_a_second_pass_has_nothing_to_do(file: Path, tmp_path: Path) -> None:
    await _pass(file)
    (tmp_path / "drop/cut.tar").unlink()
    again = await _pass(file)
    assert (again.ok, again.jobs, again.inputs) == (True, [], [])


CUTS = (1, 5, 100, 257, 511, 512, 600, 2000)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.zst"])
async def test_what_is_cut_off_stays_and_is_published_by_a_later_pass(tmp_path: Path, kind: str) -> None:
    path = _dropped(tmp_path, docker_members({"team/app:1": make_image("one")}))
    (tmp_path / "drop/app.tar").rename(tmp_path / "whole")
    plain = (tmp_path / "whole").read_bytes()
    whole = {"tar": plain, "tar.gz": gzip.compress(plain), "tar.zst": zstandard.compress(plain)}[kind]
    cuts = CUTS if kind == "tar" else (*CUTS, -1)  # a tar may lack the last of its zeros
    for cut in cuts:
        (tmp_path / f"drop/{cut}.{kind}").write_bytes(whole[:cut])
    report = await _pass(path)
    told = {one.key: one.failure.handling if one.failure else "published" for one in report.inputs}
    assert told == {f"{cut}.{kind}": "retry" for cut in cuts}
    assert not report.ok
    assert not (tmp_path / "drop/failed").exists()
    for cut in cuts:
        with (tmp_path / f"drop/{cut}.{kind}").open("ab") as file:
            file.write(whole[cut:])
    assert (await _pass(path)).ok
    assert not (tmp_path / "drop/failed").exists()


async def test_a_layout_whose_files_have_not_all_come_stays(tmp_path: Path) -> None:
    path = _dropped(tmp_path, docker_members({"team/app:1": make_image("one")}))
    copy = partial(run_ocisync, "copy", tmp_path / "drop/app.tar", f"oci:{tmp_path}/layout:app:1")
    (await anyio.to_thread.run_sync(copy)).expect(0)
    (tmp_path / "drop/app.tar").unlink()
    drop = tmp_path / "drop/team/app/1"
    files = sorted((one for one in (tmp_path / "layout").rglob("[!.]*") if one.is_file()), reverse=True)
    for number in range(1, len(files) + 1):
        for one in files[:number]:
            to = drop / one.relative_to(tmp_path / "layout")
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(one.read_bytes()[: -5 if one is files[number - 1] else None])
        report = await _pass(path)
        assert all(one.failure and one.failure.handling == "retry" for one in report.inputs), report
        assert not (tmp_path / "drop/failed").exists()
    shutil.copytree(tmp_path / "layout", drop, dirs_exist_ok=True)
    report = await _pass(path)
    assert [one.published for one in report.inputs] == [("local/app:1",)]


def _dropped(tmp_path: Path, members: dict[str, bytes]) -> Path:
    path = tmp_path / "ocisync.yaml"
    path.write_text(CONFIG)
    write_archive(tmp_path / "drop/app.tar", members)
    return path


async def _verdict(file: Path) -> str:
    report = await _pass(file)
    (found,) = report.inputs
    assert report.jobs == [] or found.verdict is not InputVerdict.UNCHANGED
    return found.failure.code if found.failure else found.verdict.value


async def test_images_that_are_saved_again_are_known_by_what_their_archive_says(tmp_path: Path) -> None:
    members = docker_members({"team/app:1": make_image("one")})
    file = _dropped(tmp_path, members)
    assert await _verdict(file) == "published"
    _dropped(tmp_path, dict(reversed(members.items())))
    assert await _verdict(file) == "unchanged"
    _dropped(tmp_path, docker_members({"team/app:1": make_image("two")}))
    assert await _verdict(file) == "published"
    _dropped(tmp_path, members)
    assert await _verdict(file) == "published"


async def test_what_a_damaged_archive_says_holds_no_good_one_back(tmp_path: Path) -> None:
    members = docker_members({"team/app:1": make_image("one")})
    layer = next(name for name in members if name.endswith(".tar"))
    file = _dropped(tmp_path, members | {layer: bytes(len(members[layer]))})
    (tmp_path / "drop/failed").write_text("in the way of the folder")
    assert await _verdict(file) == "verify.diffid"
    assert await _verdict(file) == "verify.diffid"
    assert (tmp_path / "drop/app.tar").exists()
    _dropped(tmp_path, members)
    assert await _verdict(file) == "published"


async def test_what_is_skipped_is_said_with_the_reason(file: Path, tmp_path: Path) -> None:
    (tmp_path / "drop/notes.txt").write_text("not an archive")
    (tmp_path / "drop/linked.tar").symlink_to("any.tar")
    skipped = (await _pass(file)).skipped["builds"]
    assert skipped == {
        "notes.txt": "its name is not that of an archive (.tar, .tar.gz, .tgz, …)",
        "linked.tar": "a link, not a file",
    }
