"""Settings of a packed image: the file, the options over it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocisync.errors import ConfigError
from ocisync.images.pack.settings import read_settings


def settings_file(folder: Path, text: str) -> Path:
    """A YAML file."""
    path = folder / "image.yaml"
    path.write_text(text)
    return path


def test_options_lie_over_the_file(tmp_path: Path) -> None:
    path = settings_file(tmp_path, "env: {A: 1, B: 2}\nports: [80]\nuser: 1000\nentrypoint: [/a]\nexclude: [x]\n")
    found = read_settings(path, {"env": {"B": "3"}, "ports": ("90/udp",), "entrypoint": ["/b"], "exclude": ("y",)})
    assert found.env == {"A": "1", "B": "3"}
    assert found.ports == ["80/tcp", "90/udp"]
    assert (found.user, found.entrypoint, found.exclude) == ("1000", ["/b"], ["x", "y"])


def test_lists_of_pairs(tmp_path: Path) -> None:
    found = read_settings(settings_file(tmp_path, "env: [A=1, B=x=y]\n"), {"env": {"A": "2"}})
    assert found.env == {"A": "2", "B": "x=y"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("entrypont: [/a]", "entrypont"),
        ("env: [novalue, =x]", "env"),
        ("ports: [http]", "expected a port"),
        ("dir: srv", "absolute path"),
        ("volumes: [data]", "absolute path"),
        ("platform: linux", "not a platform"),
        ("format: tar", "format"),
        ("- a list", "expected settings"),
        ("a: [", "not YAML"),
        ("1: x", "expected settings"),
        ("format: docker\nannotations: {a: b}", "neither annotations nor blobs"),
    ],
)
def test_what_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_settings(settings_file(tmp_path, text), {})


@pytest.mark.parametrize(("text", "owner"), [("keep", None), ("5", (5, 5)), ("0:7", (0, 7))])
def test_owners(text: str, owner: tuple[int, int] | None) -> None:
    assert read_settings(None, {"owner": text}).tree_options(0).owner == owner


@pytest.mark.parametrize("text", ["root", "1:", "-1", str(2**32), "1:2:3"])
def test_owners_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="expected UID"):
        read_settings(None, {"owner": text}).tree_options(0)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(tmp_path / "none.yaml", {})
