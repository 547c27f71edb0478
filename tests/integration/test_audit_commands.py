"""The commands that look after static registries, and the daemon that does it on schedule."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.mainjob import ENV, KINDS, BucketPlace, Directory, Kind, Place, open_place, tags, write_config
from tests.servers.command import Finished, daemon, run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import Image, make_image, oci_archive, push
from tests.servers.process import running, wait_for
from tests.servers.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed

NAME = "team/app"


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, s3: Seaweed) -> Iterator[Place]:
    kind: Kind = request.param
    with open_place(kind, tmp_path / "registry", s3) as opened:
        yield opened


def publish(folder: Path, place: Place, images: dict[str, Image], **settings: object) -> Path:
    """Images through a drop folder; the configuration."""
    drop = folder / "drop"
    for number, (tag, image) in enumerate(images.items()):
        oci_archive(drop / f"{number}.tar", {f"{NAME}:{tag}": image})
    rule = {"name": "drop", "path": str(drop), "target": "out", "done": "delete", "stable": "0s"}
    file = write_config(folder, {"out": place.settings | settings}, drop=[rule])
    ocisync("once", file).expect(0)
    return file


def ocisync(command: str, file: Path, *arguments: str) -> Finished:
    """A command with a configuration."""
    return run_ocisync(command, *arguments, "-c", file, env=ENV)


def clobber(place: Place, key: str, body: bytes = b"clobbered") -> None:
    """Overwrite an object as another tool would."""
    if isinstance(place, Directory):
        (place.path / key).write_bytes(body)
    else:
        assert isinstance(place, BucketPlace)
        place.bucket.put(key, body)


def images(count: int) -> dict[str, Image]:
    """So many small images."""
    return {f"v{number}": make_image(str(number), layers=1, size=500) for number in range(count)}


def test_ls_rm_gc_and_verify(place: Place, tmp_path: Path) -> None:
    file = publish(tmp_path, place, images(3))
    views = json.loads(ocisync("ls", file, "out", "--json").expect(0).stdout)
    assert [(view["name"], view["tags"], view["manifests"], view["blobs"]) for view in views] == [(NAME, 3, 3, 6)]
    listed = json.loads(ocisync("ls", file, f"out/{NAME}", "--json").expect(0).stdout)
    assert [view["tag"] for view in listed] == ["v0", "v1", "v2"]
    assert sum(view["size"] for view in listed) == views[0]["size"]

    assert "v1" in ocisync("rm", file, "out", f"{NAME}:v1", "--dry-run").expect(0).stdout
    assert tags(place, NAME) == ["v0", "v1", "v2"]
    ocisync("rm", file, "out", f"{NAME}:v1").expect(0)
    assert tags(place, NAME) == ["v0", "v2"]
    assert "no such tag" in ocisync("rm", file, "out", f"{NAME}:v1").expect(1).stderr

    kept = place.listing()
    plan = tmp_path / "plan.jsonl"
    assert "3 unreferenced (" in _gc(file, "--plan", str(plan)).expect(0).stdout
    assert place.listing() == kept
    done = json.loads(_gc(file, "--apply", str(plan), "--json").expect(0).stdout)
    assert done["removed"]["removed"] == 3
    journal = Path(done["journal"])
    assert len(journal.read_text().splitlines()) == 3
    assert len(place.listing()) == len(kept) - 4  # its list of referrers too
    ocisync("verify", file, "out", "--deep").expect(0)


def _gc(file: Path, *arguments: str) -> Finished:
    """Without a grace period, once S3's clock has moved on by its one second."""
    deadline = time.monotonic() + 20
    while True:
        done = ocisync("gc", file, "out", "--grace", "1s", *arguments)
        if " 0 unreferenced (" not in done.stdout and '"doomed": 0' not in done.stdout:
            return done
        assert time.monotonic() < deadline, done


def test_rm_removes_all_that_it_was_told_or_nothing(place: Place, tmp_path: Path) -> None:
    file = publish(tmp_path, place, images(2))
    for more in ((), ("--dry-run",)):
        said = ocisync("rm", file, "out", f"{NAME}:v0", f"{NAME}:nope", *more).expect(1).stderr
        assert f"{NAME}:nope: no such tag; nothing was removed; `ocisync ls TARGET/{NAME}`" in said
    assert tags(place, NAME) == ["v0", "v1"]
    assert len(ocisync("rm", file, "out", f"{NAME}:v0", NAME).expect(0).stdout.splitlines()) == 2
    assert tags(place, NAME) == []


