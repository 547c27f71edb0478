"""What `ocisync copy` writes to archives and layouts: the same bytes each time, read by skopeo, all or nothing."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard

from tests.integration.test_archive_readers import layout_of, named, signature_of
from tests.servers.command import Finished, run_ocisync, started
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import (
    Image,
    describe,
    digest_of,
    docker_archive,
    image_of,
    make_image,
    make_index,
    multi_platform,
    noise,
    oci_archive,
    push,
    tar,
)
from tests.servers.skopeo import inspect_raw, pull, skopeo

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"


def copy(*arguments: str | Path, code: int = 0) -> Finished:
    return run_ocisync("copy", *arguments).expect(code)


def raw(reference: str) -> str:
    """The digest that skopeo sees."""
    return digest_of(skopeo("inspect", "--raw", "--tls-verify=false", reference))


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        assert all(member.mtime == 0 and member.mode == 0o644 for member in archive)
        names = archive.getnames()
        assert names == sorted(set(names))
        files = {name: archive.extractfile(name) for name in names}
        return {name: file.read() for name, file in files.items() if file}


def blobs(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "blobs").rglob("*") if path.is_file()}


def entries(root: Path) -> dict[str, str]:
    """Digest -> name of all that index.json lists."""
    listed = json.loads((root / "index.json").read_text())["manifests"]
    return {one["digest"]: one.get("annotations", {}).get(REF_NAME, "") for one in listed}


def test_registry_to_oci_archive_to_registry_is_byte_exact(registry: DockerRegistry, tmp_path: Path) -> None:
    inner = multi_platform()
    push(registry.client, "a/app", "1", inner)
    copy(f"docker://{registry.host}/a/app:1", f"oci-archive:{tmp_path}/a.tar")
    assert raw(f"oci-archive:{tmp_path}/a.tar") == inner.digest
    assert "manifest.json" not in members(tmp_path / "a.tar")
    copy(tmp_path / "a.tar", f"docker://{registry.host}/b/app:2")
    one, two = (pull(f"{registry.host}/{name}", tmp_path / name[0]) for name in ("a/app:1", "b/app:2"))
    assert one == two
    assert digest_of(inspect_raw(f"{registry.host}/b/app:2")) == inner.digest


def index_of(*children: dict[str, object]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": children}).encode()


def nested_layout(root: Path) -> tuple[Path, dict[str, str]]:
    """A layout with two tags, an index in an index, and a signature of a nested image that has itself a referrer."""
    image, other = make_image("one"), make_image("two")
    inner = index_of(describe(image.media_type, image.manifest))
    outer = index_of(describe(INDEX_TYPE, inner), describe(other.media_type, other.manifest))
    signature, parts = signature_of(image)
    signed = Image(signature, image.media_type, b"", (), {})
    second, more = signature_of(signed, "counter-signed")
    files = [inner, outer, image.manifest, other.manifest, signature, second, *parts, *more]
    files += [*image.blobs.values(), *other.blobs.values()]
    names = {
        digest_of(outer): "example.com/team/app:1",
        other.digest: "other",
        digest_of(signature): "",
        digest_of(second): "",
    }
    kinds = {digest_of(outer): (INDEX_TYPE, outer), other.digest: (other.media_type, other.manifest)}
    kinds |= {digest_of(one): (image.media_type, one) for one in (signature, second)}
    listed = [
        named(describe(*kinds[digest]), name) if name else describe(*kinds[digest]) for digest, name in names.items()
    ]
    return layout_of(root, listed, files), names


def test_layout_to_archive_to_layout_is_byte_exact_with_referrers(tmp_path: Path) -> None:
    made, names = nested_layout(tmp_path / "l")
    copy("--all", f"oci:{made}", f"oci-archive:{tmp_path}/a.tar")
    copy("--all", tmp_path / "a.tar", f"oci:{tmp_path}/m")
    assert blobs(tmp_path / "m") == blobs(made)
    assert entries(tmp_path / "m") == names
    for digest, name in names.items():
        if name:
            assert raw(f"oci:{tmp_path}/m:{name}") == raw(f"oci-archive:{tmp_path}/a.tar:{name}") == digest
    copy("--all", f"oci:{tmp_path}/m", f"oci-archive:{tmp_path}/b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_one_image_takes_its_referrers_and_nothing_else(tmp_path: Path) -> None:
    made, names = nested_layout(tmp_path / "l")
    copy(f"oci:{made}:example.com/team/app:1", f"oci:{tmp_path}/m:mine")
    assert blobs(tmp_path / "m") == blobs(made)  # the other image is one of the index's
    assert sorted(entries(tmp_path / "m").values()) == ["", "", "mine"]
    copy(f"oci:{made}:other", f"oci:{tmp_path}/n")
    assert list(entries(tmp_path / "n").values()) == ["other"]
    assert len(blobs(tmp_path / "n")) == 4  # manifest, configuration, two layers
    assert set(names) >= set(entries(tmp_path / "n"))


@pytest.mark.parametrize("docker", [False, True])
def test_a_single_platform_is_read_by_all_of_skopeos_readers(
    registry: DockerRegistry, tmp_path: Path, docker: bool
) -> None:
    image = make_image(docker=docker)
    push(registry.client, "team/app", "1", image)
    name = f"{registry.host}/team/app:1"
    copy(f"docker://{name}", f"oci-archive:{tmp_path}/a.tar")
    listed = json.loads(members(tmp_path / "a.tar")["manifest.json"])
    paths = [f"blobs/{digest.replace(':', '/')}" for digest in image.blobs]
    assert listed == [{"Config": paths[0], "RepoTags": [name], "Layers": paths[1:]}]
    if not docker:  # skopeo sees no image with docker's media types in a layout, but does by manifest.json
        assert raw(f"oci-archive:{tmp_path}/a.tar:{name}") == image.digest
    copy(f"docker://{name}", f"docker-archive:{tmp_path}/d.tar:other/name:2")
    for place in (f"docker-archive:{tmp_path}/a.tar:{name}", f"docker-archive:{tmp_path}/d.tar:other/name:2"):
        config = skopeo("inspect", "--config", "--raw", place)
        assert config == image.config
        skopeo("copy", place, f"oci:{tmp_path}/back:{len(place)}")
    again = copy(tmp_path / "d.tar", f"oci:{tmp_path}/m")  # compressed layers keep their bytes
    assert set(image.blobs) <= {f"sha256:{digest}" for digest in blobs(tmp_path / "m")}
    assert (image.digest in again.stdout) is not docker


def test_we_read_what_skopeo_exports(registry: DockerRegistry, tmp_path: Path) -> None:
    image, index = make_image(), multi_platform()
    push(registry.client, "a", "1", image)
    push(registry.client, "a", "all", index)
    source = ("copy", "--all", "--src-tls-verify=false")
    skopeo(*source, f"docker://{registry.host}/a:all", f"oci-archive:{tmp_path}/o.tar:x")
    skopeo("copy", "--src-tls-verify=false", f"docker://{registry.host}/a:1", f"docker-archive:{tmp_path}/d.tar:a/b:1")
    assert index.digest in copy(f"oci-archive:{tmp_path}/o.tar:x", f"static:{tmp_path}/s//o:1").stdout
    copy(f"docker-archive:{tmp_path}/d.tar:a/b:1", f"oci:{tmp_path}/l:1")
    assert skopeo("inspect", "--config", "--raw", f"oci:{tmp_path}/l:1") == image.config


def test_the_same_image_gives_the_same_file(tmp_path: Path) -> None:
    shared = tar({"base": noise(300_000, "base")})
    made = make_index(
        [make_image("a", shared=[shared]), make_image("b", platform=("linux", "arm64", ""), shared=[shared])]
    )
    oci_archive(tmp_path / "in.tar", {"1": made})
    for name in ("a", "b"):
        copy(tmp_path / "in.tar", f"oci-archive:{tmp_path}/{name}.tar:1")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert sum(name.startswith("blobs/") for name in members(tmp_path / "a.tar")) == 1 + 2 * 3 + 2 + 1


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_an_archive_is_compressed_as_its_name_says(kind: str, tmp_path: Path) -> None:
    image = make_image(size=1_500_000)
    oci_archive(tmp_path / "in.tar", {"a/b:1": image})
    copy(tmp_path / "in.tar", f"{kind}:{tmp_path}/plain.tar")
    plain = (tmp_path / "plain.tar").read_bytes()
    for name, opened in (
        ("a.tar.gz", gzip.decompress),
        ("a.tgz", gzip.decompress),
        (
            "a.tar.zst",
            lambda data: zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(data),
        ),
    ):
        for _ in range(2):
            copy(tmp_path / "in.tar", f"{kind}:{tmp_path}/{name}")
            packed = (tmp_path / name).read_bytes()
            assert opened(packed) == plain
        if kind == "oci-archive":  # skopeo 1.9 reads no docker-archive that is compressed, whoever did it
            assert raw(f"{kind}:{tmp_path}/{name}:a/b:1") == image.digest
    refused = copy(tmp_path / "in.tar", f"{kind}:{tmp_path}/a.tar.xz", code=2)
    assert "name it so" in refused.stderr
    assert not (tmp_path / "a.tar.xz").exists()


def test_several_images_go_into_one_archive(tmp_path: Path) -> None:
    shared = tar({"base": noise(5000, "base")})
    one, two = make_image("one", shared=[shared]), make_image("two", shared=[shared])
    docker_archive(tmp_path / "one.tar", {"team/one:1": one})
    oci_archive(tmp_path / "two.tar", {"example.com/team/two:2": two})
    for kind in ("oci-archive", "docker-archive"):
        out = tmp_path / f"{kind}.tar"
        copy(tmp_path / "one.tar", tmp_path / "two.tar", f"{kind}:{out}")
        listed = {entry["RepoTags"][0]: entry for entry in json.loads(members(out)["manifest.json"])}
        assert set(listed) == {"team/one:1", "example.com/team/two:2"}
        skopeo("copy", f"docker-archive:{out}:example.com/team/two:2", f"dir:{tmp_path}/{kind}")
    copy("--all", tmp_path / "oci-archive.tar", f"static:{tmp_path}/s")
    held = {path.relative_to(tmp_path / "s/v2").as_posix() for path in (tmp_path / "s/v2").rglob("manifests/?")}
    assert held == {"team/one/manifests/1", "team/two/manifests/2"}
    assert (tmp_path / "s/v2/team/two/manifests" / two.digest).is_file()


def test_all_tags_of_a_repository_go_into_one_archive_and_back(registry: DockerRegistry, tmp_path: Path) -> None:
    made = {tag: make_image(tag) for tag in ("1", "2", "latest")}
    for tag, image in made.items():
        push(registry.client, "team/app", tag, image)
    copy("--all", f"docker://{registry.host}/team/app", f"oci-archive:{tmp_path}/a.tar")
    copy("--all", tmp_path / "a.tar", f"docker://{registry.host}/mirror")
    for tag, image in made.items():
        assert digest_of(inspect_raw(f"{registry.host}/mirror/team/app:{tag}")) == image.digest


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_export_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    image = make_image()
    files = {f"blobs/{digest.replace(':', '/')}": blob for digest, blob in image.blobs.items()}
    made = layout_of(
        tmp_path / "l", [named(describe(image.media_type, image.manifest), "1")], [image.manifest, *files.values()]
    )
    layer = made / "blobs/sha256" / list(image.blobs)[-1][7:]
    layer.write_bytes(bytes(layer.stat().st_size))
    good = oci_archive(tmp_path / "good.tar", {"1": make_image("good")})
    for sources in (
        [f"oci:{made}:1"],
        [good, f"oci:{made}:1"],
        [good, tmp_path / "absent.tar.gz"],
        [good, f"oci:{made}:no"],
    ):
        for kind in ("oci-archive", "docker-archive"):
            failed = run_ocisync("copy", *map(str, sources), f"{kind}:{out}/a.tar")
            assert failed.code != 0, failed
            assert left_in(out) == []
        assert run_ocisync("copy", str(sources[-1]), f"oci:{out}/layout").code != 0
        assert left_in(out) == []
    (out / "a.tar").write_bytes(b"before")
    assert run_ocisync("copy", f"oci:{made}:1", f"oci-archive:{out}/a.tar").code == 1
    assert (out / "a.tar").read_bytes() == b"before"
    assert run_ocisync("copy", good, f"oci-archive:{out}/no/such/folder.tar").code == 1
    assert left_in(out) == ["a.tar"]


def test_a_killed_export_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    docker_archive(tmp_path / "in.tar", make_image(size=5_000_000))
    with started("copy", tmp_path / "in.tar", f"oci-archive:{out}/a.tar", env={"OCISYNC_KILL_AT": "spool@2"}) as child:
        assert child.process.wait(timeout=60) == -9
    assert left_in(out) == []


def test_a_docker_archive_takes_one_platform(tmp_path: Path) -> None:
    made = multi_platform()
    oci_archive(tmp_path / "in.tar", {"1": made})
    refused = copy(tmp_path / "in.tar", f"docker-archive:{tmp_path}/d.tar:a:1", code=1)
    assert "--platform" in refused.stderr
    assert "manifest.unsupported" in refused.stderr
    copy("--platform", "linux/arm64", tmp_path / "in.tar", f"docker-archive:{tmp_path}/d.tar:a:1")
    assert skopeo("inspect", "--config", "--raw", f"docker-archive:{tmp_path}/d.tar:a:1") == made.children[1].config
    missing = copy("--platform", "linux/s390x", tmp_path / "in.tar", f"oci-archive:{tmp_path}/x.tar", code=1)
    assert "linux/amd64, linux/arm64/v8" in missing.stderr
    assert not (tmp_path / "x.tar").exists()


def test_one_image_and_its_attestation_are_one_platform(tmp_path: Path) -> None:
    """What `docker buildx build` makes for one platform."""
    image, said = make_image(), make_image("attestation")
    unknown = {"platform": {"os": "unknown", "architecture": "unknown"}}
    built = index_of(
        {**describe(image.media_type, image.manifest), "platform": {"os": "linux", "architecture": "amd64"}},
        {**describe(said.media_type, said.manifest), **unknown},
    )
    files = [built, image.manifest, said.manifest, *image.blobs.values(), *said.blobs.values()]
    made = layout_of(tmp_path / "l", [named(describe(INDEX_TYPE, built), "a/b:1")], files)
    for kind in ("oci-archive", "docker-archive"):
        copy(f"oci:{made}", f"{kind}:{tmp_path}/{kind}.tar")
        (listed,) = json.loads(members(tmp_path / f"{kind}.tar")["manifest.json"])
        assert listed["RepoTags"] == ["a/b:1"]
        assert len(listed["Layers"]) == 2
        config = skopeo("inspect", "--config", "--raw", f"docker-archive:{tmp_path}/{kind}.tar:a/b:1")
        assert config == image.config
    assert raw(f"oci-archive:{tmp_path}/oci-archive.tar:a/b:1") == digest_of(built)


def test_a_layout_takes_parallel_writers(tmp_path: Path) -> None:
    made = {f"t{number}": make_image(f"image {number}") for number in range(4)}
    for tag, image in made.items():
        oci_archive(tmp_path / f"{tag}.tar", {tag: image})
    with (
        started("copy", tmp_path / "t0.tar", f"oci:{tmp_path}/l") as one,
        started("copy", tmp_path / "t1.tar", f"oci:{tmp_path}/l") as two,
        started("copy", tmp_path / "t2.tar", f"oci:{tmp_path}/l") as three,
        started("copy", tmp_path / "t3.tar", f"oci:{tmp_path}/l:t3") as four,
    ):
        for child in (one, two, three, four):
            assert child.process.wait(timeout=60) == 0, child.output
    for tag, image in made.items():
        assert raw(f"oci:{tmp_path}/l:{tag}") == image.digest


def test_formats_on_the_command_line(tmp_path: Path) -> None:
    oci_archive(tmp_path / "in.tar", {"1": make_image()})
    copy("--format", "docker", tmp_path / "in.tar", f"oci:{tmp_path}/l:1")
    listed = json.loads((tmp_path / "l/index.json").read_text())["manifests"]
    assert [one["mediaType"] for one in listed] == ["application/vnd.docker.distribution.manifest.v2+json"]
    refused = copy("--drop-signatures", tmp_path / "in.tar", f"oci:{tmp_path}/l:2", code=2)
    assert "--format" in refused.stderr


def test_layers_are_compressed_as_the_command_says(tmp_path: Path) -> None:
    image = make_image(size=200_000)
    docker_archive(tmp_path / "set/linux.amd64.tar", image)
    source, made = tmp_path / "set/linux.amd64.tar", tmp_path / "l"
    digests = {}
    for number, options in enumerate(((), ("--level", "9"), ("--compression", "zstd"), ("--compression", "none"))):
        copy(*options, source, f"oci:{made}:{number}")
        found = json.loads(skopeo("inspect", "--raw", f"oci:{made}:{number}"))["layers"]
        digests[options] = [layer["digest"] for layer in found]
        kind = {"zstd": "+zstd", "none": ""}.get(options[-1] if options else "", "+gzip")
        assert {layer["mediaType"] for layer in found} == {f"application/vnd.oci.image.layer.v1.tar{kind}"}
    assert len({tuple(found) for found in digests.values()}) == 4
    assert digests["--compression", "none"] == [digest_of(layer) for layer in image.layers]
    place = (f"static:{tmp_path}/s", "--tag", "a:1", "--compression", "zstd")
    run_ocisync("push", tmp_path / "set", *place).expect()
    held = {path.name for path in (tmp_path / "s/v2/a/blobs").iterdir()}
    assert set(digests["--compression", "zstd"]) <= held
    assert "no level 30" in copy("--level", "30", source, f"oci:{made}:x", code=2).stderr
    both = ("--format", "docker", "--compression", "zstd")
    assert "OCI's media types" in copy(*both, source, f"oci:{made}:x", code=2).stderr


def test_several_images_do_not_fit_one_tag(tmp_path: Path) -> None:
    oci_archive(tmp_path / "in.tar", {"1": make_image()})
    for place in ("docker://127.0.0.1:1/a:1", f"oci-archive:{tmp_path}/o.tar:name"):
        assert "takes one image" in copy(tmp_path / "in.tar", tmp_path / "in.tar", place, code=2).stderr


def archive_of(path: Path, layers: Mapping[str, bytes]) -> Path:
    return docker_archive(path, {"team/app:1": image_of([tar({name: body}) for name, body in layers.items()])})


def test_the_same_docker_archive_gives_equal_digests_in_two_empty_targets(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "a.tar", {"a": noise(2_500_000, "a"), "b": bytes(3_000_000)})
    for name in ("one", "two"):
        copy(path, f"static:{tmp_path}/{name}//team/app:1")
    one, two = (
        {file.name: file.read_bytes() for file in (tmp_path / name / "v2/team").rglob("sha256:*")}
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) == 4  # manifest, configuration, two layers


def test_of_a_rebuilt_archive_only_the_changed_layer_is_compressed_and_sent(tmp_path: Path) -> None:
    layers = {f"layer{number}": noise(100_000, f"{number}") for number in range(8)}
    drop = tmp_path / "drop"
    config = tmp_path / "ocisync.yaml"
    config.write_text(json.dumps({
        "version": 1,
        "targets": {"local": {"type": "static", "path": str(tmp_path / "s")}},
        "drop": [{"name": "builds", "path": str(drop), "target": "local", "stable": "0s"}],
        "daemon": {"state": str(tmp_path / "state")},
    }))  # fmt: skip
    archive_of(drop / "app.tar", layers)
    first = json.loads(run_ocisync("once", "--json", "-c", config).expect().stdout)
    assert first["jobs"][0]["traffic"]["blobs"] == 9
    archive_of(drop / "app.tar", {**layers, "layer3": noise(100_000, "changed")})
    again = run_ocisync(
        "once", "--json", "-c", config, env={"OCISYNC_KILL_AT": "spool@2"}
    ).expect()  # a second layer kills
    second = json.loads(again.stdout)
    assert second["jobs"][0]["traffic"]["blobs"] == 2  # the layer and the configuration
    assert second["jobs"][0]["tags"][0]["verdict"] == "copied"
