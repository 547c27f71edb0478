"""Selection: conditions of names, versions and dates; alternatives; new names; literals without a listing."""

from __future__ import annotations

import pytest

from ocisync.errors import LimitExceeded
from ocisync.model.digest import sha256
from ocisync.model.name_mapping import Renaming, Substitution
from ocisync.model.versions import parse_range
from ocisync.sync import select as selection
from ocisync.sync.select import TagSelection, TagSet, list_candidates, narrow, select, select_tags

LISTED = ["1.0", "1.10", "11.0", "2.0-rc1", "latest"]
DAY = 86400.0
NOW = 1000 * DAY


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (TagSet(), LISTED),
        (TagSet(allow=(r"1\..*",)), ["1.0", "1.10"]),
        (TagSet(allow=(r"1\.0",)), ["1.0"]),  # anchored: neither 11.0 nor 1.0-x
        (TagSet(deny=(r".*rc.*", "latest")), ["1.0", "1.10", "11.0"]),
        (TagSet(allow=(r"\d.*",), deny=(r"1\..*",)), ["11.0", "2.0-rc1"]),
        (TagSet(allow=("none",)), []),
        (TagSet(versions=parse_range(">=1.5 <12")), ["1.10", "11.0"]),
        (TagSet(versions=parse_range(">=2.0-0")), ["11.0", "2.0-rc1"]),
        (TagSet(latest=2), ["11.0", "2.0-rc1"]),  # versions by their order, not as text; `latest` is none
        (TagSet(latest=2, versions=parse_range("*")), ["1.10", "11.0"]),
        (TagSet(latest=1, deny=("11.*",), allow=(r"1.*",)), ["1.10"]),
        (TagSet(latest=99), ["1.0", "1.10", "11.0", "2.0-rc1"]),
    ],
)
def test_names_and_versions(conditions: TagSet, expected: list[str]) -> None:
    selection = TagSelection(sets=(conditions,))
    assert select(selection, LISTED).references == {tag: tag for tag in expected}
    assert list_candidates(selection, LISTED) == []


BUILDS = ["main-a1-9", "main-b2-10", "main-c3-8.50", "main-d4-8.6", "main-e5-x", "100"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (TagSet((r"main-.*-(?P<order>.+)",), latest=2, order="number"), ["main-a1-9", "main-b2-10"]),
        (TagSet((r"main-.*-(?P<order>.+)",), latest=3, order="number"), ["main-a1-9", "main-b2-10", "main-d4-8.6"]),
        (TagSet((r"main-.*-(?P<order>.+)",), latest=9, order="number"), BUILDS[:4]),  # x is no number
        (TagSet((r"main-.*-(?P<order>.+)", ".*"), latest=1, order="number"), ["100"]),  # of `.*` the whole tag counts
        (TagSet(latest=9, order="number"), ["100"]),
        (TagSet((r"main-(?P<order>..).*",), latest=2, order="name"), ["main-d4-8.6", "main-e5-x"]),
        (TagSet(latest=1, order="name"), ["main-e5-x"]),
        (TagSet((r"main-..-(?P<order>.+)",), latest=1, order="version"), ["main-b2-10"]),
        (
            TagSet((r"main-..-(?P<order>\d+)?.*",), latest=2, order="name"),
            ["main-a1-9", "main-c3-8.50"],
        ),  # "9", then "8"
    ],
)
def test_the_latest_by_a_part_of_the_name(conditions: TagSet, expected: list[str]) -> None:
    assert select(TagSelection(sets=(conditions,)), BUILDS).references == {tag: tag for tag in expected}


def test_names_alone_are_what_a_set_may_select_at_any_time() -> None:
    assert select_tags(TagSelection(sets=(TagSet(latest=1, newer_than=DAY, deny=("latest",)),)), LISTED) == {
        tag: tag for tag in LISTED[:-1]
    }


DATES = {"1.0": NOW - 50 * DAY, "1.10": NOW - 2 * DAY, "11.0": None, "2.0-rc1": NOW - DAY, "latest": NOW + DAY}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (TagSet(newer_than=7 * DAY), ["1.10", "2.0-rc1", "latest"]),
        (TagSet(newer_than=2 * DAY), ["1.10", "2.0-rc1", "latest"]),  # on the spot is new enough
        (TagSet(latest=2, order="created"), ["2.0-rc1", "latest"]),
        (TagSet(latest=1, newer_than=7 * DAY), ["2.0-rc1"]),  # the highest of the new ones
        (TagSet(latest=9, order="created", deny=("latest",)), ["1.0", "1.10", "2.0-rc1"]),
    ],
)
def test_dates(conditions: TagSet, expected: list[str]) -> None:
    found = select(TagSelection(sets=(conditions,)), LISTED, DATES, NOW)
    assert list(found.references) == expected
    assert [warning for warning in found.warnings if "11.0" in warning] == list(found.warnings)
    assert len(found.warnings) == 1


