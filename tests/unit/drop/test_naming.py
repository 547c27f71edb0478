"""What paths in a drop folder mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.drop.naming import SetMemberPath, SingleArchive, check_name, classify, find_slip
from ocisync.errors import InputError, InvalidName
from ocisync.model.image_name import parse_name, parse_tag
from ocisync.model.platform import Platform

DEFAULT = "{name}/{tag}/{os}.{arch}"
AMD64 = Platform("linux", "amd64")


@pytest.mark.parametrize(
    ("path", "name", "tag", "platform"),
    [
        ("app/1.0/linux.amd64.tar.gz", "app", "1.0", AMD64),
        ("app/1.0/linux.amd64.tgz", "app", "1.0", AMD64),
        ("app/1.0/linux.amd64.tar", "app", "1.0", AMD64),
        ("app/1.0/linux.x86_64.tar.zst", "app", "1.0", AMD64),
        ("app/1.0/Linux.AMD64.TAR.GZ", "app", "1.0", AMD64),
        ("app/1.0/linux.arm64.v8.tar.gz", "app", "1.0", Platform("linux", "arm64")),
        ("app/1.0/linux.arm.v6.tar.gz", "app", "1.0", Platform("linux", "arm", "v6")),
        ("team/app/1.0/linux.amd64.tar.gz", "team/app", "1.0", AMD64),
        ("a/b/c/v_1-2.3/windows.amd64.tar", "a/b/c", "v_1-2.3", Platform("windows", "amd64")),
    ],
)
def test_members_of_sets(path: str, name: str, tag: str, platform: Platform) -> None:
    assert classify(path, DEFAULT) == SetMemberPath(name, tag, platform)


@pytest.mark.parametrize(
    ("path", "name", "tag"),
    [
        ("image.tar", "", ""),
        ("app/1.0.tar", "app", "1.0"),
        ("team/app/1.0.tar.gz", "team/app", "1.0"),
        ("team/app/3.19.1.tgz", "team/app", "3.19.1"),
        ("team/app/2.tbz2", "team/app", "2"),
        ("app/linux.amd64.tar", "app", "linux.amd64"),
        ("app/1.0/notes.text.tar", "app/1.0", "notes.text"),
    ],
)
def test_single_archives(path: str, name: str, tag: str) -> None:
    assert classify(path, DEFAULT) == SingleArchive(name, tag)


@pytest.mark.parametrize("path", ["README", "app/1.0/linux.amd64", "app/sums.txt", ".tar", "app/.tar.gz"])
def test_no_archives(path: str) -> None:
    assert classify(path, DEFAULT) is None


@pytest.mark.parametrize(
    ("layout", "path"),
    [
        ("{tag}/{name}/{os}-{arch}", "1.0/team/app/linux-arm-v7.tar"),
        ("{name}/{os}/{arch}/{tag}", "team/app/linux/arm.v7/1.0.tar"),
        ("images/{name}_{tag}/{os}.{arch}.{variant}", "images/team/app_1.0/linux.arm.v7.tar"),
    ],
)
def test_other_layouts(layout: str, path: str) -> None:
    assert classify(path, layout) == SetMemberPath("team/app", "1.0", Platform("linux", "arm"))


def test_an_oci_layouts_folder_needs_no_suffix() -> None:
    assert classify("app/1.0", DEFAULT, is_folder=True) == SingleArchive("app", "1.0")
    assert classify("app/1.0/linux.amd64", DEFAULT, is_folder=True) == SetMemberPath("app", "1.0", AMD64)


HOSTILE = [
    "Team/1.0/linux.amd64.tar",
    "app/-1/linux.amd64.tar",
    "a/../b/1.0/linux.amd64.tar",
    "../1.0/linux.amd64.tar",
    "a b/1.0/linux.amd64.tar",
    "app/../linux.amd64.tar",
    f"{'a' * 300}/1.0/linux.amd64.tar",
    f"app/{'1' * 129}/linux.amd64.tar",
    "app\n/1.0/linux.amd64.tar",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_fault_76_names_of_sets_are_checked_before_anything_is_built_from_them(path: str) -> None:
    with pytest.raises(InvalidName):
        classify(path, DEFAULT)


@pytest.mark.parametrize("path", ["Team/1.0.tar", "app/-1.tar", "a/../b/1.tar", "../1.tar", f"app/{'1' * 129}.tar"])
def test_fault_76_names_of_single_archives_are_checked_when_they_are_used(path: str) -> None:
    found = classify(path, DEFAULT)
    assert isinstance(found, SingleArchive)
    with pytest.raises(InvalidName, match=r"\.tar"):
        check_name(path, found)


@given(st.text(max_size=40).map(lambda text: f"{text}/linux.amd64.tar"))
def test_fault_76_whatever_the_path_what_comes_out_fits_the_grammar(path: str) -> None:
    try:
        found = classify(path, DEFAULT)
    except InvalidName:
        return
    if isinstance(found, SetMemberPath):
        assert (parse_name(found.name), parse_tag(found.tag)) == (found.name, found.tag)


def test_fault_74_an_archive_without_any_name_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match="docker save NAME:TAG") as refused:
        check_name("image.tar", SingleArchive("", ""))
    assert refused.value.code == "name.missing"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("app/1.0/linux-amd64.tar.gz", "app/1.0/linux.amd64.tar.gz"),
        ("team/app/1.0/linux_arm64_v8.tar", "team/app/1.0/linux.arm64.v8.tar"),
        ("Linux.AMD64.tgz", "NAME/TAG/linux.amd64.tgz"),
        ("app/linux-x86_64.tar", "NAME/app/linux.x86_64.tar"),
        ("app/1.0/app-1.0-linux-arm64.tar", "app/1.0/linux.arm64.tar"),
        ("app/1.0/app_linux_armv7l.tar", "app/1.0/linux.arm.v7.tar"),
        ("app/1.0/linux.arm64v8.tar", "app/1.0/linux.arm64.v8.tar"),
        ("app/1.0/windows-amd64-ltsc2022.tar.gz", "app/1.0/windows.amd64.ltsc2022.tar.gz"),
        ("app/1.0/windows_amd64_10.0.20348.tar.gz", "app/1.0/windows.amd64.10.0.20348.tar.gz"),
        ("app/1.0/arm64.tar", "app/1.0/linux.arm64.tar"),
        ("wasm.tar", ""),
        ("app/1.0/alarm.tar", ""),
        ("app/1.0/app.tar", ""),
        ("linux/1.0.tar", ""),
        ("linux-6.1.tar", ""),
        ("app-amd64.tar", ""),
    ],
)
def test_a_slip_in_a_members_name_is_told(path: str, wanted: str) -> None:
    assert find_slip(path, "{name}/{tag}/{os}.{arch}") == wanted
