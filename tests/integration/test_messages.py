"""What a user reads when something is wrong: which object, what happened, what to do now; never a traceback."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.mainjob import ENV, BucketPlace, Directory, tags, write_config
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Reply
from tests.servers.images import Json, docker_archive, layout_files, make_image, noise, push, write_archive
from tests.servers.process import free_port
from tests.servers.seaweed import Seaweed

NAME = "library/app"


def complaint(folder: Path, source: str, target: Json) -> str:
    """What a failing pass says."""
    rule = {"source": source, "target": "out"}
    done = run_ocisync("once", "-c", write_config(folder, {"out": target}, sync=[rule]), env=ENV).expect(1)
    assert "Traceback" not in done.stderr
    return done.stderr


def check(said: str, *parts: str) -> None:
    """Every part stands in it."""
    assert [part for part in parts if part not in said] == [], said


def local(folder: Path) -> Json:
    """A target that works."""
    return Directory(folder / "registry").settings


@pytest.mark.parametrize("place", ["s3://", "s3:bucket", "s3:///app", "static:", "static://app"])
def test_a_place_without_a_bucket_or_directory(place: str, tmp_path: Path) -> None:
    said = run_ocisync("ls", place, cwd=tmp_path).expect(2).stderr
    check(said, f"{place} needs the form", "/NAME]", "[name.invalid]")


def test_a_registry_that_is_down(tmp_path: Path) -> None:
    host = f"127.0.0.1:{free_port()}"
    said = complaint(tmp_path, f"{host}/{NAME}", local(tmp_path))
    check(said, host, "refused", "see that it runs", "[net.unreachable]")


def test_a_registry_that_wants_a_password(tmp_path: Path) -> None:
    with docker_registry(tmp_path / "r", basic=True) as registry:
        said = complaint(tmp_path, f"{registry.host}/{NAME}", local(tmp_path))
    check(said, registry.host, "username and password", "config.json", "[auth.denied]")


def test_a_repository_that_is_not_there(tmp_path: Path, registry: DockerRegistry) -> None:
    check(complaint(tmp_path, f"{registry.host}/nope", local(tmp_path)), "nope", "404", "[source.missing]")


def test_a_tag_that_is_not_there(tmp_path: Path, registry: DockerRegistry) -> None:
    push(registry.client, NAME, "1", make_image("one"))
    said = complaint(tmp_path, f"{registry.host}/{NAME}:nope", local(tmp_path))
    check(said, "out/library/app:nope", "404", "[source.missing]")


def test_a_registry_that_wants_fewer_requests(
    tmp_path: Path, registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    push(registry.client, NAME, "1", make_image("one"))
    registry_proxy.on(".*", "/tags/", Reply(429, {"Retry-After": "0"}))
    said = complaint(tmp_path, f"{registry_proxy.host}/{NAME}", local(tmp_path))
    check(said, "429", "log in", "requests_per_second", "[limit.rate]")


BUCKETS: dict[str, tuple[Json, tuple[str, ...]]] = {
    "missing": ({"bucket": "nope-nope"}, ("nope-nope", "there is no such bucket", "create it")),
    "unknown key": ({"access_key_id": "wrong"}, ("the access key is not known there",)),
    "wrong secret": ({"secret_access_key": {"env": "NOT_IT"}}, ("the secret key does not belong to the access key",)),
}


@pytest.mark.parametrize("what", BUCKETS)
def test_a_bucket_that_cannot_be_used(what: str, tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    push(registry.client, NAME, "1", make_image("one"))
    options, parts = BUCKETS[what]
    target = BucketPlace(s3.bucket(), "", options=options).settings
    rule = {"source": f"{registry.host}/{NAME}", "target": "out"}
    file = write_config(tmp_path, {"out": target}, sync=[rule])
    said = run_ocisync("once", "-c", file, env=ENV | {"NOT_IT": "not-it"}).expect(1).stderr
    check(said, *parts, "[s3.config]")
    assert "Traceback" not in said


@dataclass(frozen=True, slots=True)
class Bad:
    """A file to drop, and what is said of it."""

    make: Callable[[Path], object]
    code: str
    parts: tuple[str, ...]


def truncated(path: Path) -> None:
    """A docker archive that was cut off."""
    docker_archive(path, {"a/b:1": make_image("cut", size=50_000)})
    path.write_bytes(path.read_bytes()[:60_000])


def climbing(path: Path) -> None:
    """An archive whose manifest names members outside of it."""
    entry = {"Config": "../config.json", "RepoTags": ["a/b:1"], "Layers": ["../../etc/passwd"]}
    write_archive(path, {"manifest.json": json.dumps([entry]).encode(), "../config.json": b"{}"})


def damaged(path: Path) -> None:
    """An OCI archive with a layer whose bytes are not its digest's."""
    image = make_image("damaged", size=50_000)
    layer = list(image.blobs)[-1]
    files = layout_files({"a/b:1": image})
    files[f"blobs/{layer.replace(':', '/')}"] = noise(len(image.blobs[layer]), "other")
    write_archive(path, files)


BAD = {
    "truncated": Bad(truncated, "archive.invalid", ("truncated",)),
    "climbing": Bad(climbing, "archive.invalid", ("../config.json", "leads out of the archive")),
    "damaged": Bad(damaged, "verify.digest", ("damaged at its source",)),
    "text": Bad(lambda path: path.write_text("no archive"), "archive.invalid", ("this is not a tar archive",)),
    "rootfs": Bad(lambda path: write_archive(path, {"etc/passwd": b""}), "archive.invalid", ("docker save",)),
    "nameless": Bad(lambda path: docker_archive(path, make_image("n")), "name.missing", ("docker save NAME:TAG",)),
}


def test_bad_archives_are_set_aside_with_their_reasons_and_nothing_is_published(tmp_path: Path) -> None:
    drop, place = tmp_path / "drop", Directory(tmp_path / "registry")
    drop.mkdir()
    for name, bad in BAD.items():
        bad.make(drop / f"{name}.tar")
    docker_archive(drop / "good.tar", {"good/app:1": make_image("good")})
    rule = {"path": str(drop), "target": "out", "stable": "0s"}
    file = write_config(tmp_path, {"out": place.settings}, drop=[rule])
    done = run_ocisync("once", "-c", file).expect(1)
    assert "Traceback" not in done.stderr
    for name, bad in BAD.items():
        check(done.stderr, *bad.parts, f"[{bad.code}]")
        assert (drop / f"failed/{name}.tar").is_file()
        check((drop / f"failed/{name}.tar.reason.txt").read_text(), *bad.parts, bad.code, f"{name}.tar", "what now")
    assert tags(place, "good/app") == ["1"]
    assert not [key for key in place.listing() if key.startswith("v2/a/b/manifests/")]
