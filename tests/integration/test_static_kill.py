"""SIGKILL at each named point of a publication: what was published stays whole; the next run makes the same bytes."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from ocisync.stores.static import layout
from tests.contract.graphs import make_image, make_index
from tests.servers.command import run_module
from tests.servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, Bucket, Seaweed

MIB = 1024 * 1024
OLD, NEW = (make_index(make_image(f"{note} amd64"), make_image(f"{note} arm64")) for note in ("old", "new"))
COMMON = ["manifest.child", "manifest.child@2", "manifest.digest", "referrers@2", "tag", "tag@2", "tags_list"]
PARTS = ["part", "part@3", "complete.before", "complete.after"]


def run(where: Mapping[str, object], *arguments: str, kill_at: str = "") -> int:
    """One writer process; its exit status."""
    env = {"OCISYNC_KILL_AT": kill_at}
    done = run_module("tests.integration.static_writer", json.dumps(where), *arguments, env=env)
    assert done.code in (0, -signal.SIGKILL), done.stderr[-2000:]
    return done.code


def whole_tags(objects: Mapping[str, bytes]) -> set[str]:
    """The tags that are there, each checked down to its last blob."""
    prefix = "v2/library/app/manifests/"
    tags = {key.removeprefix(prefix) for key in objects if key.startswith(prefix) and "sha256:" not in key}
    by_bytes = {image.raw: image for image in (OLD, NEW)}
    for tag in tags:
        index = by_bytes[objects[prefix + tag]]
        assert objects[prefix + index.desc.digest] == index.raw
        for child in index.children:
            assert objects[prefix + child.desc.digest] == child.raw
            for desc, data in child.blobs:
                assert objects[layout.blob_key("library/app", desc.digest)] == data
    return tags


def files(folder: Path) -> dict[str, bytes]:
    """Everything published, by its key."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {key: path.read_bytes() for key, path in found.items() if not key.startswith(".ocisync/")}


def publish_twice(where: Mapping[str, object]) -> None:
    """What the tests do, without a kill."""
    for words in (("old", "latest", "1.0"), ("new", "latest", "2.0")):
        assert run(where, "publish", *words) == 0


@pytest.fixture(scope="module")
def undisturbed_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What two publications leave in a directory."""
    folder = tmp_path_factory.mktemp("undisturbed")
    publish_twice({"path": str(folder)})
    return files(folder)


@pytest.fixture(scope="module")
def undisturbed_objects(s3: Seaweed) -> dict[str, bytes]:
    """What they leave in a bucket."""
    bucket = s3.bucket()
    publish_twice(s3_options(bucket, "undisturbed/"))
    return objects_below(bucket, "undisturbed/")


@pytest.mark.parametrize("point", ["blob", "blob@4", "blob@9", *COMMON])
def test_fault_57_killed_while_writing_to_a_directory(
    tmp_path: Path, point: str, undisturbed_files: dict[str, bytes]
) -> None:
    where = {"path": str(tmp_path / "registry")}
    run(where, "publish", "old", "latest", "1.0")
    assert run(where, "publish", "new", "latest", "2.0", kill_at=point) == -signal.SIGKILL
    assert whole_tags(files(tmp_path / "registry")) >= {"latest", "1.0"}
    assert run(where, "publish", "new", "latest", "2.0") == 0
    assert files(tmp_path / "registry") == undisturbed_files
    assert whole_tags(files(tmp_path / "registry")) == {"latest", "1.0", "2.0"}
    left = [path.name for path in (tmp_path / "registry/.ocisync/tmp").iterdir()]
    assert [name for name in left if not name.startswith("link-")] == []  # a link goes when it is a minute old


def s3_options(bucket: Bucket, prefix: str) -> dict[str, object]:
    """S3Options for a prefix of the bucket, with small parts."""
    return {
        "bucket": bucket.name, "prefix": prefix, "endpoint": bucket.endpoint, "region": REGION, "path_style": True,
        "access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "multipart_threshold": 10 * MIB, "part_size": 5 * MIB,
    }  # fmt: skip


def objects_below(bucket: Bucket, prefix: str) -> dict[str, bytes]:
    """Everything published, by its key."""
    return {key.removeprefix(prefix): bucket.get(key).body for key in bucket.keys(f"{prefix}v2/")}


@pytest.mark.parametrize("point", [*PARTS, *COMMON])
def test_fault_57_killed_while_writing_to_s3(bucket: Bucket, point: str, undisturbed_objects: dict[str, bytes]) -> None:
    where = s3_options(bucket, "killed/")
    run(where, "publish", "old", "latest", "1.0")
    assert run(where, "publish", "new", "latest", "2.0", kill_at=point) == -signal.SIGKILL
    assert whole_tags(objects_below(bucket, "killed/")) >= {"latest", "1.0"}
    assert run(where, "publish", "new", "latest", "2.0") == 0
    found = objects_below(bucket, "killed/")
    assert found == undisturbed_objects
    assert whole_tags(found) == {"latest", "1.0", "2.0"}


@pytest.mark.parametrize("point", ["manifest.digest", "tag", "tags_list"])
def test_fault_47_a_crash_between_manifest_and_list_is_repaired(tmp_path: Path, point: str) -> None:
    where, folder = {"path": str(tmp_path / "registry")}, tmp_path / "registry"
    assert run(where, "publish", "old", "latest", kill_at=point) == -signal.SIGKILL
    run(where, "publish", "old", "latest")
    listed = json.loads((folder / "v2/library/app/tags/list").read_text())
    assert listed == {"name": "library/app", "tags": ["latest"]}
    assert whole_tags(files(folder)) == {"latest"}
