"""Where images go under the names that they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocisync.commands.images.names import own_name, parse_source, places_below, with_tag
from ocisync.errors import InvalidName
from ocisync.model.locator import ArchiveLocator, parse_locator

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("docker://ghcr.io/org/app:1", "ghcr.io/org/app:1"),
        ("docker://alpine", "docker.io/library/alpine:latest"),
        (f"docker://ghcr.io/org/app@{DIGEST}", ""),
        ("static:./s//org/app:1", "org/app:1"),
        ("oci:l:x", "x"),
        (f"oci:l:{DIGEST}", ""),
        ("docker-archive:a.tar:org/app:1", "org/app:1"),
        ("docker-archive:a.tar", ""),
    ],
)
def test_an_image_has_a_name_at_its_source(source: str, name: str) -> None:
    locator = parse_locator(source)
    assert own_name(locator, locator.reference) == name


@pytest.mark.parametrize(
    ("root", "name", "place"),
    [
        ("docker://h:1/m", "ghcr.io/org/app:1", "docker://h:1/m/org/app:1"),
        ("docker://h:1", "org/app", "docker://h:1/org/app:latest"),
        ("docker://h:1/m", "1", "docker://h:1/m:1"),
        ("static:d", "org/app:1", "static:d//org/app:1"),
        ("static:d//m", "org/app:1", "static:d//m/org/app:1"),
        ("static:d//m", "1", "static:d//m:1"),
        ("s3://b?region=r", "org/app:1", "s3://b/org/app:1?region=r"),
        ("s3://b/m?region=r", "org/app:1", "s3://b/m/org/app:1?region=r"),
        ("target:t/m", "org/app:1", "target:t/m/org/app:1"),
    ],
)
def test_a_name_gives_a_repository_below_a_root(root: str, name: str, place: str) -> None:
    ((found, tags),) = places_below(root, {name: "reference"}).items()
    assert list(tags.values()) == ["reference"]
    expected = parse_locator(place)
    assert list(tags) == [expected.reference]
    without_tag = place.partition("?")[0].removesuffix(f":{expected.reference}")
    assert str(found).partition("?")[0].removesuffix(":latest") == without_tag


def test_tags_of_one_repository_are_one_job() -> None:
    assert len(places_below("docker://h", {"a/b:1": "1", "a/b:2": "2", "c/d:1": "3"})) == 2


def test_a_plain_file_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    assert str(parse_source(f"{tmp_path}/a.tar:org/app:1")) == f"archive:{tmp_path}/a.tar:org/app:1"
    assert str(parse_source(f"{tmp_path}:1")) == f"oci:{tmp_path}:1"
    assert str(parse_source(f"{tmp_path}/a.tar:@1")) == f"archive:{tmp_path}/a.tar:@1"
    assert str(parse_source(f"{tmp_path}/a.tar@{DIGEST}")) == f"archive:{tmp_path}/a.tar@{DIGEST}"
    assert str(parse_source(f"{tmp_path}@{DIGEST}")) == f"oci:{tmp_path}@{DIGEST}"
    assert str(parse_source("docker://alpine:3")) == "docker://docker.io/library/alpine:3"
    with pytest.raises(InvalidName, match=r"no such file.*docker-archive:.*oci:"):
        parse_source(f"{tmp_path}/b.tar")
    with pytest.raises(InvalidName, match=r"^docker:alpine needs two slashes"):
        parse_source("docker:alpine")


def test_a_colon_may_be_part_of_a_files_name(tmp_path: Path) -> None:
    for name in ("app:1.tar", "app"):
        (tmp_path / name).touch()
    assert parse_source(f"{tmp_path}/app:1.tar") == ArchiveLocator(f"{tmp_path}/app:1.tar")
    assert parse_source(f"{tmp_path}/app:1.tar:a/b:2") == ArchiveLocator(f"{tmp_path}/app:1.tar", "a/b:2")
    assert parse_source(f"{tmp_path}/app:2") == ArchiveLocator(f"{tmp_path}/app", "2")


def test_a_place_with_another_tag() -> None:
    for place, expected in (
        ("docker://h:1/a/b:1", "docker://h:1/a/b:2"),
        ("static:d//a:1", "static:d//a:2"),
        ("oci:d:1", "oci:d:1"),
    ):
        assert str(with_tag(parse_locator(place), "2")) == expected
