"""Images converted between docker's and OCI's media types, as skopeo and a real registry see them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import gettempdir

import anyio
import pytest

from ocisync.commands.images.copy import copy_to
from ocisync.config.models import Config
from ocisync.model.locator import ViewLocator, parse_locator
from ocisync.model.media_type_families import Format
from ocisync.model.platform import parse_platform
from ocisync.sync.reports import JobReport
from ocisync.wiring.session import Session, open_session
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import (
    Image,
    Index,
    describe,
    digest_of,
    docker_archive,
    layout_files,
    make_image,
    make_index,
    multi_platform,
    push,
)
from tests.servers.skopeo import inspect_raw, pull

pytestmark = pytest.mark.anyio

CONFIG = Config(version=1)
OCI_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json")


@asynccontextmanager
async def session() -> AsyncIterator[Session]:
    async with open_session(CONFIG, scratch=Path(gettempdir())) as opened:
        yield opened


async def converted(
    source: str, place: str, wanted: Format | None, *, drop: bool = False, platform: str = ""
) -> JobReport:
    view = ViewLocator(parse_locator(source), parse_platform(platform) if platform else None, wanted, drop)
    async with session() as opened:
        return await copy_to(opened, view, parse_locator(place))


def blob_set(image: Image | Index) -> set[str]:
    children = image.children if isinstance(image, Index) else (image,)
    return {digest[7:] for child in children for digest in child.blobs}


@pytest.mark.parametrize("docker", [True, False])
async def test_an_index_is_converted_and_skopeo_pulls_it(
    registry: DockerRegistry, tmp_path: Path, docker: bool
) -> None:
    platforms = (("linux", "amd64", ""), ("linux", "arm64", "v8"))
    made = make_index((make_image(one[1], platform=one, docker=docker) for one in platforms), docker=docker)
    push(registry.client, "a/app", "1", made)
    wanted: Format = "oci" if docker else "docker"
    report = await converted(f"docker://{registry.host}/a/app:1", f"docker://{registry.host}/b/app:1", wanted)
    assert report.ok, report
    raw = await anyio.to_thread.run_sync(inspect_raw, f"{registry.host}/b/app:1")
    document = json.loads(raw)
    assert digest_of(raw) == report.tags[0].digest != made.digest
    assert (document["mediaType"] == OCI_TYPES[0]) is docker
    assert {(child["mediaType"] == OCI_TYPES[1]) for child in document["manifests"]} == {docker}
    assert [child["platform"]["architecture"] for child in document["manifests"]] == ["amd64", "arm64"]
    files = await anyio.to_thread.run_sync(pull, f"{registry.host}/b/app:1", tmp_path / "pulled")
    assert blob_set(made) <= set(files)
    back = await converted(
        f"docker://{registry.host}/b/app:1",
        f"docker://{registry.host}/c/app:1",
        "oci" if wanted == "docker" else "docker",
    )
    assert back.tags[0].digest == made.digest


async def test_what_is_of_that_format_already_keeps_its_digest(registry: DockerRegistry) -> None:
    made = multi_platform()
    push(registry.client, "a/app", "1", made)
    report = await converted(f"docker://{registry.host}/a/app:1", f"docker://{registry.host}/b/app:1", "oci")
    assert report.tags[0].digest == made.digest


async def test_a_docker_archive_gets_the_format_that_is_asked_for(tmp_path: Path) -> None:
    docker_archive(tmp_path / "a.tar", make_image())
    expected: dict[Format, str] = {
        "oci": OCI_TYPES[1],
        "docker": "application/vnd.docker.distribution.manifest.v2+json",
    }
    for wanted, kind in expected.items():
        report = await converted(f"docker-archive:{tmp_path}/a.tar", f"static:{tmp_path}/s//{wanted}:1", wanted)
        assert report.ok, report
        assert json.loads((tmp_path / f"s/v2/{wanted}/manifests/1").read_bytes())["mediaType"] == kind


def signed(registry: DockerRegistry, image: Image, how: str) -> str:
    """Put something beside an image that holds for its digest only; what the message names."""
    if how == "fallback":
        list_of = make_index([make_image("a signature")])
        push(registry.client, "a/app", image.digest.replace(":", "-"), list_of)
        return f"{list_of.children[0].digest} refers to it"
    push(registry.client, "a/app", f"{image.digest.replace(':', '-')}.{how}", make_image(f"a {how}"))
    return f".{how} belongs to it"


@pytest.mark.parametrize("how", ["sig", "att", "fallback"])
async def test_a_signed_image_is_converted_only_when_its_signatures_are_dropped(
    registry: DockerRegistry, how: str
) -> None:
    made = make_image()
    push(registry.client, "a/app", "1", made)
    told = signed(registry, made, how)
    source, place = f"docker://{registry.host}/a/app:1", f"docker://{registry.host}/b/app:1"
    refused = await converted(source, place, "docker")
    assert refused.failed[0].failure
    assert refused.failed[0].failure.code == "image.signed"
    assert told in refused.failed[0].failure.message
    assert "--drop-signatures" in refused.failed[0].failure.message
    assert (await converted(source, place, "docker", drop=True)).ok
    unchanged = await converted(source, f"docker://{registry.host}/c/app:1", "oci")
    assert unchanged.tags[0].digest == made.digest


async def test_attestations_and_referrers_count_as_signatures(tmp_path: Path) -> None:
    image = make_image()
    subject = {"subject": describe(image.media_type, image.manifest), "artifactType": "application/x-signature"}
    document = json.loads(make_image("signature").manifest) | subject
    files = layout_files({"1": image})
    raw = json.dumps(document).encode()
    index = json.loads(files["index.json"])
    index["manifests"].append(describe(image.media_type, raw))
    files |= {"index.json": json.dumps(index).encode(), f"blobs/{digest_of(raw).replace(':', '/')}": raw}
    write(tmp_path / "referrer", files)
    attestation = make_image("statement", platform=("unknown", "unknown", ""))
    both = make_index([image, attestation])
    write(tmp_path / "attested", layout_files({"1": both}))
    for name, told in (("referrer", "refers to it"), ("attested", "attestations")):
        refused = await converted(f"oci:{tmp_path}/{name}:1", f"static:{tmp_path}/s//{name}:1", "docker")
        assert refused.failed[0].failure
        assert told in refused.failed[0].failure.message
        done = await converted(f"oci:{tmp_path}/{name}:1", f"static:{tmp_path}/s//{name}:1", "docker", drop=True)
        assert done.ok, done
    listed = json.loads((tmp_path / "s/v2/attested/manifests/1").read_bytes())
    assert [child["platform"]["os"] for child in listed["manifests"]] == ["linux"]


async def test_schema_1_is_refused_clearly(tmp_path: Path) -> None:
    old = json.dumps({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": []}).encode()
    entry = describe("application/vnd.docker.distribution.manifest.v1+prettyjws", old)
    named = entry | {"annotations": {"org.opencontainers.image.ref.name": "1"}}
    index = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
    layout = b'{"imageLayoutVersion":"1.0.0"}'
    write(tmp_path / "l", {"index.json": index, "oci-layout": layout, f"blobs/{digest_of(old).replace(':', '/')}": old})
    report = await converted(f"oci:{tmp_path}/l:1", f"static:{tmp_path}/s//a:1", "oci")
    assert report.failed[0].failure
    assert report.failed[0].failure.code == "manifest.unsupported"
    assert "schema 1" in report.failed[0].failure.message


async def test_one_platform_is_chosen_with_its_own_digest(tmp_path: Path) -> None:
    made = multi_platform()
    write(tmp_path / "l", layout_files({"1": made}))
    report = await converted(f"oci:{tmp_path}/l:1", f"static:{tmp_path}/s//a:1", None, platform="linux/arm64")
    assert report.tags[0].digest == made.children[1].digest
    missing = await converted(f"oci:{tmp_path}/l:1", f"static:{tmp_path}/s//a:1", None, platform="linux/s390x")
    assert missing.failed[0].failure
    assert missing.failed[0].failure.code == "platform.missing"
    docker_archive(tmp_path / "a.tar", make_image())
    for wanted, code in (("linux/amd64", None), ("linux/arm64", "platform.missing")):
        single = await converted(f"docker-archive:{tmp_path}/a.tar", f"static:{tmp_path}/s//b:1", None, platform=wanted)
        failure = single.failed[0].failure if single.failed else None
        assert (failure.code if failure else None) == code


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize("others", ["arm64", "s390x", "s390x,riscv64"])
def test_of_several_platforms_that_are_asked_for_none_may_be_missing(
    tmp_path: Path, others: str, dry: tuple[str, ...]
) -> None:
    """One that is absent is an error as it is alone: of an index, of an image, and of an archive of one."""
    made = multi_platform()
    write(tmp_path / "l", layout_files({"1": made, "single": made.children[0]}))
    docker_archive(tmp_path / "a.tar", make_image())
    wanted = [part for one in ("amd64", *others.split(",")) for part in ("--platform", f"linux/{one}")]
    names = ", ".join(f"linux/{one}" for one in others.split(","))
    said = {
        f"oci:{tmp_path}/l:1": f"no image for {names}; the index offers linux/amd64, linux/arm64",
        f"oci:{tmp_path}/l:single": f"no image for {names}; the image is for linux/amd64",
        f"docker-archive:{tmp_path}/a.tar": "one platform's image under each name: ask for one platform",
    }
    if others == "arm64":
        run_ocisync("copy", *dry, *wanted, f"oci:{tmp_path}/l:1", f"static:{tmp_path}/s//a:1").expect(0)
        del said[f"oci:{tmp_path}/l:1"]
    for source, message in said.items():
        done = run_ocisync("copy", *dry, *wanted, source, f"static:{tmp_path}/none//a:1").expect(1)
        assert message in done.stderr + done.stdout
        assert "[platform.missing]" in done.stderr + done.stdout


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
