"""Archives as real tools write them, by the public reports: what is published, and under which name.

docs/archives.md has the table; each line of it is a case here, in test_archive_partial or in test_archive_dir.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers.command import Finished, run_ocisync
from tests.servers.images import (
    OCI_MANIFEST,
    Image,
    Json,
    describe,
    digest_of,
    docker_members,
    layout_files,
    make_image,
    write_archive,
)

FULL = "io.containerd.image.name"
REF = "org.opencontainers.image.ref.name"
IMAGE = make_image("kinds", size=5000)
PLAIN = make_image("plain", size=100, compressed=False, shared=[bytes(200_000)])
ARM = make_image("arm", platform=("linux", "arm64", "v8"))


def entry(image: Image, *, platform: bool = False, **names: str) -> Json:
    """An entry of index.json."""
    system, architecture, variant = image.platform
    annotations = {{"full": FULL, "ref": REF}[key]: name for key, name in names.items()}
    found: Json = describe(image.media_type, image.manifest) | ({"annotations": annotations} if annotations else {})
    facts = {"os": system, "architecture": architecture} | ({"variant": variant} if variant else {})
    return found | ({"platform": facts} if platform else {})


def layout(entries: Sequence[Json], *images: Image) -> dict[str, bytes]:
    """An OCI layout's files with an index.json of its own."""
    files = layout_files({str(number): image for number, image in enumerate(images)})
    return files | {"index.json": json.dumps({"schemaVersion": 2, "manifests": entries}).encode()}


def docker_json(image: Image, *tags: str, sources: bool = False) -> dict[str, bytes]:
    """docker's manifest.json over a layout's blobs."""
    config, *layers = (f"blobs/{digest.replace(':', '/')}" for digest in image.blobs)
    found: Json = {"Config": config, "RepoTags": list(tags) or None, "Layers": layers}
    if sources:
        listed = json.loads(image.manifest)["layers"]
        found["LayerSources"] = {layer["digest"]: layer for layer in listed}
    return {"manifest.json": json.dumps([found]).encode()}


def jib(image: Image, tag: str) -> dict[str, bytes]:
    """jib-cli and Jib's plugins before 3: keys in lower case, layers as gzip."""
    layers = {f"{digest_of(layer)[7:]}.tar.gz": gzip.compress(layer, mtime=0) for layer in image.layers}
    listed = [{"config": "config.json", "repoTags": [tag], "layers": list(layers)}]
    return {"config.json": image.config, **layers, "manifest.json": json.dumps(listed).encode()}


def windows(image: Image, tag: str) -> dict[str, bytes]:
    """A Windows daemon before 18.05: backslashes in manifest.json, slashes in the tar."""
    names = [f"{digest_of(layer)[7:]}/layer.tar" for layer in image.layers]
    listed = [{"Config": "c.json", "RepoTags": [tag], "Layers": [name.replace("/", "\\") for name in names]}]
    files = dict(zip(names, image.layers, strict=True))
    return {**files, "c.json": image.config, "manifest.json": json.dumps(listed).encode()}


def without_layers(image: Image) -> Image:
    """The manifest that docker 25.0.0's release candidates wrote (moby/moby#47065)."""
    manifest: Json = json.loads(image.manifest) | {"layers": None}
    raw = json.dumps(manifest).encode()
    return Image(raw, OCI_MANIFEST, image.config, image.layers, image.blobs)


RC = without_layers(IMAGE)
DIGEST = IMAGE.digest


@dataclass(frozen=True)
class Case:
    """An archive that is dropped, and what becomes of it."""

    files: Mapping[str, bytes]
    published: Mapping[str, str]  # repository:tag -> the manifest's digest, or "" where it is made on the way
    warns_of: Sequence[str] = field(default=())


CASES: dict[str, Case] = {
    "docker 24": Case(docker_members({"app:1.0": IMAGE}), {"app:1.0": ""}),
    "docker 25 to 28": Case(
        layout([entry(IMAGE, full="docker.io/library/app:1.0", ref="1.0")], IMAGE) | docker_json(IMAGE, "app:1.0"),
        {"app:1.0": DIGEST},
    ),
    "docker 25, two names of one image": Case(
        layout([entry(IMAGE, full=f"docker.io/library/app:{tag}", ref=tag) for tag in ("1.0", "2.0")], IMAGE)
        | docker_json(IMAGE, "app:1.0", "app:2.0"),
        {"app:1.0": DIGEST, "app:2.0": DIGEST},
    ),
    "docker 25.0.0-rc": Case(
        layout([entry(RC, full="docker.io/team/app:1.0", ref="1.0")], RC) | docker_json(IMAGE, "team/app:1.0"),
        {"team/app:1.0": ""},
    ),
    "Jib": Case(jib(IMAGE, "team/app:1.0"), {"team/app:1.0": ""}),
    "a Windows daemon": Case(windows(IMAGE, "team/app:1.0"), {"team/app:1.0": ""}),
    "ctr export of a tag and a digest": Case(
        layout(
            [
                entry(IMAGE, full="127.0.0.1:5000/team/app:1.0", ref="1.0"),
                entry(IMAGE, full=f"127.0.0.1:5000/team/app@{DIGEST}", ref=f"@{DIGEST}"),
            ],
            IMAGE,
        ),
        {"team/app:1.0": DIGEST},
        ["names a digest"],
    ),
    "nerdctl save NAME:TAG@DIGEST": Case(
        layout([entry(IMAGE, full=f"docker.io/team/app:1.0@{DIGEST}", ref=f"1.0@{DIGEST}")], IMAGE),
        {"team/app:1.0": DIGEST},
    ),
    "a bad name beside a good one": Case(
        docker_members({"Team/App:1.0": IMAGE, "team/app:1.0": ARM}), {"team/app:1.0": ""}, ["cannot be a name", "@0"]
    ),
    "an image without a name beside a named one": Case(
        layout([entry(IMAGE, ref="app:1.0"), entry(ARM)], IMAGE, ARM), {"app:1.0": DIGEST}, ["@1"]
    ),
}


