"""Archives of every age and layouts with more than images in them, copied by the tools that users call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import gettempdir

import anyio
import pytest

from ocisync.commands.images.copy import copy_to
from ocisync.config.models import Config
from ocisync.errors import ArchiveError, InputError
from ocisync.model.digest import Digest
from ocisync.model.locator import parse_locator
from ocisync.model.manifest import parse_manifest
from ocisync.stores.archive.oci_layout import open_oci_layout
from ocisync.stores.archive.open_any import open_any
from ocisync.sync.reports import JobReport
from ocisync.wiring.session import open_session
from tests.integration.archives import Entry, take, write_tar
from tests.servers.images import Image, describe, digest_of, layout_files, make_image, tar, write_archive
from tests.servers.skopeo import skopeo

pytestmark = pytest.mark.anyio

CONFIG = Config(version=1)
SCRATCH = Path(gettempdir())
TYPE = "application/vnd.oci.image.manifest.v1+json"


async def copied(source: str, place: str) -> JobReport:
    """`ocisync copy SOURCE PLACE`."""
    async with open_session(CONFIG, scratch=SCRATCH) as session:
        return await copy_to(session, parse_locator(source), parse_locator(place))


def legacy(layers: Mapping[str, bytes], *, repositories: bool = True, linked: bool = False) -> list[Entry]:
    """What docker 1.9 saved: the layers by their one-letter names, the base first."""
    members: list[Entry] = []
    ids = [name * 64 for name in layers]
    for number, (one, layer) in enumerate(zip(ids, layers.values(), strict=True)):
        parent = {"parent": ids[number - 1]} if number else {}
        made_by = {"Cmd": ["/bin/sh", "-c", f"step {number}"]}
        facts = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/app"]}, "container_config": made_by}
        document = {"id": one, "created": "2014-01-01T00:00:00Z", **parent, **facts}
        members += [(f"{one}/VERSION", b"1.0", ""), (f"{one}/json", json.dumps(document).encode(), "")]
        is_link = linked and number == len(ids) - 1
        members.append(
            (f"{one}/layer.tar", None, f"../{ids[0]}/layer.tar") if is_link else (f"{one}/layer.tar", layer, "")
        )
    named = json.dumps({"team/old": {"1": ids[-1], "latest": ids[-1]}}).encode()
    return [*members, ("repositories", named, "")] if repositories else members


async def test_an_archive_from_before_docker_1_10(tmp_path: Path) -> None:
    one, two = tar({"a": b"1"}), tar({"b": b"2"})
    path = write_tar(tmp_path / "old.tar", legacy({"b": one, "a": two}))
    async with open_any(path, scratch=tmp_path) as source:
        assert await source.tags() == ["team/old:1", "team/old:latest"]
        kept = await take(source, "team/old:1")
    manifest = parse_manifest(kept.content[kept.tagged["team/old:1"].digest][1])
    assert manifest.config is not None
    config = json.loads(kept.content[manifest.config.digest][1])
    assert config["rootfs"]["diff_ids"] == [digest_of(one), digest_of(two)]
    assert [entry["created_by"] for entry in config["history"]] == ["/bin/sh -c step 0", "/bin/sh -c step 1"]
    assert config["config"] == {"Cmd": ["/app"]}
    assert "parent" not in config
    assert "id" not in config


async def test_skopeo_reads_what_becomes_of_an_old_archive(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "old.tar", legacy({"b": tar({"a": b"1"}), "a": tar({"b": b"2"})}))
    report = await copied(f"docker-archive:{path}:team/old:1", f"oci:{tmp_path}/layout:1")
    assert report.ok, report
    await anyio.to_thread.run_sync(skopeo, "copy", f"oci:{tmp_path}/layout:1", f"docker-archive:{tmp_path}/new.tar:a:1")


async def test_an_old_archive_without_names_and_with_linked_layers(tmp_path: Path) -> None:
    layer = tar({"a": b"1"})
    path = write_tar(tmp_path / "old.tar", legacy({"b": layer, "a": layer}, repositories=False, linked=True))
    async with open_any(path, scratch=tmp_path) as source:
        assert await source.tags() == []
        kept = await take(source)
    layers = parse_manifest(kept.content[kept.tagged[""].digest][1]).layers
    assert len(layers) == 2
    assert layers[0] == layers[1]


@pytest.mark.parametrize("parent", ["f" * 64, "a" * 64])
async def test_old_layers_without_a_base_or_in_a_circle_are_refused(tmp_path: Path, parent: str) -> None:
    members = legacy({"b": tar({"a": b"1"}), "a": tar({"b": b"2"})})
    changed = {"os": "linux", "parent": parent}
    path = write_tar(
        tmp_path / "old.tar",
        [
            (name, json.dumps(changed).encode() if name == f"{'b' * 64}/json" else body, to)
            for name, body, to in members
        ],
    )
    with pytest.raises(ArchiveError, match=r"old\.tar: the layer"):
        async with open_any(path, scratch=tmp_path):
            pass


def layout_of(root: Path, entries: list[dict[str, object]], blobs: list[bytes], *, algorithm: str = "sha256") -> Path:
    """A layout directory, put together by hand."""
    (root / "blobs" / algorithm).mkdir(parents=True)
    for blob in blobs:
        (root / "blobs" / algorithm / hashlib.new(algorithm, blob).hexdigest()).write_bytes(blob)
    (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return root


def named(entry: dict[str, object], name: str) -> dict[str, object]:
    return {**entry, "annotations": {"org.opencontainers.image.ref.name": name}}


def signature_of(image: Image, text: str = "signed") -> tuple[bytes, list[bytes]]:
    """A referrer's manifest, and its blobs."""
    blob = text.encode()
    document = {
        "schemaVersion": 2,
        "mediaType": TYPE,
        "artifactType": "application/vnd.example.signature",
        "config": describe("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [describe("application/octet-stream", blob)],
        "subject": describe(image.media_type, image.manifest),
        "annotations": {"who": "me"},
    }
    return json.dumps(document).encode(), [b"{}", blob]


async def test_a_docker_archive_with_a_layout_keeps_its_digests_whatever_it_is_called(tmp_path: Path) -> None:
    image = make_image(compressed=False)
    listed = json.dumps([{"Config": _blob(image.config), "RepoTags": ["a/b:1"], "Layers": [*map(_blob, image.layers)]}])
    path = write_archive(tmp_path / "a.tar", {**layout_files({"a/b:1": image}), "manifest.json": listed.encode()})
    for source in (f"docker-archive:{path}:a/b:1", f"oci-archive:{path}:a/b:1", f"archive:{path}"):
        report = await copied(source, f"oci:{tmp_path}/layout:1")
        assert report.tags[0].digest == image.digest, report


def _blob(data: bytes) -> str:
    return f"blobs/{digest_of(data).replace(':', '/')}"


async def test_digests_by_sha512_are_read_and_written(tmp_path: Path) -> None:
    config, layer = b'{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":[]}}', b"a layer"

    def described(media_type: str, data: bytes) -> dict[str, object]:
        return {"mediaType": media_type, "digest": f"sha512:{hashlib.sha512(data).hexdigest()}", "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": TYPE,
        "config": described("application/vnd.oci.image.config.v1+json", config),
        "layers": [described("application/vnd.oci.image.layer.v1.tar", layer)],
    }
    raw = json.dumps(manifest).encode()
    made = layout_of(tmp_path / "l", [named(described(TYPE, raw), "1")], [raw, config, layer], algorithm="sha512")
    for source, place in (
        (f"oci:{made}:1", f"oci-archive:{tmp_path}/a.tar:1"),
        (f"oci-archive:{tmp_path}/a.tar:1", f"oci:{tmp_path}/m:1"),
    ):
        report = await copied(source, place)
        assert report.ok, report
        assert report.tags[0].digest == f"sha512:{hashlib.sha512(raw).hexdigest()}"
    assert _blobs(made) == _blobs(tmp_path / "m")


async def test_entries_of_unknown_types_are_manifests_or_blobs(tmp_path: Path) -> None:
    image, cache = make_image(), b"a build cache"
    odd = "application/vnd.example.unknown"
    inner = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [describe(odd, image.manifest), describe("application/vnd.example.cache", cache)],
        }
    ).encode()
    entries = [
        named(describe("application/vnd.oci.image.index.v1+json", inner), "all"),
        named(describe(odd, image.manifest), "image"),
        named(describe(odd, cache), "cache"),
    ]
    made = layout_of(tmp_path / "l", entries, [inner, image.manifest, cache, *image.blobs.values()])
    for name in ("all", "image", "cache"):
        report = await copied(f"oci:{made}:{name}", f"oci:{tmp_path}/copy-{name}:{name}")
        assert report.ok, report
    assert _blobs(tmp_path / "copy-all") == _blobs(made)
    assert set(_blobs(tmp_path / "copy-image")) == {one[7:] for one in (image.digest, *image.blobs)}
    assert set(_blobs(tmp_path / "copy-cache")) == {digest_of(cache)[7:]}
    published = await copied(f"oci:{made}:all", f"static:{tmp_path}/static//app:1")
    assert published.ok, published
    assert (tmp_path / "static/v2/app/manifests" / image.digest).is_file()
    assert (tmp_path / "static/v2/app/blobs" / digest_of(cache)).is_file()
    refused = await copied(f"oci:{made}:cache", f"static:{tmp_path}/static//cache:1")
    assert not refused.ok
    assert refused.failed[0].failure
    assert refused.failed[0].failure.code.startswith("manifest.")


