"""Signatures, referrers and referrers of referrers go along with their images, as a user has it."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from anyio import to_thread

from ocisync.commands.images.copy import CopyOptions, copy_images
from ocisync.commands.once import plan_rules, run_rules
from ocisync.config.load import load_config
from ocisync.config.models import Config
from ocisync.model.locator import parse_locator
from ocisync.sync.context import Progress
from ocisync.sync.plan import Action
from ocisync.sync.referrers.referrer_set import ReferrerChoice
from ocisync.sync.reports import JobReport, Verdict
from ocisync.wiring.session import open_session
from tests.integration.mainjob import ENV, Place, open_place, readable, write_config
from tests.servers.client import RegistryClient
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.fault_proxy import FaultProxy
from tests.servers.images import (
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    Index,
    make_artifact,
    make_image,
    multi_platform,
    push,
    referrers_list,
)
from tests.servers.seaweed import Seaweed

CONFIG = Config(version=1)
SOURCE, MIRROR = "upstream/app", "mirror/app"
SBOM, SIGNATURE = "application/spdx+json", "application/vnd.example.signature"
APP = multi_platform("app")
PARTS = make_artifact(APP, SBOM, "parts")
ON_PARTS = make_artifact(PARTS, SIGNATURE, "a signature of the parts")
ON_CHILD = make_artifact(APP.children[0], SIGNATURE, "a signature of one platform")
COSIGN = make_image("cosign's signature", layers=1)
COSIGN_TAG = f"{APP.digest.replace(':', '-')}.sig"


def attach(client: RegistryClient, subject: Image | Index, *artifacts: Image, kind: str = SIGNATURE) -> None:
    """Push as clients do to a registry without the API: by digest, then the list under the tag."""
    push(client, SOURCE, subject.digest.replace(":", "-"), referrers_list(*artifacts, kind=kind))


def fill(client: RegistryClient) -> None:
    push(client, SOURCE, "1", APP)
    attach(client, APP, PARTS, kind=SBOM)
    attach(client, PARTS, ON_PARTS)
    attach(client, APP.children[0], ON_CHILD)
    push(client, SOURCE, COSIGN_TAG, COSIGN)


def tags_of(client: RegistryClient, name: str = MIRROR) -> set[str]:
    return set(json.loads(client.expect(200, "GET", f"/v2/{name}/tags/list").body)["tags"])


def listed(client: RegistryClient, path: str) -> dict[str, str]:
    """Digest -> artifact type, of a list of referrers."""
    reply = client.expect(200, "GET", path, headers={"Accept": OCI_INDEX})
    assert reply.headers["content-type"] == OCI_INDEX
    found = {entry["digest"]: entry["artifactType"] for entry in json.loads(reply.body)["manifests"]}
    for digest in found:  # what is listed can be pulled
        client.expect(200, "GET", f"/v2/{MIRROR}/manifests/{digest}", headers={"Accept": OCI_MANIFEST})
    return found


def by_api(client: RegistryClient, subject: Image | Index) -> dict[str, str]:
    return listed(client, f"/v2/{MIRROR}/referrers/{subject.digest}")


def by_tag(client: RegistryClient, subject: Image | Index) -> dict[str, str]:
    return listed(client, f"/v2/{MIRROR}/manifests/{subject.digest.replace(':', '-')}")


ALL = {
    APP.digest: {PARTS.digest: SBOM},
    PARTS.digest: {ON_PARTS.digest: SIGNATURE},
    APP.children[0].digest: {ON_CHILD.digest: SIGNATURE},
}
SUBJECTS: list[Image | Index] = [APP, PARTS, APP.children[0]]


@pytest.fixture
def bucket_place(tmp_path: Path, s3: Seaweed) -> Iterator[Place]:
    with open_place("s3", tmp_path / "unused", s3) as place:
        yield place


def config_for(tmp_path: Path, source: str, *places: Place, **rule: object) -> Path:
    """A rule into every place, and into a registry under `registry`."""
    targets: dict[str, dict[str, object]] = {f"place{n}": dict(place.settings) for n, place in enumerate(places)}
    targets["registry"] = {"type": "registry", "url": f"http://{source}"}
    sync = {
        "source": f"{source}/{SOURCE}",
        "target": [f"{name}/{MIRROR}" for name in targets],
        "tags": {"allow": ["[0-9]+"]},
        **rule,
    }
    return write_config(tmp_path / "config", targets, sync=[sync])


async def once(config: Path) -> JobReport:
    """A pass, without a process of its own; the report of the registry, which comes last."""
    report = await run_rules(await to_thread.run_sync(load_config, config), [], Progress())
    assert report.ok, report
    return report.jobs[-1]


async def verdicts(config: Path) -> list[Verdict]:
    return [tag.verdict for tag in (await once(config)).tags]


def test_everything_arrives_at_a_registry_on_s3_and_in_a_directory_and_is_found_there(
    registry: DockerRegistry, bucket_place: Place, tmp_path: Path, s3: Seaweed
) -> None:
    fill(registry.client)
    with open_place("directory", tmp_path / "static", s3) as directory:
        config = config_for(tmp_path, registry.host, bucket_place, directory, referrers=True, digest_tags=True)
        run_ocisync("once", "--config", config, env=ENV, timeout=300).expect()
        assert {digest: by_tag(registry.client, one) for digest, one in zip(ALL, SUBJECTS, strict=True)} == ALL
        lists = {one.digest.replace(":", "-") for one in SUBJECTS}
        assert tags_of(registry.client) == {"1", COSIGN_TAG} | lists
        for place in (bucket_place, directory):
            with readable(place) as host:
                client = RegistryClient(f"http://{host}")
                assert {digest: by_api(client, one) for digest, one in zip(ALL, SUBJECTS, strict=True)} == ALL
                assert {digest: by_tag(client, one) for digest, one in zip(ALL, SUBJECTS, strict=True)} == ALL
                assert tags_of(client) == {"1", COSIGN_TAG} | lists
                assert by_api(client, ON_PARTS) == {}
                signature = client.expect(200, "GET", f"/v2/{MIRROR}/manifests/{COSIGN_TAG}")
                assert signature.body == COSIGN.manifest


async def test_a_new_referrer_of_an_unchanged_image_arrives_with_the_next_pass(
    registry: DockerRegistry, bucket_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET", ENV["S3_SECRET"])
    await to_thread.run_sync(fill, registry.client)
    config = config_for(tmp_path, registry.host, bucket_place, referrers=True, digest_tags=True)
    assert await verdicts(config) == [Verdict.COPIED]
    assert await verdicts(config) == [Verdict.UNCHANGED]
    more = make_artifact(ON_PARTS, SIGNATURE, "a signature of the signature of the parts")
    moved = make_image("two signatures", layers=2)
    await to_thread.run_sync(attach, registry.client, ON_PARTS, more)
    await to_thread.run_sync(push, registry.client, SOURCE, COSIGN_TAG, moved)
    plan = await plan_rules(await to_thread.run_sync(load_config, config), [])
    assert {one.planned.action for one in plan.tags} == {Action.REFER}
    told = "unchanged; what refers to it now is not known to be here: 3 referrers and 1 digest tag"
    assert {one.planned.reason for one in plan.tags} == {told}
    assert await verdicts(config) == [Verdict.COPIED]
    assert by_tag(registry.client, ON_PARTS) == {more.digest: SIGNATURE}
    with readable(bucket_place) as host:
        client = RegistryClient(f"http://{host}")
        assert by_api(client, ON_PARTS) == {more.digest: SIGNATURE}
        assert client.expect(200, "GET", f"/v2/{MIRROR}/manifests/{COSIGN_TAG}").body == moved.manifest
    assert await verdicts(config) == [Verdict.UNCHANGED]


async def test_an_unchanged_pass_asks_once_per_image_and_referrer_and_nothing_when_it_is_off(
    registry: DockerRegistry, registry_proxy: FaultProxy, tmp_path: Path
) -> None:
    await to_thread.run_sync(fill, registry.client)
    config = config_for(tmp_path / "on", registry_proxy.host, referrers=True, digest_tags=True)
    off = config_for(tmp_path / "off", registry_proxy.host)

    async def asked(which: Path) -> list[tuple[str, str]]:
        registry_proxy.requests.clear()
        assert await verdicts(which) == [Verdict.UNCHANGED]
        found = [(one.method, one.path.partition("?")[0]) for one in registry_proxy.requests]
        return sorted((method, path) for method, path in found if SOURCE in path)

    await once(config)
    await once(off)
    plain = [("GET", f"/v2/{SOURCE}/tags/list"), ("HEAD", f"/v2/{SOURCE}/manifests/1")]
    assert await asked(off) == plain
    lists = [f"/v2/{SOURCE}/manifests/{one.digest.replace(':', '-')}" for one in (APP, PARTS)]
    api = f"/v2/{SOURCE}/referrers/{APP.digest}"  # asked once, for this registry has none
    read = [("GET", path) for path in lists]  # without a HEAD: the list of tags has them
    more = [("GET", api), *read, ("HEAD", f"/v2/{SOURCE}/manifests/{COSIGN_TAG}")]
    assert await asked(config) == sorted(plain + more)


async def test_only_the_artifact_types_that_are_wanted(registry: DockerRegistry, tmp_path: Path, s3: Seaweed) -> None:
    await to_thread.run_sync(fill, registry.client)
    with open_place("directory", tmp_path / "static", s3) as place:
        await once(config_for(tmp_path, registry.host, place, referrers={"types": [SBOM]}))
        await to_thread.run_sync(check_parts_only, registry, place)


def check_parts_only(registry: DockerRegistry, place: Place) -> None:
    assert by_tag(registry.client, APP) == {PARTS.digest: SBOM}
    assert tags_of(registry.client) == {"1", APP.digest.replace(":", "-")}
    with readable(place) as host:
        client = RegistryClient(f"http://{host}")
        assert by_api(client, APP) == {PARTS.digest: SBOM}
        assert by_api(client, PARTS) == {}
        assert tags_of(client) == {"1"}


async def test_from_a_static_registry_and_a_layout_and_back_to_a_registry(
    registry: DockerRegistry, tmp_path: Path
) -> None:
    await to_thread.run_sync(fill, registry.client)
    static, layout = f"static:{tmp_path}/static//{MIRROR}:1", f"oci:{tmp_path}/layout:1"
    steps = (f"docker://{registry.host}/{SOURCE}:1", static, layout, f"docker://{registry.host}/{MIRROR}:1")
    async with open_session(CONFIG, scratch=tmp_path) as session:
        for origin, destination in pairwise(steps):
            places = [parse_locator(origin)], parse_locator(destination)
            (copied,) = await copy_images(session, *places, CopyOptions(ReferrerChoice(True, (), True)))
            assert copied.report.ok, copied.report
    assert {digest: by_tag(registry.client, one) for digest, one in zip(ALL, SUBJECTS, strict=True)} == ALL
    assert COSIGN_TAG in tags_of(registry.client)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--artifact-type", "x", "docker://a/b", "static:x//b"], "--artifact-type goes with --referrers"),
        (["--referrers", "--format", "oci", "docker://a/b", "static:x//b"], "nothing that refers to an image fits"),
        (["--digest-tags", "docker://a/b", "docker-archive:x.tar"], "write an oci-archive"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: list[str], told: str) -> None:
    assert told in run_ocisync("copy", *options).expect(2).stderr
