"""The one rule for tags that are named for a digest, as a table."""

import pytest

from ocisync.model.digest import Digest
from ocisync.model.digest_tags import (
    DigestTag,
    cosign_tags,
    fallback_tag,
    is_digest_tag,
    is_list_tag,
    parse_digest_tag,
)

HEX = "0123456789abcdef" * 4  # 64 digits
SHA256 = Digest(f"sha256:{HEX}")
SHA512 = Digest(f"sha512:{HEX}{'f' * 64}")
LONGEST_TAG = 128  # characters; distribution-spec v1.1.1, "Pulling manifests"


@pytest.mark.parametrize(
    ("tag", "stem", "suffix"),
    [
        (f"sha256-{HEX}", f"sha256-{HEX}", ""),
        (f"sha512-{HEX}", f"sha512-{HEX}", ""),  # cut at 64 digits, as the specification says
        (f"sha256-{HEX}.sig", f"sha256-{HEX}", ".sig"),
        (f"sha256-{HEX}.att", f"sha256-{HEX}", ".att"),
        (f"sha256-{HEX}.sbom", f"sha256-{HEX}", ".sbom"),
        (f"sha512-{HEX}.sig", f"sha512-{HEX}", ".sig"),
        (f"sha256-{HEX}.cosign-bundle", f"sha256-{HEX}", ".cosign-bundle"),  # a suffix that ocisync does not know
        (f"sha256-{HEX}.att.old_1", f"sha256-{HEX}", ".att.old_1"),
    ],
)
def test_tags_named_for_a_digest(tag: str, stem: str, suffix: str) -> None:
    assert parse_digest_tag(tag) == DigestTag(stem, suffix)
    assert is_digest_tag(tag)
    assert is_list_tag(tag) is (suffix == "")


@pytest.mark.parametrize(
    "tag",
    [
        "latest",
        "sha256-",
        "sha256-00",  # a commit's digits, perhaps
        f"sha256-{HEX[:-1]}",
        f"sha256-{HEX}0",
        f"sha512-{HEX}{HEX}",  # longer than a tag may be
        f"sha256-{HEX.upper()}",
        f"sha256-{HEX}.",
        f"sha256-{HEX}-sig",
        f"sha256-{HEX}.sig\n",
        f"sha256:{HEX}",
        f"sha384-{HEX}",
        f"v1-sha256-{HEX}",
        f"sha256-{'٣' * 64}",
    ],
)
def test_tags_that_somebody_chose(tag: str) -> None:
    assert parse_digest_tag(tag) is None
    assert not is_digest_tag(tag)
    assert not is_list_tag(tag)


def test_the_tags_of_a_digest() -> None:
    assert fallback_tag(SHA256) == f"sha256-{HEX}"
    assert fallback_tag(SHA512) == f"sha512-{HEX}"
    assert list(cosign_tags(SHA256)) == [f"sha256-{HEX}.{suffix}" for suffix in ("sig", "att", "sbom")]
    assert list(cosign_tags(SHA512)) == [f"sha512-{HEX}.{suffix}" for suffix in ("sig", "att", "sbom")]


@pytest.mark.parametrize("digest", [SHA256, SHA512])
def test_each_of_them_is_a_tag_and_known_as_one_of_the_digest(digest: Digest) -> None:
    for tag in (fallback_tag(digest), *cosign_tags(digest)):
        found = parse_digest_tag(tag)
        assert len(tag) <= LONGEST_TAG
        assert found is not None
        assert found.stem == fallback_tag(digest)
