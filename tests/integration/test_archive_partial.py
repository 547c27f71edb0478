"""Archives that name more images than they hold: docker 29's `docker save`, `ctr export`, kind, nerdctl.

moby/moby#49473, containerd/containerd#9554: the index comes whole, with the blobs of the platforms that were pulled.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from tests.servers.command import Finished, run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import Image, Index, Json, digest_of, layout_files, make_image, make_index, write_archive

PLATFORMS = (("linux", "amd64", ""), ("linux", "arm64", "v8"), ("linux", "s390x", ""))
INDEX_TYPES = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"


def multi() -> Index:
    """An index of three images and an attestation of the first."""
    images = [make_image(f"part-{one[1]}", layers=1, size=300, platform=one) for one in PLATFORMS]
    statement = make_image("statement", layers=1, platform=("unknown", "unknown", ""))
    return make_index(images, statements={images[0].digest: statement})


def files_of(index: Index, saved: Collection[Image], *, with_manifests: bool = False) -> dict[str, bytes]:
    """A layout that holds some of an index's images; the manifests of the others too, where a client fetched them."""
    kept = {digest for image in saved for digest in (image.digest, *image.blobs)} | {index.digest}
    kept |= {child.digest for child in index.children} if with_manifests else set()
    named = layout_files({"docker.io/team/app:1.0": index})
    return {path: data for path, data in named.items() if not path.startswith("blobs") or digest_of(data) in kept}


def with_docker_manifest(files: Mapping[str, bytes], image: Image) -> dict[str, bytes]:
    """The same with docker's manifest.json of one image."""
    config, *layers = (f"blobs/{digest.replace(':', '/')}" for digest in image.blobs)
    entry = {"Config": config, "RepoTags": ["team/app:1.0"], "Layers": layers}
    return {**files, "manifest.json": json.dumps([entry]).encode()}


def copy(*arguments: str | Path, code: int = 0) -> Finished:
    """`ocisync copy`."""
    return run_ocisync("copy", *arguments).expect(code)


@pytest.mark.parametrize("with_manifests", [False, True])
@pytest.mark.parametrize("is_hybrid", [False, True])
def test_a_static_registry_keeps_the_index_and_knows_what_is_missing(
    is_hybrid: bool, with_manifests: bool, tmp_path: Path
) -> None:
    index = multi()
    files = files_of(index, index.children[:1], with_manifests=with_manifests)
    archive = write_archive(
        tmp_path / "app.tar", with_docker_manifest(files, index.children[0]) if is_hybrid else files
    )
    done = copy(archive, f"static:{tmp_path}/registry//team/app:1.0")
    assert index.digest in done.stdout
    published = tmp_path / "registry/v2/team/app/manifests"
    assert (published / "1.0").read_bytes() == index.manifest
    assert (published / index.children[0].digest).exists()
    assert not (published / index.children[1].digest).exists()
    said = [line for line in done.stderr.splitlines() if "was not saved with the others" in line]
    assert [platform in "".join(said) for platform in ("linux/arm64/v8", "linux/s390x", "unknown")] == [
        True,
        True,
        False,
    ]
    verified = json.loads(run_ocisync("verify", "--json", f"static:{tmp_path}/registry").expect(0).stdout)
    assert (verified["findings"], verified["omitted"]) == ([], 3)


def test_a_registry_gets_the_only_image_that_is_there(tmp_path: Path, registry: DockerRegistry) -> None:
    index = multi()
    archive = write_archive(tmp_path / "app.tar", files_of(index, index.children[:1]))
    done = copy(archive, f"docker://{registry.host}/partial/one:1.0")
    assert index.children[0].digest in done.stdout
    assert (
        registry.client.expect(200, "GET", "/v2/partial/one/manifests/1.0", headers={"Accept": INDEX_TYPES}).body
        == index.children[0].manifest
    )


