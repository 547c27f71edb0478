"""Selection: whole-tag matches, deny after allow, literals without a listing."""

from __future__ import annotations

import pytest

from ocisync.sync.select import TagSelection, narrowed, select_tags

LISTED = ["1.0", "1.10", "11.0", "2.0-rc1", "latest"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (TagSelection(), LISTED),
        (TagSelection(allow=(r"1\..*",)), ["1.0", "1.10"]),
        (TagSelection(allow=(r"1\.0",)), ["1.0"]),  # anchored: neither 11.0 nor 1.0-x
        (TagSelection(deny=(r".*rc.*", "latest")), ["1.0", "1.10", "11.0"]),
        (TagSelection(allow=(r"\d.*",), deny=(r"1\..*",)), ["11.0", "2.0-rc1"]),
        (TagSelection(allow=("none",)), []),
    ],
)
def test_patterns_match_whole_tags(selection: TagSelection, expected: list[str]) -> None:
    assert select_tags(selection, LISTED) == {tag: tag for tag in expected}


def test_literals_need_no_listing() -> None:
    assert select_tags(TagSelection(literal={"new": "old"}, allow=("x",)), ()) == {"new": "old"}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (TagSelection(), {"1.0": "1.0", "2.0": "2.0"}),
        (TagSelection(allow=(r"1\..*",)), {"1.0": "1.0"}),
        (TagSelection(deny=("1.0", "2.0")), None),
        (TagSelection(literal={"new": "1.0", "other": "3.0"}), {"new": "1.0"}),
        (TagSelection(literal={"1.0": "3.0"}), None),
    ],
)
def test_a_selection_is_narrowed_to_some_tags(selection: TagSelection, expected: dict[str, str] | None) -> None:
    found = narrowed(selection, ["1.0", "2.0"])
    assert (found.literal if found else None) == expected
