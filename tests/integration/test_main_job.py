"""The main job, end to end: what was dropped or mirrored is pulled byte-exact by skopeo from both static targets."""

import gzip
import json
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.mainjob import ENV, KINDS, Kind, Place, open_place, readable, tags, walk, walk_all, write_config
from tests.servers.command import daemon, run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import (
    OCI_MANIFEST,
    Image,
    Index,
    Json,
    docker_archive,
    make_image,
    make_index,
    multi_platform,
    oci_archive,
    push,
)
from tests.servers.process import wait_for
from tests.servers.seaweed import Seaweed
from tests.servers.skopeo import inspect_raw, list_tags, pull, skopeo, skopeo_archive


def drop_archives(folder: Path, registry: DockerRegistry, image: Image, index: Index) -> None:
    """What skopeo writes, renamed into the drop folder when it is whole."""
    made = folder.parent / "made"
    push(registry.client, "source/one", "1.0", image)
    push(registry.client, "source/many", "1.0", index)
    one, many = f"{registry.host}/source/one:1.0", f"{registry.host}/source/many:1.0"
    skopeo_archive("docker-archive", one, made / "docker.tar", "farm/docker:1.0")
    skopeo_archive("oci-archive", one, made / "oci.tar", "farm/oci:1.0")
    skopeo_archive("oci-archive", many, made / "many.tar", "farm/many:1.0", ("--all",))
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(made.iterdir()):
        file.rename(folder / file.name)


def check_pulled(host: str, folder: Path, image: Image, index: Index) -> None:
    """skopeo gets the very bytes of the source; from a docker archive, the very content."""
    folder.mkdir()
    assert inspect_raw(f"{host}/farm/oci:1.0") == image.manifest
    assert inspect_raw(f"{host}/farm/many:1.0") == index.manifest
    assert pull(f"{host}/farm/oci:1.0", folder / "oci").items() >= _files(image).items()
    many = pull(f"{host}/farm/many:1.0", folder / "many")
    assert many["manifest.json"] == index.manifest
    for child in index.children:
        assert many.items() >= {digest[7:]: blob for digest, blob in child.blobs.items()}.items()
        assert many[f"{child.digest[7:]}.manifest.json"] == child.manifest
    _check_converted(pull(f"{host}/farm/docker:1.0", folder / "docker"), image)


def _files(image: Image) -> dict[str, bytes]:
    return {"manifest.json": image.manifest} | {digest[7:]: blob for digest, blob in image.blobs.items()}


def _check_converted(files: dict[str, bytes], image: Image) -> None:
    manifest = json.loads(files["manifest.json"])
    assert manifest["mediaType"] == OCI_MANIFEST
    assert files[manifest["config"]["digest"][7:]] == image.config
    layers = [files[layer["digest"][7:]] for layer in manifest["layers"]]
    assert [gzip.decompress(layer) for layer in layers] == list(image.layers)


