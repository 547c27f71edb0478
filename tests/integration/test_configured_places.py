"""`static:DIR` and `s3://BUCKET` that a configured target means have its settings; `serve` of what is no registry."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.integration.mainjob import ENV, KINDS, Directory, Kind, Place, open_place, write_config
from tests.servers.client import fetch
from tests.servers.command import run_ocisync, served, started
from tests.servers.images import docker_archive, make_image
from tests.servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, Seaweed

PLAIN = {"order": "newest", "referrers": False, "catalog": False, "page": False}
WRONG_KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}


def _address(place: Place, name: str) -> str:
    if isinstance(place, Directory):
        return f"static:{place.path}//{name}"
    settings = place.settings
    return f"s3://{settings['bucket']}/{name}?endpoint={settings['endpoint']}/&s3ForcePathStyle=true"


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_a_target_means_has_its_settings(kind: Kind, tmp_path: Path, s3: Seaweed) -> None:
    archive = docker_archive(tmp_path / "made", {"app:1": make_image("one")})
    with open_place(kind, tmp_path / "registry", s3) as place:
        file = write_config(tmp_path, {"out": place.settings | PLAIN | {"keep": {"newest": 1}}})
        for tag in ("b", "c", "a"):  # the target's keys are used, too
            run_ocisync("copy", archive, _address(place, f"app:{tag}"), "-c", file, env=ENV | WRONG_KEYS).expect(0)
            time.sleep(1.1)  # a bucket's dates are whole seconds
        assert json.loads(place.read("v2/app/tags/list") or b"{}")["tags"] == ["a", "c", "b"]
        assert not [key for key in place.listing() if "referrers" in key or "_catalog" in key or key == "index.html"]
        kept = run_ocisync("keep", _address(place, "app"), "-c", file, env=ENV | WRONG_KEYS).expect(0)
        assert "2 tags removed" in kept.stdout
        assert json.loads(place.read("v2/app/tags/list") or b"{}")["tags"] == ["a"]


def test_a_folder_is_meant_by_whatever_name(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "made", {"app:1": make_image("one")})
    file = write_config(tmp_path, {"out": {"type": "static", "path": "registry", "catalog": False}})
    (tmp_path / "registry").mkdir()
    (tmp_path / "link").symlink_to("registry")
    for number, path in enumerate(("registry", "./registry/", tmp_path / "registry", "link")):
        run_ocisync("copy", archive, f"static:{path}//app{number}:1", "-c", file, cwd=tmp_path).expect(0)
    assert not (tmp_path / "registry/v2/_catalog").exists()
    run_ocisync("copy", archive, "static:other//app:1", "-c", file, cwd=tmp_path).expect(0)
    assert (tmp_path / "other/v2/_catalog").exists()


def test_another_bucket_or_endpoint_is_another_place(tmp_path: Path, s3: Seaweed) -> None:
    archive = docker_archive(tmp_path / "made", {"app:1": make_image("one")})
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": REGION}
    with open_place("s3", tmp_path, s3) as place, open_place("s3", tmp_path, s3) as other:
        file = write_config(tmp_path, {"out": place.settings | PLAIN})
        run_ocisync("copy", archive, _address(other, "app:1"), "-c", file, env=ENV | keys).expect(0)
        assert "v2/_catalog" in other.listing()
        asked = f"{_address(place, 'app:1')}&profile=nobody"
        told = run_ocisync("copy", archive, asked, "-c", file, env=ENV | keys).expect(1).stderr
        assert "nobody" in told, "the profile that was asked for is used"


def test_copies_and_serve_make_the_page(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "made", {"app:1": make_image("one")})
    run_ocisync("copy", archive, f"static:{tmp_path}/registry//app:1").expect(0)
    page = tmp_path / "registry/index.html"
    assert b'content="ocisync"' in page.read_bytes()
    page.unlink()
    with served(tmp_path / "registry") as url:
        assert b'content="ocisync"' in fetch("GET", f"{url}/").body
        assert fetch("HEAD", f"{url}/index.html").status == 200
    assert not page.exists(), "what is served is only read"
    page.write_text("my own")
    run_ocisync("copy", archive, f"static:{tmp_path}/registry//app:2").expect(0)
    with served(tmp_path / "registry") as url:
        assert fetch("GET", f"{url}/").body == b"my own"


def test_serve_takes_a_target_and_its_settings(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "made", {"app:1": make_image("one")})
    file = write_config(tmp_path, {"out": {"type": "static", "path": "registry", "page": False}})
    run_ocisync("copy", archive, "static:registry//app:1", "-c", file, cwd=tmp_path).expect(0)
    for place in ("out", "registry"):
        with started("serve", place, "-c", file, "--listen", "127.0.0.1:0", cwd=tmp_path) as child:
            child.wait_until(lambda: "registry.served" in child.output, "serve to listen")
            url = next(word.removeprefix("url=") for word in child.output.split() if word.startswith("url="))
            assert fetch("GET", f"{url}app/tags/list").status == 200
            assert fetch("GET", url.removesuffix("v2/")).status == 404


def test_serve_of_what_is_no_registry_says_so_and_ends(tmp_path: Path, s3: Seaweed) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("no registry")
    (tmp_path / "file").write_text("")
    bucket = s3.bucket()
    bucket.put("notes.txt", b"no registry")
    places = [
        "other",
        "nowhere",
        f"s3://{bucket.name}?endpoint={bucket.endpoint}&s3ForcePathStyle=true",
        "static:other",
    ]
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": REGION}
    for place in places:
        told = run_ocisync("serve", place, "--listen", "0", env=os.environ | keys, cwd=tmp_path, timeout=30).expect(1)
        assert "there is no registry" in told.stderr
    assert "a file stands where" in run_ocisync("serve", "file", "--listen", "0", cwd=tmp_path).expect(1).stderr


def test_a_registry_that_is_still_empty_is_served(tmp_path: Path) -> None:
    with served(tmp_path) as url:
        assert fetch("GET", f"{url}/v2/").status == 200
        assert fetch("GET", f"{url}/v2/app/tags/list").status == 404
