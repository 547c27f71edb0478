"""Which tags stay."""

import pytest

from ocisync.maintenance.retention import KeepPolicy, TagAge, decide, refusal
from ocisync.model.digest import Digest

DAY = 86400.0
NOW = 1000 * DAY


def digest(number: int) -> Digest:
    return Digest("sha256:" + f"{number:064x}")


TAGS = [TagAge(f"v{age}", NOW - age * DAY, digest(age)) for age in (5, 1, 3, 2, 4)]


@pytest.mark.parametrize(
    ("policy", "stay"),
    [
        (KeepPolicy(newest=2), ["v1", "v2"]),
        (KeepPolicy(newest=9), ["v1", "v2", "v3", "v4", "v5"]),
        (KeepPolicy(newer_than=2.5 * DAY), ["v1", "v2"]),
        (KeepPolicy(tags=("v[45]",)), ["v4", "v5"]),
        (KeepPolicy(tags=("v",)), []),
        (KeepPolicy(newest=1, newer_than=1.5 * DAY, tags=("v5",)), ["v1", "v5"]),
    ],
)
def test_a_tag_stays_when_one_of_them_keeps_it(policy: KeepPolicy, stay: list[str]) -> None:
    decisions = decide(TAGS, policy, NOW)
    assert [one.tag for one in decisions] == ["v1", "v2", "v3", "v4", "v5"]
    assert [one.tag for one in decisions if one.stays] == stay
    assert all(one.reason for one in decisions)


def test_signatures_go_with_their_image_and_do_not_count() -> None:
    followers = [
        TagAge(f"sha256-{digest(age)[7:]}{ending}", NOW, digest(90 + age)) for age in (1, 5) for ending in ("", ".sig")
    ]
    stays = {one.tag: one.stays for one in decide([*TAGS, *followers], KeepPolicy(newest=2), NOW)}
    assert [tag for tag, stay in stays.items() if tag.startswith("v") and stay] == ["v1", "v2"]
    assert [stays[one.tag] for one in followers] == [True, True, False, False]


def test_an_image_that_another_tag_keeps_keeps_its_signature() -> None:
    tags = [TagAge("new", NOW, digest(1)), TagAge("old", NOW - DAY, digest(1)), TagAge(f"sha256-{digest(1)[7:]}", 0.0)]
    assert [one.stays for one in decide(tags, KeepPolicy(newest=1), NOW)] == [True, False, True]


def test_whatever_is_named_for_an_image_follows_it() -> None:
    image = Digest("sha512:" + "ab" * 64)
    tags = [TagAge("new", NOW, digest(1)), TagAge("old", NOW - DAY, image)]
    named = [TagAge(f"sha512-{'ab' * 32}{suffix}", NOW) for suffix in ("", ".sig", ".of-another-tool")]
    stays = {one.tag: one.stays for one in decide([*tags, *named], KeepPolicy(newest=1), NOW)}
    assert stays == {"new": True, "old": False, **{one.tag: False for one in named}}


def test_equal_dates_have_one_order() -> None:
    tags = [TagAge(name, NOW) for name in "cab"]
    assert [one.tag for one in decide(tags, KeepPolicy(newest=1), NOW)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("count", "newest", "limit", "refused"),
    [(10, 5, 0.5, False), (10, 4, 0.5, True), (10, 1, 0.9, False), (4, 1, 0.1, False), (5, 1, 0.1, True)],
)
def test_the_limit(count: int, newest: int, limit: float, refused: bool) -> None:
    decisions = decide([TagAge(f"t{age}", NOW - age) for age in range(count)], KeepPolicy(newest=newest), NOW)
    assert (refusal(decisions, limit) is not None) is refused


@pytest.mark.parametrize(("patterns", "concerned"), [((), True), (("team/.*",), True), (("team",), False)])
def test_which_repositories(patterns: tuple[str, ...], concerned: bool) -> None:
    assert KeepPolicy(newest=1, repositories=patterns).concerns("team/app") is concerned