def test_only_tags_whose_names_fit_are_asked_for_their_dates() -> None:
    sets = (TagSet(allow=(r"1\..*",), newer_than=DAY), TagSet(allow=("latest",)), TagSet(latest=1))
    assert list_candidates(TagSelection(sets=sets), LISTED) == ["1.0", "1.10"]
    assert list_candidates(TagSelection(literal={"a": "a"}, sets=sets), LISTED) == []


def test_sets_are_alternatives_each_with_its_own_count() -> None:
    sets = (TagSet(versions=parse_range("1.x"), latest=1), TagSet(allow=("latest",)), TagSet(allow=("late.*",)))
    assert select(TagSelection(sets=sets), LISTED).references == {"1.10": "1.10", "latest": "latest"}


def test_literals_and_digests_need_no_listing() -> None:
    digest = sha256(b"")
    literal = TagSelection(literal={"new": "old"}, sets=(TagSet(("x",)),), pinned={"fixed": digest})
    assert not literal.needs_listing
    assert select(literal, ()).references == select_tags(literal, ()) == {"new": "old", "fixed": digest}
    assert not TagSelection(sets=(), pinned={"fixed": digest}).needs_listing
    assert select(TagSelection(sets=(), pinned={"fixed": digest}), ()).references == {"fixed": digest}
    assert TagSelection().needs_listing


def test_tags_get_their_new_names() -> None:
    rename = Renaming((Substitution(r"v(\d.*)", r"\1"), Substitution(r"v.*", "never")), "{tag}-mirror")
    found = select(TagSelection(rename=rename), ["latest", "v1.0"])
    assert found.references == {"latest-mirror": "latest", "1.0-mirror": "v1.0"}
    assert found.warnings == ()


def test_two_tags_cannot_become_one() -> None:
    found = select(TagSelection(rename=Renaming((Substitution("v(.*)", r"\1"),))), ["v1", "1", "v2"])
    assert found.references == {"1": "1", "2": "v2"}
    assert [("v1" in warning, "left out" in warning) for warning in found.warnings] == [(True, True)]


def test_a_new_name_that_is_no_tag_is_left_out_with_a_warning() -> None:
    found = select(TagSelection(rename=Renaming((Substitution("v(.*)", r"-\1"),))), ["v1", "x"])
    assert found.references == {"x": "x"}
    assert "v1" in found.warnings[0]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (TagSelection(), {"1.0": "1.0", "2.0": "2.0"}),
        (TagSelection(sets=(TagSet(allow=(r"1\..*",)),)), {"1.0": "1.0"}),
        (TagSelection(sets=(TagSet(deny=("1.0", "2.0")),)), None),
        (TagSelection(sets=(TagSet(versions=parse_range(">=2")),)), {"2.0": "2.0"}),
        (TagSelection(rename=Renaming(template="{tag}-x")), {"1.0-x": "1.0", "2.0-x": "2.0"}),
        (TagSelection(literal={"new": "1.0", "other": "3.0"}), {"new": "1.0"}),
        (TagSelection(literal={"1.0": "3.0"}), None),
        (TagSelection(sets=(TagSet(("2.0",)),), pinned={"fixed": sha256(b"")}), {"2.0": "2.0"}),
    ],
)
def test_a_selection_is_narrowed_to_some_tags(selection: TagSelection, expected: dict[str, str] | None) -> None:
    found = narrow(selection, ["1.0", "2.0"])
    assert (found.literal if found else None) == expected


@pytest.mark.parametrize("conditions", [TagSet(latest=1), TagSet(newer_than=DAY), TagSet(("1.0",), latest=1)])
def test_what_depends_on_more_than_names_is_not_narrowed(conditions: TagSet) -> None:
    selection = TagSelection(sets=(TagSet(), conditions))
    assert narrow(selection, ["1.0"]) == selection


def test_a_tag_whose_name_does_not_fit_is_left_alone_whatever_else_is_asked() -> None:
    assert narrow(TagSelection(sets=(TagSet(allow=("v.*",), latest=3),)), ["1.0"]) is None


def test_a_rule_that_means_too_many_tags_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MAX_SELECTED", 3)
    assert len(select(TagSelection(), ["a", "b", "c"]).references) == 3
    with pytest.raises(LimitExceeded, match="selects 4 of the source's 4 tags"):
        select(TagSelection(), ["a", "b", "c", "d"])
    assert len(select(TagSelection(sets=(TagSet(deny=("d",)),)), ["a", "b", "c", "d"]).references) == 3