def test_all_tags_of_a_repository(place: Place, tmp_path: Path) -> None:
    file = publish(tmp_path, place, images(2))
    assert len(ocisync("rm", file, "out", NAME).expect(0).stdout.splitlines()) == 2
    assert tags(place, NAME) == []


def test_reconcile_tells_what_it_mended(place: Place, tmp_path: Path) -> None:
    file = publish(tmp_path, place, images(1))
    assert "nothing had to be changed" in ocisync("reconcile", file, "out").expect(0).stdout
    clobber(place, f"v2/{NAME}/tags/list")
    done = json.loads(ocisync("reconcile", file, "out", "--json").expect(0).stdout)
    assert done["changed"] == [f"v2/{NAME}/tags/list"]


def test_keep_by_number_and_by_name(place: Place, tmp_path: Path) -> None:
    file = publish(tmp_path, place, images(8), keep={"newest": 2, "tags": ["v[01]"]}, limit=0.4)
    shown = ocisync("keep", file, "out", "--dry-run")
    assert shown.code == 1
    assert "more than the limit of 40%" in shown.stderr
    done = json.loads(ocisync("keep", file, "out", "--limit", "1", "--json").expect(0).stdout)
    left = tags(place, NAME)
    assert done["removed"] == 8 - len(left)
    assert {"v0", "v1"} <= set(left)
    assert 2 <= len(left) <= 4
    assert "no `keep`" in ocisync("keep", write_config(tmp_path / "x", {"out": place.settings}), "out").stderr


def test_verify_tells_and_repairs_from_the_rules_source(place: Place, tmp_path: Path, registry: DockerRegistry) -> None:
    image = make_image("mirrored", layers=2, size=500)
    push(registry.client, NAME, "1.0", image)
    rule = {"source": f"{registry.host}/{NAME}", "target": "out"}
    file = write_config(tmp_path, {"out": place.settings}, sync=[rule])
    ocisync("once", file).expect(0)
    digest = max(image.blobs, key=lambda digest: len(image.blobs[digest]))
    clobber(place, f"v2/{NAME}/blobs/{digest}", b"x" * len(image.blobs[digest]))
    ocisync("verify", file, "out").expect(0)
    found = ocisync("verify", file, "out", "--deep", "--json").expect(1)
    (finding,) = json.loads(found.stdout)["findings"]
    assert (finding["fault"], finding["reference"], finding["tags"]) == ("damaged", digest, ["1.0"])
    assert "repaired  blob" in ocisync("verify", file, f"out/{NAME}", "--deep", "--repair").expect(0).stdout
    assert place.read(f"v2/{NAME}/blobs/{digest}") == image.blobs[digest]
    ocisync("verify", file, "out", "--deep", "--rate", "10MiB").expect(0)


def test_places_that_no_configuration_names(tmp_path: Path, s3: Seaweed) -> None:
    with open_place("directory", tmp_path / "registry", s3) as local, open_place("s3", tmp_path, s3) as bucket:
        assert isinstance(local, Directory)
        assert isinstance(bucket, BucketPlace)
        publish(tmp_path / "a", local, images(1))
        publish(tmp_path / "b", bucket, images(1))
        env = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        url = f"s3://{bucket.bucket.name}{{}}?endpoint={bucket.bucket.endpoint}&region=us-east-1&s3ForcePathStyle=true"
        places = {f"static:{local.path}": f"static:{local.path}//{NAME}", url.format(""): url.format(f"/{NAME}")}
        for root, named in places.items():
            assert NAME in run_ocisync("ls", root, env=env, cwd=tmp_path).expect(0).stdout
            assert "1 tag" in run_ocisync("verify", named, env=env, cwd=tmp_path).expect(0).stdout


@pytest.mark.parametrize("command", ["ls", "verify", "gc", "reconcile", "keep"])
def test_a_place_that_is_not_there_is_no_empty_registry(command: str, tmp_path: Path) -> None:
    more = ("--newest", "1") if command == "keep" else ()
    said = run_ocisync(command, "static:./typo", *more, cwd=tmp_path).expect(1).stderr
    assert "typo: there is no such folder" in said
    assert not (tmp_path / "typo").exists()
    file = write_config(tmp_path, {"out": Directory(tmp_path / "registry").settings})
    said = ocisync(command, file, "out/team/typo", *more).expect(1).stderr
    assert "out: there is no repository team/typo; `ocisync ls out` lists those that are there" in said
    assert "leave out the tag" in ocisync(command, file, f"out/{NAME}:v0", *more).expect(2).stderr


def test_ls_of_a_part_of_a_registry(place: Place, tmp_path: Path) -> None:
    file = publish(tmp_path, place, images(1))
    (view,) = json.loads(ocisync("ls", file, "out/team", "--json").expect(0).stdout)
    assert (view["name"], view["tags"]) == (NAME, 1)


