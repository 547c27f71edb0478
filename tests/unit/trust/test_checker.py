"""The checker of a rule's policies: what it reads, what it remembers, and what makes it look again."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace

from ocisync.content.memory import MemoryRepository
from ocisync.errors import RegistryError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.judging.acceptance import SignatureVerdict
from ocisync.sync.judging.judge import CheckedImages
from ocisync.sync.ledger import MemoryLedger
from ocisync.trust.checker import PolicyChecker
from ocisync.trust.finder import MAX_SIGNATURES
from ocisync.trust.keyless import load_trusted_root
from ocisync.trust.keys import load_public_key
from ocisync.trust.policies import Policy
from ocisync.trust.recorded_checker import RecordedChecker
from ocisync.trust.verdict_records import policies_kind
from tests.integration.signed_images import SIMPLE_SIGNING, bundle_artifact, sig_image, sig_tag
from tests.servers.images import OCI_LAYER, Image, describe, make_image
from tests.signatures import SIGNED_AT, KeySigner, Sigstore

REPOSITORY = "ghcr.io/acme/app"
OURS, OTHER = KeySigner(), KeySigner()
IMAGE = make_image("image")
ROOT = Descriptor(IMAGE.media_type, Digest(IMAGE.digest), len(IMAGE.manifest))
EVIL_LAYER = describe(OCI_LAYER, b"evil")
HUGE = {**describe(SIMPLE_SIGNING, b"huge"), "size": 1 << 40}


def policy(*signers: KeySigner, name: str = "ours") -> Policy:
    return Policy(name, keys=tuple(load_public_key(one.pem.encode()) for one in signers))


class Registry(MemoryRepository):
    """A repository that lists referrers, and counts what it is asked."""

    brings_referrers = False

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.refers: list[Descriptor] = []
        self.error: RegistryError | None = None

    async def resolve(self, reference: str) -> Descriptor:
        self.asked.append(reference)
        if self.error is not None:
            raise self.error
        return await super().resolve(reference)

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        self.asked.append("referrers")
        return self.refers

    def put(self, image: Image, tag: str = "") -> Descriptor:
        """Store an image's manifest and blobs."""
        desc = Descriptor(image.media_type, Digest(image.digest), len(image.manifest))
        self.content[desc.digest] = desc, image.manifest
        for digest, blob in image.blobs.items():
            self.content[Digest(digest)] = Descriptor("application/octet-stream", Digest(digest), len(blob)), blob
        if tag:
            self.tagged[tag] = desc
        return desc


def make_checker(
    policies: Sequence[Policy],
    records: MemoryLedger,
    *,
    needs_all: bool = False,
    each_platform: bool = False,
    wants_time: bool = False,
) -> RecordedChecker:
    """A checker that remembers, as rules have it."""
    keys = {one.name: ",".join(key.fingerprint for key in one.keys) for one in policies}

    async def load() -> PolicyChecker:
        return PolicyChecker(policies, needs_all, each_platform, wants_time, REPOSITORY)

    return RecordedChecker(policies_kind(keys, REPOSITORY, [needs_all, wants_time]), records, load)


async def check(
    source: Registry,
    records: MemoryLedger,
    *policies: Policy,
    anew: Collection[Digest] = (),
    needs_all: bool = False,
    wants_time: bool = False,
) -> CheckedImages:
    checker = make_checker(policies, records, needs_all=needs_all, wants_time=wants_time)
    return await checker.check(source, [ROOT], anew, ())


async def verdict(
    source: Registry,
    records: MemoryLedger,
    *policies: Policy,
    anew: Collection[Digest] = (),
    needs_all: bool = False,
    wants_time: bool = False,
) -> SignatureVerdict:
    found = await check(source, records, *policies, anew=anew, needs_all=needs_all, wants_time=wants_time)
    assert not found.failures
    return found.verdicts[ROOT.digest]


async def test_a_verdict_is_remembered_until_the_policy_changes_or_a_full_look_is_due() -> None:
    source, records = Registry(), MemoryLedger()
    source.put(sig_image(OURS.layer(ROOT.digest, REPOSITORY)), sig_tag(IMAGE))
    first = await verdict(source, records, policy(OURS))
    assert (first.is_valid, first.policy, first.signed_at) == (True, "ours", None)
    assert list(first.signatures[ROOT.digest].tags) == [sig_tag(IMAGE)]
    source.asked.clear()
    assert await verdict(source, records, policy(OURS)) == first
    assert source.asked == []
    assert not (await verdict(source, records, policy(OTHER))).is_valid  # another key: it is looked at anew
    source.tagged.clear()
    assert (await verdict(source, records, policy(OURS))).is_valid  # what was withdrawn is not noticed
    assert not (await verdict(source, records, policy(OURS), anew=[ROOT.digest])).is_valid  # but at the next full look


async def test_a_refusal_is_looked_at_again_when_something_else_refers_to_it() -> None:
    source, records = Registry(), MemoryLedger()
    stranger = bundle_artifact(IMAGE, OTHER.bundle(ROOT.digest))
    source.refers.append(source.put(stranger))
    assert (await verdict(source, records, policy(OURS))).code == "verify.untrusted"
    content, source.content = source.content, {}
    assert (await verdict(source, records, policy(OURS))).code == "verify.untrusted"  # nothing of it was read again
    source.content = content
    source.refers.append(source.put(bundle_artifact(IMAGE, OURS.bundle(ROOT.digest))))
    assert (await verdict(source, records, policy(OURS))).is_valid


