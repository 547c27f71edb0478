"""Names in archives: what can be published, what is the same, what a message offers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.stores.archive.docker_manifest import ImageEntries, parse_entries
from ocisync.stores.archive.index_json import CONTAINERD_NAME, REF_NAME, IndexEntry, adopt_repo_tags
from ocisync.stores.archive.names import best_name, image_number, is_publishable, is_same_name, show_choices

DIGEST = f"sha256:{'d' * 64}"


@pytest.mark.parametrize(
    ("name", "publishable"),
    [
        ("1.0", True),
        ("app", True),  # `docker load` calls it app:latest
        ("team/app:1.0", True),
        ("docker.io/team/app:1.0", True),
        (f"docker.io/team/app:1.0@{DIGEST}", True),  # nerdctl save NAME:TAG@DIGEST
        (f"docker.io/team/app@{DIGEST}", False),
        (f"overlayfs@{DIGEST}", False),  # nerdctl load of an image without a name
        (f"@{DIGEST}", False),
        (f"1.0@{DIGEST}", False),  # a tag with a digest has no repository
        ("Team/App:1.0", False),
        ("", False),
    ],
)
def test_names_that_can_be_published(name: str, publishable: bool) -> None:
    assert is_publishable(name) is publishable


def test_the_best_name_is_the_first_that_can_be_published() -> None:
    assert best_name([f"overlayfs@{DIGEST}", "app:1.0"]) == "app:1.0"
    assert best_name([f"overlayfs@{DIGEST}"]) == f"overlayfs@{DIGEST}"
    assert best_name([]) == ""


def test_two_spellings_of_one_name() -> None:
    assert is_same_name("app:1", "docker.io/library/app:1")
    assert is_same_name("App:1", "App:1")
    assert not is_same_name("App:1", "Other:1")
    assert not is_same_name("app:1", "quay.io/library/app:1")


@pytest.mark.parametrize(("reference", "number"), [("@0", 0), ("@12", 12), ("@", None), ("@x", None), ("1", None)])
def test_numbers_of_images(reference: str, number: int | None) -> None:
    assert image_number(reference) == number


def test_choices_give_every_image_a_way_to_be_named() -> None:
    assert show_choices(enumerate([("a:1", "a:2"), ("b:1",)])) == "a:1, a:2, b:1"
    assert show_choices(enumerate([(), ("b:1",)])) == "@0, b:1"
    assert show_choices(enumerate([("1.0",), ("1.0",)])) == "@0 (1.0), @1 (1.0)"


def test_what_could_command_a_terminal_is_escaped() -> None:
    assert show_choices([(0, ["a\x1b[31m:1"])]) == r"'a\x1b[31m:1'"


def test_many_names_in_a_message_end_somewhere() -> None:
    assert len(show_choices((number, [f"name:{number}"]) for number in range(10_000))) < 600


def entry(**names: str) -> IndexEntry:
    annotations = {{"ref": REF_NAME, "full": CONTAINERD_NAME}[key]: value for key, value in names.items()}
    return IndexEntry(Descriptor(media_types.OCI_MANIFEST, Digest(DIGEST), 1, annotations=annotations))


@pytest.mark.parametrize(
    ("full", "repo_tags", "names"),
    [
        ("docker.io/library/app:1.0", ["app:1.0"], ("app:1.0", "docker.io/library/app:1.0", "1.0")),
        ("docker.io/team/app:1.0", ["team/app:1.0"], ("team/app:1.0", "docker.io/team/app:1.0", "1.0")),
        ("quay.io/team/app:1.0", ["quay.io/team/app:1.0"], ("quay.io/team/app:1.0", "1.0")),
        ("docker.io/library/app:1.0", ["other:1.0", "App:1.0"], ("docker.io/library/app:1.0", "1.0")),
    ],
)
def test_a_name_is_what_manifest_json_calls_it(full: str, repo_tags: Sequence[str], names: tuple[str, ...]) -> None:
    (adopted,) = adopt_repo_tags([entry(full=full, ref="1.0")], repo_tags)
    assert adopted.names == names


def test_jibs_keys_are_in_lower_case() -> None:
    (found,) = parse_entries(b'[{"config":"config.json","repoTags":["team/app:1"],"layers":["a.tar.gz"]}]')
    assert (found.config, found.tags, found.layers) == ("config.json", ("team/app:1",), ("a.tar.gz",))


def test_images_without_names_count_only_beside_named_ones() -> None:
    named, bare = b'{"Config":"a","RepoTags":["a:1"],"Layers":[]}', b'{"Config":"b","RepoTags":null,"Layers":[]}'
    digest = f'{{"Config":"c","RepoTags":["a@{DIGEST}"],"Layers":[]}}'.encode()
    assert ImageEntries(parse_entries(b"[%b,%b,%b]" % (bare, named, digest))).unnamed() == ["@0", "@2"]
    assert ImageEntries(parse_entries(b"[%b,%b]" % (bare, bare.replace(b'"b"', b'"c"')))).unnamed() == []
