"""The recipes of deploy/serving, as they stand: ordinary clients pull through them, and the doctor finds nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ocisync.cli import run_async
from ocisync.commands.doctor import diagnose
from ocisync.doctor.remedies import bucket_policy
from ocisync.serve.app import registry_app
from ocisync.stores.directory.store import DirectoryStore
from tests.servers.caddy import INSTALLED, caddy
from tests.servers.client import fetch
from tests.servers.command import run_ocisync
from tests.servers.images import multi_platform, oci_archive
from tests.servers.loop import serve_app
from tests.servers.nginx import nginx_of
from tests.servers.process import free_port
from tests.servers.seaweed import Bucket, Seaweed
from tests.servers.skopeo import list_tags, pull

RECIPES = Path(__file__).parents[2] / "deploy" / "serving"
NAME = "team/app"
TAGS = ("1.0", "latest")
INDEX = multi_platform("serving", size=300_000)
FRONTS = ["nginx", pytest.param("caddy", marks=pytest.mark.skipif(not INSTALLED, reason="caddy is not installed"))]


@contextmanager
def front(kind: str, recipe: str, folder: Path, facts: dict[str, str]) -> Iterator[str]:
    """A recipe with the facts of this test in place of its examples."""
    text = (RECIPES / (f"nginx-{recipe}.conf" if kind == "nginx" else f"{recipe}.Caddyfile")).read_text()
    for example, here in facts.items():
        assert example in text
        text = text.replace(example, here)
    if kind == "caddy":
        with caddy(folder, text) as url:
            yield url
    else:
        port = free_port()
        with nginx_of(folder, text.replace("listen 80;", f"listen 127.0.0.1:{port};"), port) as url:
            yield url


def publish(place: str, folder: Path, env: dict[str, str] | None = None) -> None:
    archive = oci_archive(folder / "image.tar", INDEX)
    for tag in TAGS:
        run_ocisync("copy", f"oci-archive:{archive}", place.format(tag=tag), env=env).expect(0)


def check(url: str, folder: Path) -> None:
    """Pulling, listing, what is absent, headers, and the doctor."""
    host = urlsplit(url).netloc
    pulled = pull(f"{host}/{NAME}:latest", folder / "pulled")
    assert json.loads(pulled["manifest.json"]) == json.loads(INDEX.manifest)
    assert {blob for child in INDEX.children for blob in child.blobs.values()} <= set(pulled.values())
    assert list_tags(f"{host}/{NAME}") == sorted(TAGS)
    found = run_async(diagnose, f"{url}/{NAME}:1.0")
    assert not [one.cause.code for one in found.findings if one.cause.code != "catalog.missing"], found.findings
    assert fetch("PUT", f"{url}/v2/{NAME}/manifests/1.0", b"{}").status in (403, 405)


@pytest.mark.parametrize("kind", FRONTS)
def test_over_a_directory(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "registry"
    publish(f"static:{root}//{NAME}:{{tag}}", tmp_path)
    with serve_app(registry_app(DirectoryStore(root))) as behind:
        facts = {"127.0.0.1:5000": urlsplit(behind).netloc, "/srv/registry": str(root)}
        with front(kind, "directory", tmp_path / "front", facts) as url:
            check(url, tmp_path)


@pytest.mark.parametrize("kind", FRONTS)
def test_in_front_of_seaweedfs(kind: str, s3: Seaweed, bucket: Bucket, tmp_path: Path) -> None:
    query = f"endpoint={s3.endpoint}&s3ForcePathStyle=true&region=us-east-1"
    publish(f"s3://{bucket.name}/{NAME}:{{tag}}?{query}", tmp_path, s3.env)
    slash = "/registry/;" if kind == "nginx" else "/registry{"
    facts = {"127.0.0.1:8333": urlsplit(s3.endpoint).netloc, slash: slash.replace("registry", bucket.name)}
    with front(kind, "s3", tmp_path / "front", facts) as url:
        check(url, tmp_path)


@pytest.mark.parametrize("named", [True, False])
def test_a_bucket_in_path_style_is_recognised(named: bool, s3: Seaweed, bucket: Bucket, tmp_path: Path) -> None:
    query = f"endpoint={s3.endpoint}&s3ForcePathStyle=true&region=us-east-1"
    publish(f"s3://{bucket.name}/{NAME}:{{tag}}?{query}", tmp_path, s3.env)
    place = f"{s3.endpoint}/{bucket.name}/{NAME}:1.0" if named else f"{s3.endpoint}/{NAME}:1.0"
    assert [one.cause.code for one in run_async(diagnose, place).failing()] == ["root.below_path"]


def test_the_bucket_policy_is_the_doctors() -> None:
    assert (RECIPES / "bucket-policy.json").read_text().strip() == bucket_policy("BUCKET")


def test_every_recipe_is_named_in_the_readme_with_whether_it_was_tried() -> None:
    readme = (RECIPES / "README.md").read_text()
    for path in RECIPES.iterdir():
        assert path.name == "README.md" or f"({path.name})" in readme
    assert re.search(r"untried", readme)
