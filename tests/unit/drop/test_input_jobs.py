"""The jobs that publish what was dropped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ocisync.drop.input_jobs import jobs_of, published_by, repositories_of
from ocisync.drop.inputs import Input, group
from ocisync.drop.rule import DropRule, DropTarget
from ocisync.drop.scan import FolderEntry, Stamp
from ocisync.errors import InputError, InvalidName
from ocisync.model.locator import ArchiveLocator, LayoutLocator, Locator, SetLocator
from tests.drop_archives import NamedArchives

RULE = DropRule("builds", Path("/drop"), (DropTarget("local"), DropTarget("mirror", "team")))


def _inputs(*paths: str, is_folder: bool = False) -> list[Input]:
    entries = [FolderEntry(path, f"/drop/{path}", Stamp(1, 2, 3), 0.0, is_folder) for path in paths]
    return group(entries, RULE.layout)[0]


def _wanted(path: str, *references: str) -> dict[str, dict[str, str]]:
    return repositories_of(_inputs(path)[0], references)[0]


@pytest.mark.parametrize(
    ("reference", "name", "tag"),
    [
        ("alpine:3", "alpine", "3"),
        ("docker.io/library/alpine:3", "library/alpine", "3"),
        ("localhost:5000/app:1", "app", "1"),
        ("localhost/app:1", "app", "1"),
        ("ghcr.io/org/app:v1", "org/app", "v1"),
        ("org/app:v1", "org/app", "v1"),
        ("org/app", "org/app", "latest"),
    ],
)
def test_fault_74_an_archive_is_published_under_its_own_name_without_the_host(
    reference: str, name: str, tag: str
) -> None:
    assert _wanted("some/where.tar", reference) == {name: {tag: reference}}


def test_fault_74_without_a_name_inside_the_path_tells_it() -> None:
    assert _wanted("team/app/1.0.tar") == {"team/app": {"1.0": ""}}
    assert _wanted("team/app/1.0.tar", "2.0") == {"team/app": {"2.0": "2.0"}}
    assert _wanted("team/app/1.0.tar", "@1") == {"team/app": {"1.0": "@1"}}


@pytest.mark.parametrize("reference", [f"other@sha256:{64 * '0'}", "index.docker.io/other/x:i-was-a-digest"])
def test_a_digest_is_no_name(reference: str) -> None:
    assert _wanted("team/app/1.0.tar", reference) == {"team/app": {"1.0": reference}}
    assert _wanted("team/app/1.0.tar", reference, "app:2") == {"app": {"2": "app:2"}}
    with pytest.raises(InputError, match="names a digest; save the image with a tag"):
        _wanted("app.tar", reference)


@pytest.mark.parametrize(
    ("path", "references"),
    [("app.tar", []), ("app.tar", ["1.0"]), ("app/1.tar", ["@1", "@2"])],
)
def test_fault_74_images_that_nothing_names_are_refused(path: str, references: Sequence[str]) -> None:
    with pytest.raises(InputError) as refused:
        _wanted(path, *references)
    assert refused.value.code == "name.missing"


def test_fault_74_several_images_go_to_their_repositories() -> None:
    wanted, warnings = repositories_of(_inputs("x.tar")[0], ["a:1", "a:2", "host.io/b:1", "other.io/b:1"])
    assert wanted == {"a": {"1": "a:1", "2": "a:2"}, "b": {"1": "host.io/b:1"}}
    assert len(warnings) == 1
    assert "other.io/b:1" in warnings[0]


def test_fault_76_hostile_names_inside_an_archive_are_refused() -> None:
    for reference in ("../x:1", "a//b:1", "A:1", f"{'a' * 300}:1", "a:../b", "a:-x"):
        with pytest.raises(InvalidName, match=r"^app/1\.tar: the archive calls an image .*save it under another"):
            _wanted("app/1.tar", reference)


async def test_a_single_archive_makes_a_job_per_target_repository() -> None:
    asked: list[Locator] = []

    async def names(locator: Locator) -> Sequence[str]:
        asked.append(locator)
        return ["a:1", "b:1"]

    jobs = (await jobs_of(_inputs("x.tar")[0], RULE, NamedArchives(names))).jobs
    assert asked == [ArchiveLocator("/drop/x.tar")]
    assert published_by(jobs) == ("local/a:1", "local/b:1", "mirror/team/a:1", "mirror/team/b:1")
    assert {(str(job.source), job.rule) for job in jobs} == {("archive:/drop/x.tar", "builds")}
    assert jobs[0].tags.literal == {"1": "a:1"}


async def test_a_layouts_folder_and_a_set_are_named_by_their_paths() -> None:
    jobs = (await jobs_of(_inputs("app/1", is_folder=True)[0], RULE, NamedArchives())).jobs
    assert jobs[0].source == LayoutLocator("/drop/app/1")
    (found,) = _inputs("app/1.0/linux.amd64.tar.gz", "app/1.0/linux.arm64.tgz")
    jobs = (await jobs_of(found, RULE, NamedArchives())).jobs
    assert published_by(jobs) == ("local/app:1.0", "mirror/team/app:1.0")
    assert isinstance(jobs[0].source, SetLocator)
    assert {str(member.platform): member.path for member in jobs[0].source.members} == {
        "linux/amd64": "/drop/app/1.0/linux.amd64.tar.gz",
        "linux/arm64": "/drop/app/1.0/linux.arm64.tgz",
    }
    assert jobs[0].tags.literal == {"1.0": ""}


async def test_two_files_for_one_platform_are_refused() -> None:
    (found,) = _inputs("app/1.0/linux.amd64.tar.gz", "app/1.0/linux.x86_64.tar")
    with pytest.raises(InputError, match=r"linux\.x86_64\.tar") as refused:
        await jobs_of(found, RULE, NamedArchives())
    assert refused.value.code == "set.ambiguous"
