"""Lists of referrers, from manifests."""

import json

import pytest

from ocisync.errors import ManifestError
from ocisync.model import media_types
from ocisync.model.digest import Digest, sha256
from ocisync.model.subjects import (
    SubjectReferences,
    add_entries,
    format_referrers,
    read_entries,
    read_subject,
)

SUBJECT = Digest("sha256:" + "1" * 64)
CONFIG = {"mediaType": "application/x.config", "digest": "sha256:" + "2" * 64, "size": 2}


def artifact(**more: object) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": CONFIG,
        "layers": [],
        "subject": {"mediaType": media_types.OCI_MANIFEST, "digest": SUBJECT, "size": 7},
        **more,
    }
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("more", "artifact_type"),
    [({}, "application/x.config"), ({"artifactType": "application/x.note"}, "application/x.note")],
)
def test_an_entry_shows_type_size_and_annotations(more: dict[str, object], artifact_type: str) -> None:
    raw = artifact(annotations={"b": "2", "a": "1"}, **more)
    found = read_subject(sha256(raw), raw)
    assert found is not None
    assert found.subject == SUBJECT
    assert found.entry == {
        "mediaType": media_types.OCI_MANIFEST,
        "digest": sha256(raw),
        "size": len(raw),
        "artifactType": artifact_type,
        "annotations": {"a": "1", "b": "2"},
    }


def test_an_index_may_have_a_subject() -> None:
    raw = artifact(mediaType=media_types.OCI_INDEX, config=None, layers=None, manifests=[], artifactType="a/b")
    found = read_subject(sha256(raw), raw)
    assert found is not None
    assert (found.entry["mediaType"], found.entry["artifactType"]) == (media_types.OCI_INDEX, "a/b")


@pytest.mark.parametrize("raw", [b"", b"{}", b'"subject"', b'{"subject": 3}', artifact(subject=None)])
def test_what_refers_to_nothing(raw: bytes) -> None:
    assert read_subject(sha256(raw), raw) is None


def test_bytes_depend_on_the_entries_only() -> None:
    raws = [artifact(annotations={"n": str(number)}) for number in range(5)]
    entries = {sha256(raw): found.entry for raw in raws if (found := read_subject(sha256(raw), raw))}
    body = format_referrers(entries)
    assert body == format_referrers(dict(reversed(entries.items())))
    assert read_entries(body) == entries
    assert json.loads(body)["mediaType"] == media_types.OCI_INDEX


@pytest.mark.parametrize(
    "body", [None, b"", b"garbage", b"[]", b'{"manifests": 3}', b'{"manifests": [{"digest": 1}, 2]}']
)
def test_a_damaged_list_names_nothing(body: bytes | None) -> None:
    assert read_entries(body) == {}


def test_what_was_learned_is_known() -> None:
    known, raw = SubjectReferences(), artifact()
    assert known.list_unknown([sha256(raw)]) == [sha256(raw)]
    known.learn(sha256(raw), raw)
    assert known.list_unknown([sha256(raw)]) == []
    assert known.get(sha256(raw)) == read_subject(sha256(raw), raw)


def test_entries_are_added_at_the_end_and_the_rest_is_kept() -> None:
    body = b'{"schemaVersion":2,"annotations":{"a":"b"},"manifests":[{"digest":"x","more":1}]}'
    entries = {SUBJECT: {"digest": SUBJECT}}
    assert json.loads(add_entries(body, entries)) == {
        "schemaVersion": 2,
        "annotations": {"a": "b"},
        "manifests": [{"digest": "x", "more": 1}, {"digest": SUBJECT}],
    }
    assert add_entries(None, entries) == format_referrers(entries)


@pytest.mark.parametrize("body", [b"garbage", b"[]", b'{"manifests": 3}', b"{}"])
def test_nothing_is_added_to_what_is_no_list(body: bytes) -> None:
    with pytest.raises(ManifestError):
        add_entries(body, {})
