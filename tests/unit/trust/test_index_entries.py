"""`each: platform`: an index that nobody signed is taken only when all that it could bring along is signed."""

import json
from collections.abc import Mapping

import pytest

from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.judging.acceptance import SignatureVerdict
from ocisync.sync.ledger import MemoryLedger
from tests.integration.signed_images import sig_image, sig_tag
from tests.servers.images import OCI_INDEX, OCI_MANIFEST, Image, Index, Json, describe, make_image
from tests.unit.trust.test_checker import OURS, REPOSITORY, Registry, make_checker, policy

IN_TOTO = "application/vnd.in-toto+json"
NOWHERE = {"os": "unknown", "architecture": "unknown"}
AMD64, ARM64 = {"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"}
SIGNED, SECOND, EVIL = make_image("signed"), make_image("second"), make_image("evil")


def made(document: Mapping[str, object], media_type: str = OCI_MANIFEST) -> Image:
    return Image(json.dumps(document).encode(), media_type, b"{}", (), {})


def statement(*layers: str) -> Image:
    """What BuildKit writes beside an image."""
    listed = [describe(layer, layer.encode()) for layer in layers or (IN_TOTO,)]
    return made({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": describe(IN_TOTO, b"{}"), "layers": listed})


def entry(image: Image | Index, platform: Mapping[str, str] | None = None, **said: object) -> Json:
    about = said.pop("about", None)
    if about is not None:
        said["annotations"] = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about,
        }
    placed = {} if platform is None else {"platform": platform}
    return {**describe(image.media_type, image.manifest), **placed, **said}


GOOD = entry(SIGNED, AMD64)
STATEMENT = entry(statement(), NOWHERE, about=SIGNED.digest)
RUNNABLE = statement(IN_TOTO, media_types.OCI_LAYER_GZIP)
NESTED = Index(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [GOOD]}).encode(), OCI_INDEX, ())
ARTIFACT = made(
    {"mediaType": media_types.OCI_ARTIFACT, "artifactType": "x/y", "blobs": [describe("x/z", b"z")]},
    media_types.OCI_ARTIFACT,
)

TAKEN: dict[str, list[Json]] = {
    "one image": [GOOD],
    "two images": [GOOD, entry(SECOND, ARM64)],
    "an image without a platform": [entry(SIGNED)],
    "the same image twice": [GOOD, entry(SIGNED, ARM64)],
    "an image and a statement about it": [GOOD, STATEMENT],
    "a statement before its image": [STATEMENT, GOOD],
    "two statements about one image": [
        GOOD,
        STATEMENT,
        entry(statement(IN_TOTO, IN_TOTO), NOWHERE, about=SIGNED.digest),
    ],
    "a signed entry of an unknown type": [GOOD, entry(SECOND, mediaType="application/vnd.acme.thing")],
}
REFUSED: dict[str, list[Json]] = {
    "nothing": [],
    "an image that nobody signed": [GOOD, entry(EVIL, ARM64)],
    "an image that nobody signed, first": [entry(EVIL, ARM64), GOOD],
    "one without a platform": [GOOD, entry(EVIL)],
    "one with an empty platform": [GOOD, entry(EVIL, {})],
    "one with a platform of empty names": [GOOD, entry(EVIL, {"os": "", "architecture": ""})],
    "one for no platform": [GOOD, entry(EVIL, NOWHERE)],
    "an entry of an unknown type": [GOOD, entry(EVIL, mediaType="application/vnd.acme.thing")],
    "an entry of a layer's type": [GOOD, entry(EVIL, mediaType=media_types.OCI_LAYER_GZIP)],
    "an entry of docker's first schema": [GOOD, entry(EVIL, mediaType=media_types.SCHEMA_1)],
    "an artifact": [GOOD, entry(ARTIFACT)],
    "an artifact that calls itself a statement": [GOOD, entry(ARTIFACT, NOWHERE, about=SIGNED.digest)],
    "an index of what is signed": [GOOD, entry(NESTED)],
    "an index that calls itself a statement": [GOOD, entry(NESTED, NOWHERE, about=SIGNED.digest)],
    "a statement with a platform": [GOOD, entry(statement(), AMD64, about=SIGNED.digest)],
    "a statement with half a platform": [
        GOOD,
        entry(statement(), {"os": "linux", "architecture": "unknown"}, about=SIGNED.digest),
    ],
    "a statement about nothing": [GOOD, entry(statement(), NOWHERE, about="")],
    "a statement about an image that is not listed": [GOOD, entry(statement(), NOWHERE, about=SECOND.digest)],
    "a statement about itself": [GOOD, entry(statement(), NOWHERE, about=statement().digest)],
    "a statement about a statement": [
        GOOD,
        STATEMENT,
        entry(statement(IN_TOTO, IN_TOTO), NOWHERE, about=statement().digest),
    ],
    "a statement of another kind": [
        GOOD,
        entry(
            statement(),
            NOWHERE,
            annotations={"vnd.docker.reference.type": "other", "vnd.docker.reference.digest": SIGNED.digest},
        ),
    ],
    "statements only": [STATEMENT],
    "an image that calls itself a statement": [GOOD, entry(EVIL, NOWHERE, about=SIGNED.digest)],
    "a statement with a layer that runs": [GOOD, entry(RUNNABLE, NOWHERE, about=SIGNED.digest)],
    "an image, listed as a statement too": [
        GOOD,
        entry(EVIL, ARM64),
        entry(EVIL, NOWHERE, about=SIGNED.digest),
    ],
    "a statement, listed as an image too": [GOOD, STATEMENT, entry(statement(), ARM64)],
}


async def judge(entries: list[Json], *signed: Image | Index) -> SignatureVerdict:
    """What is said of an index of such entries, of which these are signed."""
    source = Registry()
    index = made({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, OCI_INDEX)
    for image in (SIGNED, SECOND, EVIL, statement(), statement(IN_TOTO, IN_TOTO), RUNNABLE, ARTIFACT, index):
        source.put(image)
    for one in signed:
        source.put(sig_image(OURS.layer(one.digest, REPOSITORY)), sig_tag(one))
    root = Descriptor(OCI_INDEX, Digest(index.digest), len(index.manifest))
    checker = make_checker([policy(OURS)], MemoryLedger(), each_platform=True)
    found = await checker.check(source, [root], (), ())
    assert not found.failures
    return found.verdicts[root.digest]


@pytest.mark.parametrize("kind", TAKEN)
async def test_what_is_taken(kind: str) -> None:
    verdict = await judge(TAKEN[kind], SIGNED, SECOND)
    assert verdict.is_valid, verdict.reason
    assert SIGNED.digest in verdict.signatures


@pytest.mark.parametrize("kind", REFUSED)
async def test_what_is_refused(kind: str) -> None:
    verdict = await judge(REFUSED[kind], SIGNED)
    assert not verdict.is_valid
    assert verdict.code in ("verify.unsigned", "verify.payload")
    assert verdict.reason.startswith("the index is not signed")


async def test_a_signed_nested_index_binds_what_it_lists() -> None:
    assert (await judge([GOOD, entry(NESTED)], SIGNED, NESTED)).is_valid


async def test_a_statement_of_which_one_image_is_not_signed() -> None:
    """What BuildKit makes of two platforms: the statements are no excuse for the image beside them."""
    about = entry(statement(IN_TOTO, IN_TOTO), NOWHERE, about=SECOND.digest)
    entries = [GOOD, entry(SECOND, ARM64), STATEMENT, about]
    assert not (await judge(entries, SIGNED)).is_valid
    assert (await judge(entries, SIGNED, SECOND)).is_valid