async def test_schema_1_in_an_index_is_refused(tmp_path: Path) -> None:
    old = json.dumps({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": []}).encode()
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    index = json.dumps({"schemaVersion": 2, "manifests": [describe(kind, old)]}).encode()
    entry = named(describe("application/vnd.oci.image.index.v1+json", index), "1")
    made = layout_of(tmp_path / "l", [entry], [index, old])
    report = await copied(f"oci:{made}:1", f"oci:{tmp_path}/m:1")
    assert report.failed[0].failure
    assert report.failed[0].failure.code == "manifest.unsupported"


async def test_referrers_in_a_layout_are_told_and_travel_with_their_subject(tmp_path: Path) -> None:
    image = make_image()
    signature, blobs = signature_of(image)
    entries = [describe(TYPE, signature), describe(image.media_type, image.manifest)]
    made = layout_of(tmp_path / "l", entries, [signature, *blobs, image.manifest, *image.blobs.values()])
    async with open_oci_layout(made) as source:
        (told,) = await source.referrers(Digest(image.digest))
        assert told.digest == digest_of(signature)
        assert told.artifact_type == "application/vnd.example.signature"
        assert told.annotations == {"who": "me"}
        assert await source.referrers(told.digest) == ()
        assert (await source.resolve("")).digest == image.digest  # the only image, though not the only entry
    report = await copied(f"oci:{made}", f"static:{tmp_path}/static//app:1")
    assert report.ok, report
    held = {path.name for path in (tmp_path / "static/v2/app").rglob("sha256:*")}
    assert {digest_of(one) for one in (signature, *blobs, image.manifest, *image.blobs.values())} <= held


async def test_a_damaged_referrer_stops_its_image_and_one_that_is_missing_is_none(tmp_path: Path) -> None:
    image = make_image()
    signature, blobs = signature_of(image)
    entries = [named(describe(image.media_type, image.manifest), "1"), describe(TYPE, signature)]
    made = layout_of(tmp_path / "l", entries, [signature, image.manifest, *image.blobs.values(), b"{}"])
    report = await copied(f"oci:{made}:1", f"oci:{tmp_path}/m:1")  # the signature's own blob is missing
    assert not report.ok
    (made / "blobs/sha256" / digest_of(signature)[7:]).unlink()
    report = await copied(f"oci:{made}:1", f"oci:{tmp_path}/m:1")
    assert report.ok, report
    assert blobs


async def test_a_name_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    image = make_image()
    made = layout_of(
        tmp_path / "l", [named(describe(TYPE, image.manifest), "a")], [image.manifest, *image.blobs.values()]
    )
    async with open_oci_layout(made) as source:
        with pytest.raises(InputError, match="choose one of: a"):
            await source.resolve("b")


def _blobs(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "blobs").rglob("*") if path.is_file()}