@pytest.mark.parametrize("kind", KINDS)
def test_skopeos_archives_are_published_byte_exact(
    kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    image, index = make_image("one", layers=3, size=300_000), multi_platform("many", size=100_000)
    drop_archives(tmp_path / "drop", registry, image, index)
    with open_place(kind, tmp_path / "registry", s3) as place:
        drop = {"name": "farm", "path": str(tmp_path / "drop"), "target": "out", "done": "move"}
        file = write_config(tmp_path, {"out": place.settings}, drop=[drop])
        run_ocisync("once", "-c", file, env=ENV).expect(0)
        assert sorted(path.name for path in (tmp_path / "drop/done").iterdir()) == ["docker.tar", "many.tar", "oci.tar"]
        with readable(place) as host:
            check_pulled(host, tmp_path / "pulled", image, index)
            assert list_tags(f"{host}/farm/many") == ["1.0"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_daemon_publishes_what_is_dropped_and_serves_it(
    kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    image, index = make_image("one", layers=2, size=300_000), multi_platform("many", size=50_000)
    with open_place(kind, tmp_path / "registry", s3) as place:
        drop = {"name": "farm", "path": str(tmp_path / "drop"), "target": "out"}
        file = write_config(tmp_path, {"out": place.settings}, drop=[drop], daemon={"serve": "out"})
        with daemon(file, env=ENV) as running:
            drop_archives(tmp_path / "drop", registry, image, index)
            for name in ("docker", "oci", "many"):
                url = f"/v2/farm/{name}/manifests/1.0"
                wait_for(lambda url=url: running.get(url).status == 200, url)  # type: ignore[misc]
            check_pulled(urlsplit(running.url).netloc, tmp_path / "pulled", image, index)
            if kind == "s3":
                with readable(place) as host:
                    check_pulled(host, tmp_path / "from-bucket", image, index)


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_registry_are_mirrored_byte_exact(
    kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    docker = make_image("docker", docker=True, size=200_000)
    nested = make_index([*multi_platform("oci", size=50_000).children], annotations={"kept": "as it is"})
    docker_list = make_index([docker], docker=True)
    images: dict[str, Image | Index] = {"docker": docker, "oci": nested, "list": docker_list}
    for tag, image in images.items():
        push(registry.client, "library/app", tag, image)
    with open_place(kind, tmp_path / "registry", s3) as place:
        rule = {"source": f"{registry.host}/library/app", "target": "out/mirror/app"}
        file = write_config(tmp_path, {"out": place.settings}, sync=[rule])
        run_ocisync("once", "-c", file, env=ENV).expect(0)
        with readable(place) as host:
            for tag in ("docker", "oci", "list"):
                _compare(f"{registry.host}/library/app:{tag}", f"{host}/mirror/app:{tag}", tmp_path / tag)
            assert list_tags(f"{host}/mirror/app") == ["docker", "list", "oci"]


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_what_somebody_removed_or_put_elsewhere_comes_back_with_the_next_pass(
    kind: Kind, count: int, tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    images = {f"v{number}": make_image(str(number)) for number in range(count)}
    for tag, image in images.items():
        push(registry.client, "app", tag, image)
    with open_place(kind, tmp_path / "registry", s3) as place:
        rule = {"source": f"{registry.host}/app", "target": "out"}
        file = write_config(tmp_path, {"out": place.settings}, sync=[rule])
        run_ocisync("once", "-c", file, env=ENV).expect(0)
        by_digest, by_tag = (f"v2/app/manifests/{reference}" for reference in (images["v0"].digest, "v0"))
        foreign = partial(place.put, by_tag, make_image("foreign").manifest)
        for harm in (partial(place.remove, by_digest), partial(place.remove, by_tag), foreign):
            harm()
            run_ocisync("once", "-c", file, env=ENV).expect(0)
            assert walk_all(place, "app") == {tag: image.digest for tag, image in images.items()}


def _compare(source: str, copy: str, folder: Path) -> None:
    assert inspect_raw(copy) == inspect_raw(source)
    folder.mkdir()
    assert pull(copy, folder / "copy") == pull(source, folder / "source")


def test_one_pass_serves_several_targets_and_a_registry(tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    image = make_image("shared", size=50_000)
    oci_archive(tmp_path / "drop/app.tar", {"team/app:2": image})
    with open_place("directory", tmp_path / "registry", s3) as local, open_place("s3", tmp_path, s3) as bucket:
        targets: dict[str, Json] = {
            "a": local.settings,
            "b": bucket.settings,
            "c": {"type": "registry", "url": registry.url},
        }
        drop = {"path": str(tmp_path / "drop"), "target": ["a", "b/below", "c"]}
        run_ocisync("once", "-c", write_config(tmp_path, targets, drop=[drop]), env=ENV).expect(0)
        assert walk(local, "team/app", "2").keys() == walk(bucket, "below/team/app", "2").keys()
    assert registry.client.expect(200, "GET", "/v2/team/app/manifests/2", headers=_ACCEPT).body == image.manifest


_ACCEPT = {"Accept": OCI_MANIFEST}


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_becomes_one_index_that_skopeo_pulls_by_platform(kind: Kind, tmp_path: Path, s3: Seaweed) -> None:
    index = multi_platform("set", size=50_000)
    for child in index.children:
        path = tmp_path / f"drop/team/app/1.0/linux.{child.platform[1]}.tar.gz"
        docker_archive(path, {"whatever:1": child}, compress=True)
    with open_place(kind, tmp_path / "registry", s3) as place:
        drop = {"path": str(tmp_path / "drop"), "target": "out", "settle": "0s"}
        run_ocisync("once", "-c", write_config(tmp_path, {"out": place.settings}, drop=[drop]), env=ENV).expect(0)
        _check_set(place, index)
        with readable(place) as host:
            for child in index.children:
                arch = ("--override-arch", child.platform[1], "--override-os", "linux")
                raw = inspect_raw(f"{host}/team/app:1.0")
                found = {one["platform"]["architecture"] for one in json.loads(raw)["manifests"]}
                assert found == {"amd64", "arm64"}
                files = _pull_platform(f"{host}/team/app:1.0", tmp_path / f"{kind}-{child.platform[1]}", *arch)
                _check_converted(files, child)


def _check_set(place: Place, index: Index) -> None:
    assert tags(place, "team/app") == ["1.0"]
    assert {child.config for child in index.children} <= set(walk(place, "team/app", "1.0").values())


def _pull_platform(reference: str, folder: Path, *platform: str) -> dict[str, bytes]:
    skopeo(*platform, "copy", "--src-tls-verify=false", f"docker://{reference}", f"dir:{folder}")
    return {path.name: path.read_bytes() for path in folder.iterdir()}