async def test_an_error_is_no_verdict() -> None:
    source, records = Registry(), MemoryLedger()
    source.error = RegistryError("403", code="auth.denied")
    found = await check(source, records, policy(OURS))
    assert found.verdicts == {}
    assert found.failures[ROOT.digest].code == "auth.denied"
    source.error = None
    assert (await verdict(source, records, policy(OURS))).code == "verify.unsigned"


async def test_all_policies_may_be_fulfilled_by_different_signatures() -> None:
    source, records = Registry(), MemoryLedger()
    source.put(sig_image(OURS.layer(ROOT.digest, REPOSITORY)), sig_tag(IMAGE))
    both = policy(OURS), policy(OTHER, name="other")
    assert not (await verdict(source, records, *both, needs_all=True)).is_valid
    source.refers.append(source.put(bundle_artifact(IMAGE, OTHER.bundle(ROOT.digest))))
    found = await verdict(source, records, *both, needs_all=True)
    assert found.is_valid
    assert set(found.policy.split(", ")) == {"ours", "other"}
    carried = found.signatures[ROOT.digest]
    assert (len(carried.referrers), len(carried.tags)) == (1, 1)


async def test_where_the_time_matters_a_signature_that_has_one_is_looked_for() -> None:
    """The first that convinces ends the search, unless it has no time and the rule counts the age from it."""
    store = Sigstore()
    root = load_trusted_root(store.trusted_root())
    timed = Policy("timed", keys=(load_public_key(OTHER.pem.encode()),), root=root)
    source = Registry()
    source.refers.append(source.put(bundle_artifact(IMAGE, OURS.bundle(ROOT.digest))))
    source.put(sig_image(store.layer(ROOT.digest, REPOSITORY, OTHER)), sig_tag(IMAGE))
    both = policy(OURS), timed
    assert (await verdict(source, MemoryLedger(), *both)).policy == "ours"
    records = MemoryLedger()
    found = await verdict(source, records, *both, wants_time=True)
    assert (found.policy, found.signed_at) == ("timed", SIGNED_AT.timestamp())
    assert (await verdict(source, records, *both)).policy == "ours"  # another demand, another record
    found = await verdict(source, MemoryLedger(), *both, wants_time=True, needs_all=True)
    assert (found.is_valid, found.signed_at) == (True, None)  # of one of them nobody knows when
    source.tagged.clear()
    found = await verdict(source, MemoryLedger(), *both, wants_time=True)
    assert (found.policy, found.signed_at) == ("ours", None)


async def test_one_good_signature_among_bad_ones_is_enough_within_the_limit() -> None:
    good = bundle_artifact(IMAGE, OURS.bundle(ROOT.digest))
    for count, is_valid in ((MAX_SIGNATURES - 1, True), (MAX_SIGNATURES * 3, False)):
        source = Registry()
        bad = [source.put(bundle_artifact(IMAGE, f"garbage {number}".encode())) for number in range(count)]
        last = replace(source.put(good), artifact_type="")  # told without a type, so it is looked at last
        source.refers = [*(replace(one, artifact_type="application/vnd.dev.sigstore.bundle.v0.3+json") for one in bad)]
        source.refers.append(last)
        assert (await verdict(source, MemoryLedger(), policy(OURS))).is_valid == is_valid


async def test_referrers_of_other_kinds_are_not_opened() -> None:
    source = Registry()
    parts = replace(source.put(bundle_artifact(IMAGE, b"parts")), artifact_type="application/spdx+json")
    source.refers.append(parts)
    source.content.clear()
    assert (await verdict(source, MemoryLedger(), policy(OURS))).code == "verify.unsigned"


async def test_what_was_deleted_behind_its_list_is_no_signature() -> None:
    source = Registry()
    source.refers.append(source.put(bundle_artifact(IMAGE, OURS.bundle(ROOT.digest))))
    source.content.clear()
    assert (await verdict(source, MemoryLedger(), policy(OURS))).code == "verify.unsigned"


async def test_what_carries_a_signature_carries_nothing_else() -> None:
    """It comes along, as a tag or referrer: a layer beside the signature would come too, and nobody signed it."""
    good = OURS.layer(ROOT.digest, REPOSITORY)
    for place, layer in ((0, EVIL_LAYER), (1, EVIL_LAYER), (1, HUGE)):
        for carrier in (sig_image(good), bundle_artifact(IMAGE, OURS.bundle(ROOT.digest))):
            document = json.loads(carrier.manifest)
            document["layers"].insert(place, layer)
            changed = replace(carrier, manifest=json.dumps(document).encode())
            source = Registry()
            if "subject" in document:
                source.refers.append(source.put(changed))
            else:
                source.put(changed, sig_tag(IMAGE))
            told = await verdict(source, MemoryLedger(), policy(OURS))
            assert (told.is_valid, told.code) == (False, "verify.payload")
