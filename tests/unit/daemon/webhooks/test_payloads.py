"""What notifications tell of."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.daemon.webhooks.payloads import MAX_PUSHES, Push, read_pushes
from ocisync.errors import InputError
from ocisync.model.image_name import ImageName
from tests.unit.daemon import notifications as sent

NONE: Mapping[str, str] = {}
HARBOR_TAGGED = Push("team/web", "2.1", "harbor.corp.example")
HARBOR_UNTAGGED = Push("team/web", "", "harbor.corp.example", is_untagged=True)


@pytest.mark.parametrize(
    ("sender", "document", "headers", "expected"),
    [
        ("plain", {"repository": "ghcr.io/acme/web", "tag": "2.1"}, NONE, [Push("acme/web", "2.1", "ghcr.io")]),
        ("plain", {"repository": "ghcr.io/acme/web:2.1"}, NONE, [Push("acme/web", "2.1", "ghcr.io")]),
        ("plain", {"repository": "acme/web"}, NONE, [Push("acme/web")]),
        ("plain", {"repository": "alpine", "tag": "3"}, NONE, [Push("alpine", "3")]),
        ("plain", {"repository": "docker.io/alpine"}, NONE, [Push("library/alpine", "", "docker.io")]),
        ("distribution", sent.DISTRIBUTION, NONE, [Push("team/web", is_untagged=True), Push("team/web", "2.1")]),
        ("distribution", {"events": []}, NONE, []),
        ("harbor", sent.HARBOR, NONE, [HARBOR_TAGGED, HARBOR_UNTAGGED]),
        ("harbor", sent.HARBOR_CLOUD, NONE, [HARBOR_TAGGED, HARBOR_UNTAGGED]),
        ("harbor", sent.HARBOR | {"type": "DELETE_ARTIFACT"}, NONE, []),
        ("dockerhub", sent.DOCKER_HUB, NONE, [Push("acme/web", "2.1", "docker.io")]),
        ("quay", sent.QUAY, NONE, [Push("acme/web", "2.1", "quay.io"), Push("acme/web", "latest", "quay.io")]),
        ("quay", sent.QUAY | {"updated_tags": {"2.1": "id"}}, NONE, [Push("acme/web", "2.1", "quay.io")]),
        ("quay", {"repository": "acme/web", "vulnerability": {}}, NONE, []),
        ("github", sent.GITHUB, sent.github("registry_package"), [Push("acme/web", "2.1", "ghcr.io")]),
        ("github", sent.GITHUB_PACKAGE, sent.github("package"), [Push("acme/tools/web", "2.1", "ghcr.io")]),
        ("github", sent.GITHUB, sent.github("ping"), []),
        ("github", sent.GITHUB, NONE, []),
    ],
)
def test_each_sender_is_understood(
    sender: str, document: object, headers: Mapping[str, str], expected: list[Push]
) -> None:
    assert read_pushes(sender, sent.encoded(document), headers) == expected


@pytest.mark.parametrize(
    ("sender", "body", "told"),
    [
        ("plain", b"", "not JSON"),
        ("plain", b"\xff\xfe", "not JSON"),
        ("plain", b"[" * 100_000, "not JSON"),
        ("harbor", b"[]", "not a JSON object"),
        ("distribution", b"{}", "a list of `events`"),
        ("plain", b"{}", 'expected {"repository"'),
        ("plain", b'{"repository": "UPPER/case"}', "is not a repository name"),
        ("plain", b'{"repository": "a/b", "tag": "../../x"}', "is not a tag"),
    ],
)
def test_what_is_not_a_notification_is_refused(sender: str, body: bytes, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_pushes(sender, body, NONE)
    assert told in caught.value.message


def test_a_flood_in_one_notification_is_refused() -> None:
    events = [{"action": "push", "target": {"repository": "a", "tag": str(n)}} for n in range(MAX_PUSHES + 1)]
    with pytest.raises(InputError, match="at most"):
        read_pushes("distribution", sent.encoded({"events": events}), NONE)


KEYS = (
    *("events", "action", "target", "repository", "tag", "type", "event_data", "resources", "push_data", "name"),
    *("updated_tags", "docker_url", "package", "package_version", "container_metadata", "package_type"),
)
SENDERS = st.sampled_from(["plain", "distribution", "harbor", "dockerhub", "quay", "github"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(SENDERS, VALUES)
def test_any_json_gives_pushes_with_usable_tags_or_is_refused(sender: str, document: object) -> None:
    try:
        found = read_pushes(sender, sent.encoded(document), sent.github("package"))
    except InputError:
        return
    assert all(push.repository and "/" not in push.tag and ".." not in push.tag[:2] for push in found)


@pytest.mark.parametrize(
    ("push", "image", "expected"),
    [
        (Push("acme/web"), ImageName("quay.io", "acme/web"), True),
        (Push("acme/web", registry="quay.io"), ImageName("quay.io", "acme/web"), True),
        (Push("acme/web", registry="ghcr.io"), ImageName("quay.io", "acme/web"), False),
        (Push("web"), ImageName("quay.io", "acme/web"), False),
        (Push("alpine"), ImageName("docker.io", "library/alpine"), True),
    ],
)
def test_which_source_a_push_means(push: Push, image: ImageName, expected: bool) -> None:
    assert push.matches(image) is expected
