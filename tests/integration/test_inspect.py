"""What `ocisync inspect` shows of any reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.integration.test_archive_readers import TYPE, layout_of, named, signature_of
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import (
    describe,
    digest_of,
    docker_archive,
    make_image,
    make_index,
    multi_platform,
    oci_archive,
    push,
)


def shown(reference: str | Path, *options: str) -> str:
    return run_ocisync("inspect", *options, reference).expect().stdout


def as_json(reference: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shown(reference, "--json"))
    return found


def test_referrers_in_a_layout_are_shown(tmp_path: Path) -> None:
    image = make_image()
    signature, blobs = signature_of(image)
    entries = [named(describe(image.media_type, image.manifest), "1"), describe(TYPE, signature)]
    made = layout_of(tmp_path / "l", entries, [signature, *blobs, image.manifest, *image.blobs.values()])
    (found,) = as_json(f"oci:{made}:1")["referrers"]
    assert found == {
        "digest": digest_of(signature),
        "mediaType": TYPE,
        "size": len(signature),
        "kind": "application/vnd.example.signature",
        "subject": image.digest,
        "annotations": {"who": "me"},
    }
    text = shown(f"oci:{made}:1")
    assert "REFERRER" in text
    assert digest_of(signature) in text
    assert "image 1" in text  # the second layer's command


def test_tags_that_stand_for_referrers_are_shown(registry: DockerRegistry) -> None:
    made = multi_platform()
    push(registry.client, "a", "1", made)
    signature = make_image("a signature")
    push(registry.client, "a", f"{made.digest.replace(':', '-')}.sig", signature)
    listed = make_image("listed")
    fallback = make_index([listed])
    push(registry.client, "a", made.children[0].digest.replace(":", "-"), fallback)
    found = {str(one["subject"]): one for one in as_json(f"docker://{registry.host}/a:1")["referrers"]}
    assert found[made.digest]["digest"] == signature.digest
    assert found[made.digest]["kind"] == "cosign signature"
    assert str(found[made.digest]["tag"]).endswith(".sig")
    assert found[made.children[0].digest]["digest"] == listed.digest
    assert set(found) == {made.digest, made.children[0].digest}


def test_plain_files_of_every_kind_are_shown(tmp_path: Path) -> None:
    image, index = make_image(), multi_platform()
    docker_archive(tmp_path / "d.tar.gz", {"team/app:1": image}, compress=True)
    oci_archive(tmp_path / "o.tar", {"1": index, "2": image})
    (docker,) = as_json(tmp_path / "d.tar.gz")["images"]
    assert (docker["platform"], docker["config"]) == ("linux/amd64", {"Cmd": ["/hello"]})
    assert as_json(f"{tmp_path}/o.tar:1")["digest"] == index.digest
    text = shown(f"{tmp_path}/o.tar:1")
    assert "linux/arm64/v8" in text
    assert '["/hello"]' in text
    assert "REFERRER" not in text
    several = run_ocisync("inspect", tmp_path / "o.tar").expect(1)
    assert "choose one of: 1, 2" in several.stderr


def test_what_is_no_image_is_told_by_its_type(tmp_path: Path) -> None:
    old = json.dumps({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": []}).encode()
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    entries = [named(describe("application/vnd.example.cache", b"cache"), "cache"), named(describe(kind, old), "old")]
    made = layout_of(tmp_path / "l", entries, [b"cache", old])
    for tag, told in (("cache", "content of type 'application/vnd.example.cache', neither"), ("old", "schema 1")):
        failed = run_ocisync("inspect", f"oci:{made}:{tag}").expect(1)
        assert told in failed.stderr
        assert "manifest.unsupported" in failed.stderr
