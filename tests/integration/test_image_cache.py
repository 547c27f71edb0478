"""`--cache DIR` of copy, inspect and unpack: what the layout holds is not asked for again."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.mainjob import Directory, walk
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.images import Index, multi_platform, push

AWAY = "127.0.0.1:1"  # where nobody listens


def _publish(registry: DockerRegistry) -> Index:
    made = multi_platform("app")
    push(registry.client, "app", "v1", made)
    return made


def test_a_digest_that_is_there_whole_is_copied_shown_and_unpacked_without_the_registry(tmp_path: Path) -> None:
    cache = ("--cache", tmp_path / "cache")
    with docker_registry(tmp_path / "docker") as registry:
        made = _publish(registry)
        asked = len(registry.requests())
        run_ocisync("copy", f"docker://{registry.host}/app:v1", f"static:{tmp_path}/one//app:1", *cache).expect(0)
        first = len(registry.requests()) - asked
        run_ocisync("copy", f"docker://{registry.host}/app:v1", f"static:{tmp_path}/two//app:1", *cache).expect(0)
        again = len(registry.requests()) - asked - first
        assert (first > 5, again) == (True, 1), "a tag costs the question which digest it has"
        run_ocisync("copy", f"docker://{registry.host}/app@{made.digest}", f"oci:{tmp_path}/oci", *cache).expect(0)
        assert len(registry.requests()) - asked - first == 1, "a digest costs nothing"
    away = f"docker://{AWAY}/app@{made.digest}"
    done = run_ocisync("copy", away, f"static:{tmp_path}/three//app:1", *cache).expect(0)
    assert f"static:{tmp_path}/three//app:1\n{made.digest}" in done.stdout
    kept = [walk(Directory(tmp_path / name), "app", "1") for name in ("one", "two", "three")]
    assert kept[0] == kept[1] == kept[2]
    shown = json.loads(run_ocisync("inspect", "--json", away, *cache).expect(0).stdout)
    assert shown["digest"] == made.digest
    assert run_ocisync("inspect", "--raw", away, *cache).expect(0).stdout.encode() == made.manifest
    run_ocisync("inspect", "--format", "{{.Digest}}", away, *cache).expect(0)
    arm = f"{AWAY}/app@{made.digest}"
    run_ocisync("unpack", f"docker://{arm}", tmp_path / "root", "--platform", "linux/arm64", *cache).expect(0)
    run_ocisync(
        "copy", f"docker://{arm}", f"docker-archive:{tmp_path}/a.tar", "--platform", "linux/arm64", *cache
    ).expect()


def test_of_one_platform_the_index_and_its_image_are_kept(tmp_path: Path, registry: DockerRegistry) -> None:
    made, cache = _publish(registry), ("--cache", tmp_path / "cache", "--platform", "linux/arm64")
    run_ocisync("copy", f"docker://{registry.host}/app:v1", f"oci:{tmp_path}/one", *cache).expect(0)
    away = f"docker://{AWAY}/app@{made.digest}"
    run_ocisync("copy", away, f"oci:{tmp_path}/two", *cache).expect(0)
    told = run_ocisync("copy", away, f"oci:{tmp_path}/three", "--cache", tmp_path / "cache").expect(1).stderr
    assert "[net.unreachable]" in told, "the others were never read"


def test_what_went_bad_in_the_cache_is_read_again(tmp_path: Path, registry: DockerRegistry) -> None:
    made, cache = _publish(registry), ("--cache", tmp_path / "cache")
    there = f"docker://{registry.host}/app@{made.digest}"
    run_ocisync("copy", there, f"static:{tmp_path}/one//app:1", *cache).expect(0)
    for path in (tmp_path / "cache/blobs/sha256").iterdir():
        path.write_bytes(path.read_bytes()[::-1])
    run_ocisync("copy", there, f"static:{tmp_path}/two//app:1", *cache).expect(0)
    assert walk(Directory(tmp_path / "one"), "app", "1") == walk(Directory(tmp_path / "two"), "app", "1")


def test_what_does_not_go_with_a_cache_is_refused(tmp_path: Path) -> None:
    for option in ("--all", "--referrers", "--digest-tags"):
        told = run_ocisync("copy", "docker://127.0.0.1:1/a", f"oci:{tmp_path}/b", "--cache", tmp_path, option)
        assert "--cache is for single images" in told.expect(2).stderr