def once(tmp_path: Path, settings: str = "") -> Finished:
    """A pass over one drop folder."""
    (tmp_path / "ocisync.yaml").write_text(
        f"version: 1\ntargets: {{t: {{type: static, path: {tmp_path}/registry}}}}\n"
        f"drop: [{{path: {tmp_path}/drop, target: t, done: delete, stable: 0s, settle: 0s{settings}}}]\n"
        f"daemon: {{state: {tmp_path}/state}}\n"
    )
    return run_ocisync("once", "-c", tmp_path / "ocisync.yaml", "--json")


@pytest.mark.parametrize("name", CASES)
def test_what_is_dropped_is_published(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    dropped = write_archive(tmp_path / "drop/any.tar", case.files)
    done = once(tmp_path).expect(0)
    (taken,) = json.loads(done.stdout)["inputs"]
    assert {one.removeprefix("t/") for one in taken["published"]} == set(case.published)
    for place, digest in case.published.items():
        repository, _, tag = place.rpartition(":")
        published = (tmp_path / f"registry/v2/{repository}/manifests/{tag}").read_bytes()
        assert digest in ("", digest_of(published))
        assert len(json.loads(published)["layers"]) == 2
    said = done.stdout + done.stderr
    assert [word for word in case.warns_of if word not in said] == []
    run_ocisync("verify", "--deep", f"static:{tmp_path}/registry").expect(0)
    left_out = any(word.startswith("@") for word in case.warns_of)
    assert dropped.exists() == left_out  # what was not published is not deleted
    if left_out:
        once(tmp_path).expect(0)
        assert dropped.exists()  # nor by the next pass, which publishes nothing


@pytest.mark.parametrize("names", [{}, {"ref": "1.0"}], ids=["unnamed", "one name"])
def test_one_manifest_per_platform_in_index_json_is_one_image(names: Mapping[str, str], tmp_path: Path) -> None:
    """image-spec allows several descriptors of one name with different platforms; concourse and oras write them."""
    entries = [entry(image, platform=image is ARM, **names) for image in (IMAGE, ARM)]
    write_archive(tmp_path / "drop/team/app/1.0.tar", layout(entries, IMAGE, ARM))
    once(tmp_path).expect(0)
    index = json.loads((tmp_path / "registry/v2/team/app/manifests/1.0").read_bytes())
    assert [(one["digest"], one["platform"]["architecture"]) for one in index["manifests"]] == [
        (IMAGE.digest, "amd64"),
        (ARM.digest, "arm64"),
    ]
    run_ocisync("verify", "--deep", f"static:{tmp_path}/registry").expect(0)


@pytest.mark.parametrize(
    ("settings", "suffix"),
    [("", ""), (", compression: gzip", "+gzip"), (", compression: zstd", "+zstd"), (", compression: none", "")],
)
def test_plain_layers_of_docker_25_to_28_are_compressed_when_it_is_asked_for(
    settings: str, suffix: str, tmp_path: Path
) -> None:
    files = layout([entry(PLAIN, full="docker.io/team/app:1", ref="1")], PLAIN)
    write_archive(tmp_path / "drop/any.tar", files | docker_json(PLAIN, "team/app:1", sources=True))
    once(tmp_path, settings).expect(0)
    published = (tmp_path / "registry/v2/team/app/manifests/1").read_bytes()
    layers = json.loads(published)["layers"]
    assert {layer["mediaType"] for layer in layers} == {f"application/vnd.oci.image.layer.v1.tar{suffix}"}
    assert (digest_of(published) == PLAIN.digest) == (suffix == "")


def test_images_can_be_chosen_by_number_and_digest(tmp_path: Path) -> None:
    twice = layout([entry(IMAGE, ref="1.0"), entry(ARM, ref="1.0"), entry(PLAIN, ref="1.0")], IMAGE, ARM, PLAIN)
    archive = write_archive(tmp_path / "a.tar", twice)
    refused = run_ocisync("digest", f"oci-archive:{archive}:1.0").expect(1).stderr
    assert "@0 (1.0), @1 (1.0), @2 (1.0)" in refused
    assert ARM.digest in run_ocisync("digest", f"oci-archive:{archive}:@1").expect(0).stdout
    assert ARM.digest in run_ocisync("digest", f"{archive}@{ARM.digest}").expect(0).stdout
    saved = write_archive(tmp_path / "b.tar", docker_members({"a:1": IMAGE, "b:1": ARM}))
    assert run_ocisync("digest", f"docker-archive:{saved}:@1").expect(0).stdout
    assert "a:1, b:1" in run_ocisync("digest", f"docker-archive:{saved}:@7").expect(1).stderr
