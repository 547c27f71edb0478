"""`once --recheck`: what was lost at a target comes back, whatever is on record."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ocisync.drop.poll import forget_settled
from tests.integration.mainjob import Kind, Place, open_place, tags, walk, walk_all, write_config
from tests.integration.test_drop import _room, _verdicts
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import docker_archive, make_image, push
from tests.servers.seaweed import SECRET_KEY, Seaweed

KINDS: tuple[Kind, ...] = ("directory", "s3")


def once(file: Path, *arguments: str) -> str:
    done = run_ocisync("once", "-c", file, *arguments, env={"S3_SECRET": SECRET_KEY}).expect(0)
    return done.stdout


def lose(place: Place) -> None:
    for key in place.listing():
        place.remove(key)


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_in_a_drop_folder_comes_back_to_a_target_that_was_lost(
    tmp_path: Path, kind: Kind, s3: Seaweed
) -> None:
    with open_place(kind, tmp_path / "registry", s3) as place:
        drop = tmp_path / "drop"
        (drop / "app" / "1").mkdir(parents=True)
        docker_archive(drop / "app" / "2.tar", make_image("single"))
        for arch in ("amd64", "arm64"):
            docker_archive(drop / "app" / "1" / f"linux.{arch}.tar", make_image(arch, platform=("linux", arch, "")))
        rule = {"name": "builds", "path": str(drop), "target": "out", "stable": "0s", "settle": "0s"}
        file = write_config(tmp_path, {"out": place.settings}, drop=[rule])
        once(file)
        published = walk_all(place, "app")
        assert published.keys() == {"1", "2"}
        lose(place)
        once(file)
        assert tags(place, "app") == []
        once(file, "--recheck", "builds")
        assert walk_all(place, "app") == published
        assert once(file).startswith("0 tags:")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mirrored_image_gets_a_lost_blob_back_before_its_time(
    tmp_path: Path, kind: Kind, s3: Seaweed, registry: DockerRegistry
) -> None:
    image = make_image("app")
    for tag in ("1", "2", "3", "4"):
        push(registry.client, "app", tag, image)
    with open_place(kind, tmp_path / "registry", s3) as place:
        rule = {"name": "app", "source": f"{registry.host}/app", "target": "out"}
        file = write_config(tmp_path, {"out": place.settings}, sync=[rule])
        once(file)
        layer = next(key for key in place.listing() if "/blobs/" in key)
        place.remove(layer)
        once(file)
        assert place.read(layer) is None
        once(file, "--recheck")
        assert layer.rpartition("/")[2] in walk(place, "app", "4")


@pytest.mark.anyio
async def test_a_set_of_which_a_file_was_taken_away_stays_as_it_was_published(tmp_path: Path) -> None:
    async with _room(tmp_path) as room:
        room.put("app/1/linux.amd64.tar")
        room.put("app/1/linux.arm64.tar", "other bytes")
        room.put("tool/2.tar")
        await room.once()
        (room.rule.path / "app/1/linux.arm64.tar").unlink()
        await forget_settled(room.rule, room.state.inputs)
        assert _verdicts(await room.once()) == {"tool/2.tar": "published"}


def test_a_drop_folder_that_cannot_be_read_fails_alone(tmp_path: Path) -> None:
    drop, out = tmp_path / "drop", tmp_path / "registry"
    (drop / "app").mkdir(parents=True)
    docker_archive(drop / "app" / "1.tar", make_image("one"))
    (tmp_path / "file").write_text("no folder")
    rules = [
        {"name": "builds", "path": str(drop), "target": "out", "stable": "0s"},
        {"name": "broken", "path": str(tmp_path / "file"), "target": "out"},
    ]
    file = write_config(tmp_path, {"out": {"type": "static", "path": str(out)}}, drop=rules)
    for _ in range(2):
        shutil.rmtree(out, ignore_errors=True)
        done = run_ocisync("once", "--recheck", "-c", file).expect(1)
        assert (out / "v2/app/manifests/1").is_file()
        assert "broken" in done.stderr
        assert "Traceback" not in done.stderr
