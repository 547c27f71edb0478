"""How many pulls a plan needs, as bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256
from ocisync.sync.plan import Action, PlannedTag, Pulls, forecast_pulls
from ocisync.sync.referrers.referrer_set import ReferrerSet

IMAGE = Descriptor(media_types.OCI_MANIFEST, sha256(b"image"), 900)
INDEX = Descriptor(media_types.OCI_INDEX, sha256(b"index"), 1600)
SIGNED = ReferrerSet((replace(IMAGE, digest=sha256(b"one")),), {"sha256-x.sig": replace(IMAGE, digest=sha256(b"two"))})


def planned(action: Action, root: Descriptor | None = IMAGE, tag: str = "v1") -> PlannedTag:
    return PlannedTag(tag, tag, action, "", root)


@pytest.mark.parametrize(
    ("one", "least", "most"),
    [
        (planned(Action.COPY), 1, 1),
        (planned(Action.COPY, INDEX), 1, 11),
        (planned(Action.CHECK), 0, 1),
        (planned(Action.SKIP), 0, 0),
        (planned(Action.KEEP), 0, 0),
        (planned(Action.FAIL, None), 0, 0),
        (planned(Action.COPY, None), 0, 0),
        (planned(Action.COPY)._replace(attached=SIGNED), 1, 3),
        (planned(Action.REFER)._replace(attached=SIGNED), 0, 2),
    ],
)
def test_each_action_has_its_bounds(one: PlannedTag, least: int, most: int) -> None:
    assert forecast_pulls("r.example", [one]) == Pulls("r.example", least, most)


def test_tags_that_share_an_image_need_it_once() -> None:
    other = planned(Action.COPY, replace(IMAGE, digest=sha256(b"other")), "v3")
    assert forecast_pulls("h", [planned(Action.COPY), planned(Action.COPY, tag="v2"), other]) == Pulls("h", 2, 2)
