"""What is told of inputs."""

from __future__ import annotations

import pytest

from ocisync.drop.report import without_name


@pytest.mark.parametrize(
    ("key", "message", "told"),
    [
        ("a.tar", "a.tar: no tar", "no tar"),
        ("a.tar", "/srv/drop/a.tar: no tar: at all", "no tar: at all"),
        ("team/app/1.0/", "team/app/1.0/: two images", "two images"),
        ("a.tar", "ba.tar: no tar", "ba.tar: no tar"),
        ("a.tar", "disk full", "disk full"),
        ("a.tar", "a.tar: ", "a.tar: "),
    ],
)
def test_a_name_that_stands_already_is_not_said_twice(key: str, message: str, told: str) -> None:
    assert without_name(key, message) == told
