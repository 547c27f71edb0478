"""An unchanged pass costs questions and nothing else; after a few tags moved, only what changed travels."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.integration.mainjob import ENV, KINDS, BucketPlace, Kind, contents, open_place, tags, walk_all, write_config
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import Access, DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Reply
from tests.servers.images import Image, image_of, make_image, multi_platform, noise, push, tar
from tests.servers.seaweed import Seaweed

NAME = "library/app"
TAGS = 40  # the proof takes 200
MOVED = 5
BASE = tar({"base": noise(40_000, "base")})


def image(number: int, version: int = 1) -> Image:
    """An image on a base layer that all share."""
    own = tar({f"app/{number}": noise(3_000, f"{number}/{version}")})
    return image_of([BASE, own], comment=f"{number}/{version}")


def fill(registry: DockerRegistry, count: int) -> None:
    """So many tags; every tenth is a multi-platform image, and one tag has two names."""
    for number in range(count):
        made = multi_platform(f"multi{number}") if number % 10 == 9 else image(number)
        push(registry.client, NAME, f"t{number:03}", made)


def move(registry: DockerRegistry) -> list[Image]:
    """Point some tags at new images."""
    moved = [image(number, version=2) for number in range(MOVED)]
    for number, made in enumerate(moved):
        push(registry.client, NAME, f"t{number:03}", made)
    return moved


def once(file: Path) -> dict[str, int]:
    """One pass; what travelled."""
    done = run_ocisync("once", "--json", "-c", file, env=ENV, timeout=300).expect(0)
    traffic = dict(json.loads(done.stdout)["jobs"][0]["traffic"])
    sent = ", ".join(f"{traffic[name]} {name}" for name in ("blobs", "manifests", "bytes"))
    print(f"{done.seconds:.1f} s: {sent} sent")  # noqa: T201 (the proof's figure)
    return traffic


def bodies(requests: Iterable[Access]) -> list[str]:
    """Requests that moved content: a GET of a manifest or blob, or anything that writes."""
    reads = re.compile(r"/(manifests|blobs)/")
    writes = ("PUT", "POST", "PATCH", "DELETE")
    return [
        f"{one.method} {one.path}"
        for one in requests
        if one.method in writes or (one.method == "GET" and reads.search(one.path))
    ]


def check_only_heads(requests: list[Access], count: int) -> None:
    """The source was asked for its list of tags, and for each tag whether it is what it was; nothing else."""
    assert bodies(requests) == []
    assert {one.status for one in requests if "/manifests/" in one.path} == {304}
    assert {one.method for one in requests if "/manifests/" in one.path} == {"HEAD"}
    assert sum("/manifests/" in one.path for one in requests) == count
    assert all("/manifests/" in one.path or "/tags/list" in one.path or one.path == "/v2/" for one in requests)


def check_only_moved(requests: list[Access], moved: list[Image]) -> None:
    """Five manifests and what is new below them were read; the shared base was not."""
    read = [one.path.rpartition("/")[2] for one in requests if one.method == "GET" and "/blobs/" in one.path]
    new = {digest for made in moved for digest in list(made.blobs)[0:1] + list(made.blobs)[2:3]}  # config, own layer
    assert sorted(read) == sorted(new)
    manifests = [one for one in requests if one.method == "GET" and "/manifests/" in one.path]
    assert len(manifests) == MOVED


def prove_static(kind: Kind, count: int, tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    """The proof for a static target."""
    fill(registry, count)
    with open_place(kind, tmp_path / "target", s3) as place:
        rule = {"source": f"{registry.host}/{NAME}", "target": "out"}
        file = write_config(tmp_path, {"out": place.settings}, sync=[rule])
        assert once(file)["blobs"] > count
        before, start = contents(place), len(registry.requests())
        assert once(file) == {"blobs": 0, "manifests": 0, "mounted": 0, "skipped": 0, "bytes": 0}
        check_only_heads(registry.requests()[start:], count)
        assert contents(place) == before
        moved = move(registry)
        start = len(registry.requests())
        traffic = once(file)
        assert (traffic["blobs"], traffic["manifests"]) == (2 * MOVED, MOVED)
        check_only_moved(registry.requests()[start:], moved)
        assert len(tags(place, NAME)) == count
        published = walk_all(place, NAME)
        assert [published[f"t{number:03}"] for number in range(MOVED)] == [made.digest for made in moved]


def prove_registry(count: int, tmp_path: Path, registry: DockerRegistry) -> None:
    """The proof for a second registry, whose log tells the other direction."""
    fill(registry, count)
    with docker_registry(tmp_path / "second") as second:
        rule = {"source": f"{registry.host}/{NAME}", "target": "out"}
        file = write_config(tmp_path, {"out": {"type": "registry", "url": second.url}}, sync=[rule])
        once(file)
        start, start_second = len(registry.requests()), len(second.requests())
        assert once(file) == {"blobs": 0, "manifests": 0, "mounted": 0, "skipped": 0, "bytes": 0}
        check_only_heads(registry.requests()[start:], count)
        assert bodies(second.requests()[start_second:]) == []
        moved = move(registry)
        start, start_second = len(registry.requests()), len(second.requests())
        once(file)
        check_only_moved(registry.requests()[start:], moved)
        written = [one.path for one in second.requests()[start_second:] if one.method == "PUT"]
        assert sum("/blobs/" in path for path in written) == 2 * MOVED
        assert sum("/manifests/" in path for path in written) == MOVED
        for made, number in zip(moved, range(MOVED), strict=True):
            path = f"/v2/{NAME}/manifests/t{number:03}"
            assert second.client.request("GET", path, headers={"Accept": made.media_type}).body == made.manifest


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_pass_to_a_static_target_moves_nothing(
    kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    prove_static(kind, TAGS, tmp_path, registry, s3)


def test_a_second_pass_to_a_registry_moves_nothing(tmp_path: Path, registry: DockerRegistry) -> None:
    prove_registry(TAGS, tmp_path, registry)


def test_an_unchanged_pass_to_s3_asks_little_and_writes_nothing(
    tmp_path: Path, registry: DockerRegistry, s3: Seaweed, s3_proxy: FaultProxy
) -> None:
    fill(registry, TAGS)
    with open_place("s3", tmp_path, s3) as place:
        assert isinstance(place, BucketPlace)
        through = BucketPlace(place.bucket, place.url, s3_proxy.url)
        rule = {"source": f"{registry.host}/{NAME}", "target": "out"}
        file = write_config(tmp_path, {"out": through.settings}, sync=[rule])
        once(file)
        s3_proxy.requests.clear()
        once(file)
        assert s3_proxy.seen("PUT|POST|DELETE") == []
        assert len(s3_proxy.requests) <= 1, [f"{one.method} {one.path}" for one in s3_proxy.requests]


def test_a_lost_ledger_costs_time_and_no_traffic(tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    fill(registry, 5)
    with open_place("directory", tmp_path / "target", s3) as place:
        rule = {"source": f"{registry.host}/{NAME}", "target": "out"}
        file = write_config(tmp_path, {"out": place.settings}, sync=[rule])
        once(file)
        shutil.rmtree(tmp_path / "state")
        start = len(registry.requests())
        traffic = once(file)
        assert (traffic["blobs"], traffic["manifests"]) == (0, 0)
        assert not [one for one in bodies(registry.requests()[start:]) if "/blobs/" in one]


@pytest.mark.parametrize("validates", [False, True, None])  # None: docker-registry is tried, and refuses
def test_a_registry_that_validates_needs_no_ledger(
    tmp_path: Path, registry: DockerRegistry, validates: bool | None
) -> None:
    fill(registry, 10)
    with docker_registry(tmp_path / "second") as second:
        rule = {"source": f"{registry.host}/{NAME}", "target": "out"}
        out = {"out": {"type": "registry", "url": second.url}}
        file = write_config(tmp_path, out, sync=[rule], registries={second.host: {"validates": validates}})
        once(file)
        shutil.rmtree(tmp_path / "state")
        start, start_second = len(registry.requests()), len(second.requests())
        once(file)
        looked = [one for one in second.requests()[start_second:] if "/blobs/" in one.path]
        assert bool(looked) is bool(bodies(registry.requests()[start:])) is (validates is False)
        offered = [one.status for one in second.requests()[start_second:] if one.method in ("PUT", "POST", "DELETE")]
        assert offered == ([400] if validates is None else [])


def test_a_registry_that_takes_what_it_lacks_is_not_believed(
    tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    fill(registry, 10)
    rule = {"source": f"{registry.host}/{NAME}", "target": "out/copy"}
    file = write_config(tmp_path, {"out": {"type": "registry", "url": registry_proxy.url}}, sync=[rule])
    once(file)
    shutil.rmtree(tmp_path / "state")
    registry_proxy.on("PUT", "/manifests/sha256:", Reply(201))
    registry_proxy.on("DELETE", "/manifests/sha256:", Reply(202))
    registry_proxy.requests.clear()
    once(file)
    (taken,) = registry_proxy.seen("PUT")
    assert [one.path for one in registry_proxy.seen("DELETE")] == [taken.path]
    assert registry_proxy.seen("HEAD", "/blobs/")


def test_a_registry_is_believed_until_the_first_full_look(tmp_path: Path, registry: DockerRegistry) -> None:
    fill(registry, 10)
    with docker_registry(tmp_path / "second") as second:
        rule = {"source": f"{registry.host}/{NAME}", "target": "out", "recheck": "1s"}
        file = write_config(tmp_path, {"out": {"type": "registry", "url": second.url}}, sync=[rule])
        once(file)
        shutil.rmtree(tmp_path / "state")
        once(file)
        start, until = len(second.requests()), time.monotonic() + 30
        while not [one for one in second.requests()[start:] if "/blobs/" in one.path]:
            assert time.monotonic() < until
            once(file)


def test_a_single_image_is_looked_up_by_one_question(tmp_path: Path, registry: DockerRegistry) -> None:
    push(registry.client, "one", "1", make_image("one"))
    rule = {"source": f"{registry.host}/one:1", "target": "out"}
    file = write_config(tmp_path, {"out": {"type": "static", "path": str(tmp_path / "out")}}, sync=[rule])
    once(file)
    start = len(registry.requests())
    once(file)
    asked = [f"{one.method} {one.path}" for one in registry.requests()[start:] if one.path != "/v2/"]
    assert asked == ["HEAD /v2/one/manifests/1"]
