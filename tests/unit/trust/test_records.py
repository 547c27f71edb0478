"""Records of verdicts: how much of them is read, when they are believed, and those of earlier versions."""

import json
from collections.abc import Mapping

import pytest

from ocisync.model.descriptor import Descriptor, descriptor_to_json
from ocisync.model.digest import Digest
from ocisync.sync.judging.acceptance import SignatureVerdict
from ocisync.sync.judging.judge import CheckedImages
from ocisync.sync.ledger import MemoryLedger
from ocisync.sync.referrers.referrer_set import ReferrerSet
from ocisync.trust.verdict_records import StoredVerdict, find_said, format_verdict, parse_said, parse_verdict
from tests.integration.signed_images import bundle_artifact, sig_image, sig_tag
from tests.unit.trust.test_checker import IMAGE, OTHER, OURS, REPOSITORY, ROOT, Registry, make_checker, policy

CARRIER = Descriptor("application/vnd.oci.image.manifest.v1+json", Digest("sha256:" + "1" * 64), 700)
SIGNATURES = {ROOT.digest: ReferrerSet((CARRIER,), {"sha256-x.sig": CARRIER})}
VALID = StoredVerdict(SignatureVerdict(True, "", "", "ours", "key 1", 17.5, SIGNATURES))
REFUSED = StoredVerdict(SignatureVerdict(False, "verify.unsigned", "why"), "seen")


def signed() -> Registry:
    source = Registry()
    source.put(sig_image(OURS.layer(ROOT.digest, REPOSITORY)), sig_tag(IMAGE))
    return source


async def check(
    source: Registry, records: MemoryLedger, carried: Mapping[Digest, str] | None = None, *, anew: bool = False
) -> CheckedImages:
    checker = make_checker([policy(OURS)], records)
    return await checker.check(source, [ROOT], [ROOT.digest] if anew else [], (), carried or {})


def write_as_before(stored: StoredVerdict) -> str:
    """A record as versions before this form wrote it."""
    verdict = stored.verdict
    sets = {
        digest: {
            "referrers": [descriptor_to_json(desc) for desc in one.referrers],
            "tags": {name: descriptor_to_json(desc) for name, desc in one.tags.items()},
        }
        for digest, one in verdict.signatures.items()
    }
    return json.dumps(
        {
            "valid": verdict.is_valid,
            "code": verdict.code,
            "reason": verdict.reason,
            "policy": verdict.policy,
            "signer": verdict.signer,
            "at": verdict.signed_at,
            "signatures": sets,
            "seen": stored.seen,
        }
    )


@pytest.mark.parametrize("stored", [VALID, REFUSED])
def test_a_record_keeps_everything_and_so_does_one_of_an_earlier_version(stored: StoredVerdict) -> None:
    assert parse_verdict(format_verdict(stored)) == stored
    assert parse_verdict(write_as_before(stored)) == stored


def test_what_is_said_is_found_by_the_fingerprint_of_the_signatures() -> None:
    text, fingerprint = format_verdict(VALID), VALID.verdict.fingerprint
    said = find_said(text, fingerprint)
    assert parse_said(said) == VALID.verdict._replace(signatures={})
    assert find_said(text, "0" * 64) == find_said(text, fingerprint[:-1]) == find_said("", fingerprint) == ""
    assert find_said(text[: len(fingerprint) + 40], fingerprint) == ""  # cut in the middle of what is said
    assert find_said(write_as_before(VALID), fingerprint) == ""


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", format_verdict(REFUSED).split("\n")[1]])
def test_nothing_but_an_acceptance_is_taken_from_what_is_said(text: str) -> None:
    assert parse_said(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", '{"valid": true}', "nonsense", '{"valid": 1, "signatures": {"x": 1}}'),  # of earlier versions
        *("x\n{}\n{}", "\n\n", "a\nb\nc\nd", format_verdict(VALID)[:-1]),
    ],
)
def test_a_damaged_record_is_none(text: str) -> None:
    assert parse_verdict(text) is None


async def test_the_signatures_are_not_read_where_just_these_are_at_the_target() -> None:
    source, records = signed(), MemoryLedger()
    first = (await check(source, records)).verdicts[ROOT.digest]
    source.asked.clear()
    again = await check(source, records, {ROOT.digest: first.fingerprint})
    assert again.unchanged == {ROOT.digest}
    assert again.verdicts[ROOT.digest] == first._replace(signatures={})
    others = await check(source, records, {ROOT.digest: "0" * 64})  # others are there: these must be brought
    assert others.unchanged == set()
    assert others.verdicts[ROOT.digest] == first
    assert source.asked == []


async def test_what_is_at_the_target_convinces_nobody_by_itself() -> None:
    """Not without a record, not when a full look is due, and not against a refusal on record."""
    source, records = signed(), MemoryLedger()
    fingerprint = (await check(source, records)).verdicts[ROOT.digest].fingerprint
    source.tagged.clear()
    carried = {ROOT.digest: fingerprint}
    for others, anew in ((MemoryLedger(), False), (records, True), (records, False)):  # the second one left a refusal
        found = await check(source, others, carried, anew=anew)
        assert found.unchanged == set()
        assert not found.verdicts[ROOT.digest].is_valid


async def test_another_policy_asks_for_a_record_of_its_own() -> None:
    source, records = signed(), MemoryLedger()
    fingerprint = (await check(source, records)).verdicts[ROOT.digest].fingerprint
    checker = make_checker([policy(OTHER)], records)
    found = await checker.check(source, [ROOT], (), (), {ROOT.digest: fingerprint})
    assert (found.unchanged, found.verdicts[ROOT.digest].is_valid) == (set(), False)


async def test_a_record_that_is_damaged_behind_its_fingerprint_is_not_believed() -> None:
    source, records = signed(), MemoryLedger()
    fingerprint = (await check(source, records)).verdicts[ROOT.digest].fingerprint
    ((key, text),) = records.facts.items()
    records.facts[key] = text.replace('"valid": true', '"valid": tru')
    source.tagged.clear()
    found = await check(source, records, {ROOT.digest: fingerprint})
    assert (found.unchanged, found.verdicts[ROOT.digest].is_valid) == (set(), False)


async def test_records_of_an_earlier_version_are_believed_and_written_anew() -> None:
    source, records = signed(), MemoryLedger()
    source.refers.append(source.put(bundle_artifact(IMAGE, OURS.bundle(ROOT.digest))))
    first = (await check(source, records)).verdicts[ROOT.digest]
    ((key, text),) = records.facts.items()
    records.facts[key] = write_as_before(StoredVerdict(first))
    source.asked.clear()
    assert (await check(source, records, {ROOT.digest: first.fingerprint})).verdicts[ROOT.digest] == first
    assert source.asked == []
    assert records.facts[key] == text