def test_a_registry_gets_a_new_index_of_the_images_that_are_there(tmp_path: Path, registry: DockerRegistry) -> None:
    index = multi()
    archive = write_archive(tmp_path / "app.tar", files_of(index, index.children[:2]))
    copy(archive, f"docker://{registry.host}/partial/two:1.0")
    reply = registry.client.expect(200, "GET", "/v2/partial/two/manifests/1.0", headers={"Accept": INDEX_TYPES})
    found: Json = json.loads(reply.body)
    assert found["manifests"] == json.loads(index.manifest)["manifests"][:2]


def test_an_archive_keeps_the_index_and_docker_gets_the_image(tmp_path: Path) -> None:
    index = multi()
    archive = write_archive(tmp_path / "app.tar", files_of(index, index.children[:1]))
    assert index.digest in copy(archive, f"oci:{tmp_path}/layout:1.0").stdout
    assert index.children[0].digest in copy(archive, f"docker-archive:{tmp_path}/saved.tar:team/app:1.0").stdout


def test_a_conversion_leaves_out_what_is_missing(tmp_path: Path) -> None:
    index = multi()
    archive = write_archive(tmp_path / "app.tar", files_of(index, index.children[:2]))
    copy("--format", "docker", "--drop-signatures", archive, f"static:{tmp_path}/registry//team/app:1.0")
    made = json.loads((tmp_path / "registry/v2/team/app/manifests/1.0").read_bytes())
    assert [entry["platform"]["architecture"] for entry in made["manifests"]] == ["amd64", "arm64"]


def test_an_index_of_which_nothing_is_there_is_damaged(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "app.tar", files_of(multi(), ()))
    assert "[source.missing]" in copy(archive, f"static:{tmp_path}/registry//team/app:1.0", code=1).stderr
    assert not (tmp_path / "registry/v2/team/app/manifests/1.0").exists()


def test_the_only_image_without_one_of_its_layers_is_damaged(tmp_path: Path) -> None:
    image = make_image()
    files = layout_files({"team/app:1.0": image})
    del files[f"blobs/{list(image.blobs)[-1].replace(':', '/')}"]
    archive = write_archive(tmp_path / "app.tar", files)
    assert "write it again" in copy(archive, f"static:{tmp_path}/registry//team/app:1.0", code=1).stderr


@pytest.mark.parametrize(
    ("platforms", "verdict"), [("[linux/amd64]", "published"), ("[linux/amd64, linux/arm64]", "failed")]
)
def test_platforms_of_a_drop_rule_say_what_must_be_there(platforms: str, verdict: str, tmp_path: Path) -> None:
    index = multi()
    write_archive(tmp_path / "drop/app.tar", files_of(index, index.children[:1]))
    (tmp_path / "ocisync.yaml").write_text(
        f"version: 1\ntargets: {{t: {{type: static, path: {tmp_path}/registry}}}}\n"
        f"drop: [{{path: {tmp_path}/drop, target: t, platforms: {platforms}, stable: 0s, settle: 0s}}]\n"
        f"daemon: {{state: {tmp_path}/state}}\n"
    )
    done = run_ocisync("once", "-c", tmp_path / "ocisync.yaml", "--json")
    (taken,) = json.loads(done.stdout)["inputs"]
    assert taken["verdict"] == verdict
    assert (tmp_path / "registry/v2/team/app/manifests/1.0").exists() == (verdict == "published")


def test_several_platforms_make_an_index_of_them(tmp_path: Path) -> None:
    index = multi()
    archive = write_archive(tmp_path / "app.tar", layout_files({"team/app:1.0": index}))
    wanted = ("--platform", "linux/amd64", "--platform", "linux/s390x")
    copy(*wanted, archive, f"static:{tmp_path}/registry//team/app:1.0")
    made = json.loads((tmp_path / "registry/v2/team/app/manifests/1.0").read_bytes())
    assert [entry["platform"]["architecture"] for entry in made["manifests"]] == ["amd64", "s390x", "unknown"]
    run_ocisync("verify", "--deep", f"static:{tmp_path}/registry").expect(0)