def test_options_that_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    for wrong in (("--plan", "a", "--apply", "b"), ("--dry-run", "--apply", "b")):
        assert "exclude" in run_ocisync("gc", "static:r", *wrong, cwd=tmp_path).expect(2).stderr
    assert "No such file" in run_ocisync("gc", "static:r", "--apply", "b", cwd=tmp_path).expect(2).stderr
    for early in (("--resume",), ("--rate", "1MiB")):
        assert "add --deep" in run_ocisync("verify", "static:r", *early, cwd=tmp_path).expect(2).stderr


def test_a_deep_verification_that_was_killed_is_resumed(tmp_path: Path) -> None:
    """Slowly, so that it is killed in the middle; the next one reads only the rest."""
    place = Directory(tmp_path / "registry")
    found = {f"v{number}": make_image(str(number), layers=1, size=40_000) for number in range(6)}
    file = publish(tmp_path, place, found)
    command = [sys.executable, "-m", "ocisync", "verify", "out", "--deep", "--rate", "40KiB", "-c", str(file)]
    seen = tmp_path / "state/verify/out.jsonl"
    with running(command, tmp_path) as slow:
        slow.wait_until(lambda: seen.exists() and len(seen.read_text().splitlines()) >= 2, "two blobs to be read")
        slow.kill()
    report = json.loads(ocisync("verify", file, "out", "--deep", "--resume", "--json").expect(0).stdout)
    assert (report["skipped"] >= 2, report["skipped"] < report["blobs"] == 12) == (True, True)
    assert not seen.exists()
    again = json.loads(ocisync("verify", file, "out", "--deep", "--resume", "--json").expect(0).stdout)
    assert (again["skipped"], again["blobs"]) == (0, 12)


def test_targets_that_are_none(tmp_path: Path, registry: DockerRegistry) -> None:
    file = write_config(tmp_path, {"inner": {"type": "registry", "url": registry.url}})
    assert "known are inner" in ocisync("ls", file, "outer").expect(2).stderr
    assert "looks after itself" in ocisync("gc", file, "inner").expect(2).stderr
    assert "among the targets" in run_ocisync("ls", "somewhere", cwd=Path("/")).expect(2).stderr


def test_status_tells_what_the_storage_can_do(tmp_path: Path, s3: Seaweed) -> None:
    with open_place("s3", tmp_path, s3) as bucket:
        assert isinstance(bucket, BucketPlace)
        wrong = bucket.settings | {"access_key_id": "nobody"}
        file = write_config(
            tmp_path, {"out": bucket.settings, "local": {"type": "static", "path": str(tmp_path / "r")}}
        )
        found = json.loads(ocisync("status", file, "--targets", "--json").expect(0).stdout)
        assert found["out"]["conditional writes"] == "yes, ETags quoted"
        assert found["out"]["x-amz-checksum-sha256"] == "checked"
        assert found["out"]["x-amz-content-sha256"].startswith("not checked")  # SeaweedFS accepts other bytes
        assert found["out"]["server-side copy"] == "yes"
        assert found["local"]["server-side copy"] == "hard links"
        assert bucket.bucket.keys() == []
        file = write_config(tmp_path / "wrong", {"out": wrong})
        assert "error" in ocisync("status", file, "--targets").expect(1).stdout


def test_the_daemon_looks_after_its_targets(place: Place, tmp_path: Path) -> None:
    upkeep = {"reconcile": "1s", "gc": "1s", "grace": "1s", "limit": 1.0, "keep": {"newest": 1, "every": "1s"}}
    publish(tmp_path, place, images(3))
    file = write_config(tmp_path, {"out": place.settings | upkeep})
    status = json.loads(ocisync("status", file, "--json").expect(0).stdout)
    assert {"reconcile out", "keep out", "gc out"} <= status.keys()
    with daemon(file, env=ENV) as started:
        wait_for(lambda: len(tags(place, NAME)) == 1, "all tags but the newest to go")
        wait_for(lambda: sum("/blobs/" in key for key in place.listing()) == 2, "their blobs to be collected")
        clobber(place, f"v2/{NAME}/tags/list")
        wait_for(lambda: b'"tags"' in (place.read(f"v2/{NAME}/tags/list") or b""), "the list to be mended")
        assert "job.failed" not in started.log, started.log
        if isinstance(place, BucketPlace):
            wait_for(lambda: "target.tried" in started.log, "what the bucket can do to be tried")
            assert "'server-side copy': 'yes'" in started.log
    assert (tmp_path / "state/gc/out.jsonl").exists()
