"""References, locators, platforms: the grammars people type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.errors import InvalidName
from ocisync.model.digest import sha256
from ocisync.model.image_name import parse_image_name, parse_name, parse_tag
from ocisync.model.locator import parse_locator
from ocisync.model.platform import Platform, is_same_platform, normalize, parse_platform

DIGEST = sha256(b"x")


@pytest.mark.parametrize(
    ("text", "host", "repository", "reference"),
    [
        ("alpine", "docker.io", "library/alpine", "latest"),
        ("alpine:3.19", "docker.io", "library/alpine", "3.19"),
        ("docker.io/alpine", "docker.io", "library/alpine", "latest"),
        ("index.docker.io/me/app:1", "docker.io", "me/app", "1"),
        ("me/app", "docker.io", "me/app", "latest"),
        ("localhost:5000/a/b/c:t", "localhost:5000", "a/b/c", "t"),
        ("localhost/app", "localhost", "app", "latest"),
        ("[::1]:5000/app:1", "[::1]:5000", "app", "1"),
        (f"ghcr.io/o/p@{DIGEST}", "ghcr.io", "o/p", DIGEST),
        (f"ghcr.io/o/p:1@{DIGEST}", "ghcr.io", "o/p", DIGEST),
    ],
)
def test_image_names_read_as_docker_reads_them(text: str, host: str, repository: str, reference: str) -> None:
    name = parse_image_name(text)
    assert (name.host, name.repository, name.reference) == (host, repository, reference)


@pytest.mark.parametrize(
    "text",
    ["", "UPPER", "a/", "/a", "a//b", "host:99999999/a", "a:", "a:.x", "a@sha256:123", "a b", "a:b:c", "a\n", "é/a",
     "../a", "host.com/../a", "a/./b", "a" * 256, "host.com/" + "a" * 256, "a:" + "t" * 129],
)  # fmt: skip
def test_bad_image_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_image_name(text)


@given(st.text(max_size=40))
def test_names_and_tags_never_crash_and_never_let_a_path_through(text: str) -> None:
    for parse in (parse_name, parse_tag):
        try:
            accepted = parse(text)
        except InvalidName:
            continue
        assert ".." not in accepted.split("/")
        assert not accepted.startswith(("/", "."))
        assert accepted.isascii()


@pytest.mark.parametrize(
    "text",
    [
        "docker://docker.io/library/alpine:3",
        f"docker://ghcr.io/o/p@{DIGEST}",
        "oci:/tmp/layout",
        "oci:/tmp/layout:1.0",
        f"oci:/tmp/layout@{DIGEST}",
        "oci:/tmp/layout:@1",
        "oci-archive:a.tar:1.0",
        f"oci-archive:a.tar@{DIGEST}",
        "docker-archive:a.tar",
        "docker-archive:a.tar:me/app:1.0",
        "docker-archive:a.tar:@1",
        f"docker-archive:a.tar@{DIGEST}",
        "static:./registry//me/app:1.0",
        f"static:/srv/registry//me/app@{DIGEST}",
        "s3://bucket/me/app:1.0?endpoint=http://127.0.0.1:8333&region=garage&s3ForcePathStyle=true",
        "s3://bucket/me/app:latest",
    ],
)
def test_locators_are_written_as_they_are_read(text: str) -> None:
    assert str(parse_locator(text)) == text


@pytest.mark.parametrize(
    "text",
    ["alpine", "alpine:3", "http://x/y", "docker:alpine", "oci:", "static:dir", "static://name", "s3://bucket",
     "s3://bucket/a?endpont=x", "static:d//../x", "s3://bucket/../x", "docker-archive:f.tar:UPPER:1", ""],
)  # fmt: skip
def test_bad_locators_are_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_locator(text)


def test_a_forgotten_transport_gets_a_suggestion() -> None:
    with pytest.raises(InvalidName, match="did you mean docker://alpine"):
        parse_locator("alpine")
    with pytest.raises(InvalidName, match=r"did you mean docker://ghcr\.io/o/p:1"):
        parse_locator("ghcr.io/o/p:1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/aarch64", "linux/arm64", True),
        ("linux/arm", "linux/arm/v7", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/x86_64", "linux/amd64", True),
        ("linux/amd64/v2", "linux/amd64", False),
        ("Linux/AMD64", "linux/amd64", True),
        ("windows/amd64", "linux/amd64", False),
    ],
)
def test_platform_spellings(one: str, other: str, same: bool) -> None:
    assert is_same_platform(parse_platform(one), parse_platform(other)) is same


def test_an_operating_systems_version_counts_when_both_say_one() -> None:
    old, new = (Platform("windows", "amd64", os_version=version) for version in ("10.0.1", "10.0.2"))
    assert not is_same_platform(old, new)
    assert is_same_platform(old, Platform("windows", "amd64"))


@pytest.mark.parametrize("text", ["linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "../x/y"])
def test_bad_platforms_are_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_platform(text)


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=4))
def test_normalizing_twice_changes_nothing(os: str, architecture: str, variant: str) -> None:
    once = normalize(Platform(os, architecture, variant))
    assert normalize(once) == once
