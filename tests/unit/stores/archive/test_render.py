"""index.json with entries added: what others wrote in it stays."""

from __future__ import annotations

import json

import pytest

from ocisync.errors import ArchiveError
from ocisync.model.descriptor import describe
from ocisync.model.media_types import OCI_INDEX, OCI_MANIFEST
from ocisync.stores.archive.index_json import REF_NAME
from ocisync.stores.archive.render import render_index, update_index

ONE, TWO, THREE = (describe(text.encode(), OCI_MANIFEST) for text in ("one", "two", "three"))


def entry(text: str, name: str, **more: object) -> dict[str, object]:
    desc = describe(text.encode(), OCI_MANIFEST)
    facts = {"mediaType": desc.media_type, "digest": desc.digest, "size": desc.size}
    return {**facts, "annotations": {REF_NAME: name}, **more}


def test_what_others_wrote_stays() -> None:
    platform = {"os": "linux", "architecture": "amd64", "os.features": ["x"], "features": ["y"]}
    kept = entry("one", "1", platform=platform, data="b25l", **{"x-more": 5})
    raw = json.dumps({"schemaVersion": 2, "annotations": {"a": "b"}, "manifests": [kept, entry("old", "2")]}).encode()
    made = json.loads(update_index(raw, {"2": TWO}, [ONE, THREE]))
    assert made["annotations"] == {"a": "b"}
    assert made["manifests"][0] == kept
    names = [one.get("annotations", {}).get(REF_NAME) for one in made["manifests"]]
    digests = [one["digest"] for one in made["manifests"]]
    assert list(zip(names, digests, strict=True)) == [("1", ONE.digest), (None, THREE.digest), ("2", TWO.digest)]


def test_a_new_index_is_the_same_as_a_rendered_one() -> None:
    made = update_index(render_index(()), {"1": ONE}, ())
    assert json.loads(made)["mediaType"] == OCI_INDEX
    assert update_index(made, {"1": ONE}, ()) == made


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"manifests":5}', b'{"manifests":[{}]}'])
def test_a_broken_index_is_not_added_to(raw: bytes) -> None:
    with pytest.raises(ArchiveError, match=r"index\.json"):
        update_index(raw, {"1": ONE}, ())
