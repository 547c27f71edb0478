"""One read of the source, several targets: each blob is fetched once, also for a target that fails and catches up."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.big import MIB, measured, push_big
from tests.integration.mainjob import ENV, BucketPlace, Directory, Place, open_place, tags, walk, write_config
from tests.servers.command import daemon, run_ocisync
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy, fault_proxy
from tests.servers.faults import Flip, Reply, ResetBody
from tests.servers.images import Index, multi_platform, push
from tests.servers.process import wait_for
from tests.servers.seaweed import Seaweed
from tests.servers.skopeo import inspect_raw, list_tags, pull

NAME = "library/app"
LONG = 240.0  # seconds
_CONTENT = re.compile(r"/(blobs|manifests)/sha256:")
IMAGES = {"1": multi_platform("one", size=300_000), "2": multi_platform("two", size=200_000)}


@dataclass
class World:
    """A source, a registry behind a proxy, a bucket and a directory."""

    source: DockerRegistry
    registry: DockerRegistry
    proxy: FaultProxy
    bucket: BucketPlace
    directory: Directory
    file: Path

    def reads(self) -> Counter[str]:
        """How often each blob, and each manifest by its digest, was fetched from the source."""
        found = [one.path for one in self.source.requests() if one.method == "GET" and _CONTENT.search(one.path)]
        return Counter(path.partition("?")[0].rpartition("/")[2] for path in found)

    def expect_one_read(self) -> None:
        """Everything arrived from the source once."""
        blobs = {digest for image in IMAGES.values() for child in image.children for digest in child.blobs}
        found = self.reads()
        assert found.keys() >= blobs
        assert set(found.values()) == {1}

    def spooled(self) -> list[Path]:
        """What is kept for a target that has yet to come."""
        folder = self.file.parent / "state/tmp/spool"
        return sorted(folder.iterdir()) if folder.exists() else []


@contextmanager
def world(folder: Path, registry: DockerRegistry, s3: Seaweed, **rule: object) -> Iterator[World]:
    with (
        docker_registry(folder / "target") as target,
        fault_proxy(target.url) as proxy,
        open_place("s3", folder / "bucket", s3) as bucket,
        open_place("directory", folder / "directory", s3) as directory,
    ):
        assert isinstance(bucket, BucketPlace)
        assert isinstance(directory, Directory)
        named: dict[str, Mapping[str, object]] = {"b": bucket.settings, "d": directory.settings}
        named["r"] = {"type": "registry", "url": proxy.url}
        sync = {"source": f"{registry.host}/{NAME}", "target": ["r", "b", "d"], "interval": "1s"} | rule
        hosts = {proxy.host: {"retries": 1}}
        file = write_config(folder, named, sync=[sync], registries=hosts)
        yield World(registry, target, proxy, bucket, directory, file)


def fill(registry: DockerRegistry) -> None:
    for tag, image in IMAGES.items():
        push(registry.client, NAME, tag, image)


def check_place(place: Place) -> None:
    for tag, image in IMAGES.items():
        assert next(iter(walk(place, NAME, tag))) == image.digest


def check_registry(registry: DockerRegistry, folder: Path) -> None:
    folder.mkdir()
    assert sorted(list_tags(f"{registry.host}/{NAME}")) == sorted(IMAGES)
    for tag, image in IMAGES.items():
        assert inspect_raw(f"{registry.host}/{NAME}:{tag}") == image.manifest
        _check_files(pull(f"{registry.host}/{NAME}:{tag}", folder / tag), image)


def _check_files(files: dict[str, bytes], image: Index) -> None:
    for child in image.children:
        assert files.items() >= {digest[7:]: blob for digest, blob in child.blobs.items()}.items()


def test_three_targets_take_one_read(tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    fill(registry)
    with world(tmp_path, registry, s3) as found:
        run_ocisync("once", "-c", found.file, env=ENV).expect(0)
        found.expect_one_read()
        check_place(found.bucket)
        check_place(found.directory)
        check_registry(found.registry, tmp_path / "pulled")
        assert found.spooled() == []


def test_a_target_that_fails_for_a_while_catches_up_without_another_read(
    tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    fill(registry)
    with world(tmp_path, registry, s3) as found:
        failing = found.proxy.on("PUT", "/blobs/uploads/", Reply(500))
        with daemon(found.file, env=ENV) as running:
            wait_for(lambda: failing.hits > 3, "the registry to refuse uploads", LONG)
            wait_for(lambda: tags(found.bucket, NAME) == ["1", "2"], "the bucket", LONG)
            wait_for(lambda: tags(found.directory, NAME) == ["1", "2"], "the directory", LONG)
            assert list_tags_or_none(found.registry) == []
            found.proxy.rules.clear()
            wait_for(lambda: list_tags_or_none(found.registry) == ["1", "2"], "the registry to catch up", LONG)
            wait_for(lambda: found.spooled() == [], "the spool to be emptied", LONG)
            assert running.ready()
        found.expect_one_read()
        check_place(found.bucket)
        check_place(found.directory)
        check_registry(found.registry, tmp_path / "pulled")


def list_tags_or_none(registry: DockerRegistry) -> list[str]:
    reply = registry.client.request("GET", f"/v2/{NAME}/tags/list")
    return sorted(list_tags(f"{registry.host}/{NAME}")) if reply.status == 200 else []


def test_a_target_that_failed_catches_up_in_the_next_process(
    tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    fill(registry)
    with world(tmp_path, registry, s3) as found:
        found.proxy.on("PUT", "/blobs/uploads/", Reply(500))
        done = run_ocisync("once", "-c", found.file, env=ENV).expect(1)
        assert f"r/{NAME}:1" in done.stderr
        assert tags(found.bucket, NAME) == tags(found.directory, NAME) == ["1", "2"]
        assert found.spooled()
        found.proxy.rules.clear()
        run_ocisync("once", "-c", found.file, env=ENV).expect(0)
        found.expect_one_read()
        check_registry(found.registry, tmp_path / "pulled")
        assert found.spooled() == []


def test_without_room_to_spool_each_target_reads_for_itself(
    tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    fill(registry)
    with world(tmp_path, registry, s3) as found:
        found.file.write_text(found.file.read_text().replace("daemon:\n", "daemon:\n  spool: 0\n"))
        run_ocisync("once", "-c", found.file, env=ENV).expect(0)
        assert set(found.reads().values()) == {3}
        check_registry(found.registry, tmp_path / "pulled")


# What is damaged is read once more only, so no blob may be damaged twice.
@pytest.mark.parametrize(("fault", "times"), [(Flip(at=70_000), 1), (ResetBody(70_000), 4)], ids=["flipped", "reset"])
def test_fault_20_damage_on_the_way_from_the_source_reaches_no_target(
    fault: Flip | ResetBody, times: int, tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    fill(registry)
    with fault_proxy(registry.url) as front, world(tmp_path, registry, s3, source=f"{front.host}/{NAME}") as found:
        front.on("GET", "/blobs/sha256:", fault, times=times)
        run_ocisync("once", "-c", found.file, env=ENV).expect(0)
        check_place(found.bucket)
        check_place(found.directory)
        check_registry(found.registry, tmp_path / "pulled")
        assert found.spooled() == []


def test_memory_stays_flat_with_three_targets(tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    push_big(registry, NAME, "big", 200 * MIB)
    with world(tmp_path, registry, s3) as found:
        done = measured("once", "-c", found.file, env=ENV, timeout=600)
        assert done.code == 0, done.output
        assert done.peak <= 128 * MIB, f"{done.peak / MIB:.0f} MiB"
        assert set(found.reads().values()) == {1}
        walk(found.directory, NAME, "big")
