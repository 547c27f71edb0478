"""The decision table: facts in, action and reason out."""

from __future__ import annotations

import pytest

from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, sha256
from ocisync.sync.ledger import Published
from ocisync.sync.plan import Action, Criteria, TagFacts, decide
from ocisync.sync.referrers.referrer_set import ReferrerSet
from ocisync.sync.reports import Failure

NOW = 1_000_000.0
ROOT = Descriptor(media_types.OCI_MANIFEST, sha256(b"root"), 4)
OTHER = sha256(b"other")
OTHER_DESC = Descriptor(media_types.OCI_MANIFEST, OTHER, 5)
FRESH = Published(ROOT.digest, NOW - 10)
STALE = Published(ROOT.digest, NOW - 10_000)
FUTURE = Published(ROOT.digest, NOW + 10)
OF_OTHER = Published(OTHER, NOW - 10)


@pytest.mark.parametrize(
    ("is_present", "present", "published", "validates", "action"),
    [
        (False, None, None, False, Action.COPY),
        (False, None, FRESH, False, Action.COPY),  # the target is the truth, not the ledger
        (True, OTHER, FRESH, False, Action.COPY),  # somebody else moved the tag
        (True, OTHER, None, True, Action.COPY),
        (True, ROOT.digest, FRESH, False, Action.SKIP),
        (True, None, FRESH, True, Action.SKIP),  # a tag list and the ledger suffice between full looks
        (True, None, FRESH, False, Action.SKIP),
        (True, ROOT.digest, None, False, Action.CHECK),  # a manifest's presence does not prove its blobs
        (True, ROOT.digest, STALE, False, Action.CHECK),
        (True, ROOT.digest, FUTURE, False, Action.CHECK),  # the clock went back
        (True, ROOT.digest, OF_OTHER, False, Action.CHECK),
        (True, ROOT.digest, None, True, Action.SKIP),  # unless the target validates manifests
        (True, ROOT.digest, STALE, True, Action.SKIP),
        (True, None, STALE, True, Action.CHECK),
        (True, None, OF_OTHER, True, Action.COPY),
        (True, None, None, True, Action.COPY),
    ],
)
def test_decisions(
    is_present: bool, present: Digest | None, published: Published | None, validates: bool, action: Action
) -> None:
    facts = TagFacts("1", "1", ROOT, None, is_present, present, published)
    assert decide(facts, Criteria(NOW, 3600.0, validates)).action is action


@pytest.mark.parametrize("validates", [True, False])
def test_a_tag_whose_manifest_is_not_listed_under_its_digest_is_looked_at(validates: bool) -> None:
    facts = TagFacts("1", "1", ROOT, None, True, ROOT.digest, FRESH, is_root_listed=False)
    assert decide(facts, Criteria(NOW, 3600.0, validates)).action is Action.CHECK


@pytest.mark.parametrize(
    ("published", "attached", "action"),
    [
        (None, None, Action.SKIP),
        (None, ReferrerSet(), Action.CHECK),  # no registry vouches for what refers to a manifest
        (STALE, None, Action.CHECK),  # what is on record gets its full look
        (OF_OTHER, None, Action.CHECK),
    ],
)
def test_a_registry_that_vouches_is_believed_once(
    published: Published | None, attached: ReferrerSet | None, action: Action
) -> None:
    facts = TagFacts("1", "1", ROOT, None, True, ROOT.digest, published, attached)
    assert decide(facts, Criteria(NOW, 3600.0, validates=False, vouches=True)).action is action


def test_a_tag_that_the_source_cannot_resolve_fails_with_its_failure() -> None:
    failure = Failure("net.unreachable", "no route", "retry")
    planned = decide(TagFacts("1", "1", None, failure, True, ROOT.digest, FRESH), Criteria(NOW, 3600.0, False))
    assert (planned.action, planned.failure) == (Action.FAIL, failure)
    assert "no route" in planned.reason


def test_an_image_to_be_converted_is_copied() -> None:
    planned = decide(TagFacts("1", "", None, None, True, ROOT.digest, FRESH), Criteria(NOW, 3600.0, False))
    assert planned.action is Action.COPY


SIGNED = ReferrerSet((OTHER_DESC,), {})
SEEN = Published(ROOT.digest, NOW - 10, referrers=SIGNED.fingerprint)


@pytest.mark.parametrize(
    ("present", "published", "validates", "attached", "action"),
    [
        (ROOT.digest, SEEN, False, SIGNED, Action.SKIP),
        (None, SEEN, False, SIGNED, Action.SKIP),
        (ROOT.digest, SEEN, False, ReferrerSet(), Action.REFER),  # what referred to it is gone, or is another
        (ROOT.digest, FRESH, False, SIGNED, Action.REFER),
        (ROOT.digest, FRESH, False, ReferrerSet(), Action.REFER),  # never asked for: below the root there may be some
        (ROOT.digest, SEEN, False, None, Action.SKIP),
        (ROOT.digest, STALE, True, SIGNED, Action.CHECK),  # no registry vouches for what refers to a manifest
        (OTHER, SEEN, False, SIGNED, Action.COPY),
    ],
)
def test_decisions_about_what_refers_to_an_image(
    present: Digest | None, published: Published, validates: bool, attached: ReferrerSet | None, action: Action
) -> None:
    facts = TagFacts("1", "1", ROOT, None, True, present, published, attached)
    planned = decide(facts, Criteria(NOW, 3600.0, validates))
    assert (planned.action, planned.attached) == (action, attached)


def test_a_forced_copy_believes_nothing() -> None:
    facts = TagFacts("1", "1", ROOT, None, True, ROOT.digest, FRESH)
    planned = decide(facts, Criteria(NOW, 3600.0, validates=True, send_again=True))
    assert (planned.action, planned.reason) == (Action.COPY, "unchanged; everything is sent again")


def test_a_plan_tells_what_goes_along() -> None:
    attached = ReferrerSet((OTHER_DESC, ROOT), {"a": ROOT})
    facts = TagFacts("1", "1", ROOT, None, False, None, None, attached)
    assert decide(facts, Criteria(NOW, 3600.0, False)).reason == "new, with 2 referrers and 1 digest tag"
    plain = TagFacts("1", "1", ROOT, None, False, None, None, ReferrerSet())
    assert decide(plain, Criteria(NOW, 3600.0, False)).reason == "new"


def test_a_fingerprint_is_of_digests_and_tags_in_any_order() -> None:
    one = ReferrerSet((OTHER_DESC,), {"a": ROOT, "b": OTHER_DESC})
    other = ReferrerSet((OTHER_DESC,), {"b": OTHER_DESC, "a": ROOT})
    different = [
        ReferrerSet((OTHER_DESC,), {"a": OTHER_DESC, "b": ROOT}),
        ReferrerSet((ROOT,), one.tags),
        ReferrerSet(),
    ]
    assert one.fingerprint == other.fingerprint
    assert len({one.fingerprint, *(each.fingerprint for each in different)}) == 4
