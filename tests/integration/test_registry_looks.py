"""What a target that answers oddly to looks costs: it converges, and nothing is lost."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.integration.mainjob import ENV, write_config
from tests.servers import images
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.simulated import Reply, Simulated, error
from tests.servers.simulated_kinds import Nexus, simulated

MANY = ["1.0", "1.1", "1.2", "1.3", "1.4"]


class Open(Simulated):
    """Wants no login; names the first missing part only."""

    def refuse(self, request: web.Request, name: str) -> web.Response | None:
        return None


class OpenNexus(Nexus, Open):
    """Nexus, open to all."""


class NoName(Open):
    """Names no part at all."""

    async def manifest(self, request: web.Request, name: str, reference: str) -> Reply:
        reply = await super().manifest(request, name, reference)
        return error(400, "MANIFEST_BLOB_UNKNOWN") if reply.status == 400 else reply


class NameAlone(Open):
    """Has another code, and names the part."""

    async def manifest(self, request: web.Request, name: str, reference: str) -> Reply:
        reply = await super().manifest(request, name, reference)
        if reply.status != 400 or not isinstance(reply, web.Response):
            return reply
        missing = (reply.text or "").partition("sha256:")[2][:64]
        return error(404, "BLOB_UNKNOWN", f"sha256:{missing} was not found")


class TakesAll(Open):
    """Stores whatever comes, and says 202."""

    stored = 202

    async def manifest(self, request: web.Request, name: str, reference: str) -> Reply:
        if request.method == "PUT":
            self.put(name, reference, request.headers["Content-Type"], await request.read())
            return web.Response(status=self.stored)
        return await super().manifest(request, name, reference)


class InvalidToAll(Open):
    """Refuses the trial for a reason that tells nothing."""

    async def manifest(self, request: web.Request, name: str, reference: str) -> Reply:
        reply = await super().manifest(request, name, reference)
        return error(400, "MANIFEST_INVALID", "no") if reply.status == 400 else reply


@pytest.fixture
def nexus() -> Iterator[Simulated]:
    with simulated("", OpenNexus) as running:
        yield running


def asked(target: Simulated, before: int = 0) -> Counter[str]:
    """How often what was asked for."""
    kinds = ("manifests", "uploads", "blobs", "tags", "referrers")
    return Counter(
        f"{one.method} {next((kind for kind in kinds if f'/{kind}/' in one.path), one.path)}"
        for one in target.asked[before:]
    )


def mirror(folder: Path, source: DockerRegistry, target: Simulated, tags: list[str], **more: object) -> Path:
    """A rule's configuration."""
    rule = {"source": f"{source.host}/app", "target": "t", "tags": {"allow": tags}, **more}
    return write_config(folder, {"t": {"type": "registry", "url": target.url}}, sync=[rule])


@pytest.mark.parametrize("tags", [MANY[:1], MANY], ids=["few", "many"])
def test_a_target_that_answers_no_head_gets_its_tags_once(
    registry: DockerRegistry, nexus: Simulated, tmp_path: Path, tags: list[str]
) -> None:
    for tag in tags:
        images.push(registry.client, "app", tag, images.make_image(tag))
    file = mirror(tmp_path, registry, nexus, tags)
    run_ocisync("once", "-c", file, env=ENV).expect(0)
    before = len(nexus.asked)
    run_ocisync("once", "-c", file, env=ENV).expect(0)
    second = asked(nexus, before)
    assert not [kind for kind in second if not kind.startswith(("GET", "HEAD"))]
    assert second["GET manifests"] <= 1  # asked for by GET only where it is on record, and HEAD says otherwise


def test_without_a_ledger_listed_tags_are_believed_to_be_there(
    registry: DockerRegistry, nexus: Simulated, tmp_path: Path
) -> None:
    for tag in MANY:
        images.push(registry.client, "app", tag, images.make_image(tag))
    for folder in ("first", "second"):
        before = len(nexus.asked)
        run_ocisync("once", "-c", mirror(tmp_path / folder, registry, nexus, MANY), env=ENV).expect(0)
    assert not [one for one in nexus.asked[before:] if one.method == "PUT" and one.status == 201]


@pytest.mark.parametrize("more", [{"overwrite": "never"}, {"backup": "{tag}-old"}], ids=["never", "backup"])
def test_what_a_head_does_not_show_is_not_lost(
    registry: DockerRegistry, nexus: Simulated, tmp_path: Path, more: dict[str, str]
) -> None:
    images.push(registry.client, "app", "1.0", images.make_image("new"))
    old = images.make_image("old")
    nexus.put("app", "1.0", old.media_type, old.manifest)
    nexus.blobs |= old.blobs
    run_ocisync("once", "-c", mirror(tmp_path, registry, nexus, ["1.0"], **more), env=ENV).expect(0)
    kept = "1.0" if "overwrite" in more else "1.0-old"
    assert nexus.manifests["app", kept][1] == old.manifest


@pytest.mark.parametrize("kind", [Open, NoName, NameAlone])
def test_an_unchanged_copy_costs_three_requests_however_a_refusal_names_what_is_missing(
    registry: DockerRegistry, kind: Callable[[], Simulated]
) -> None:
    images.push(registry.client, "app", "1.0", images.make_image("one", layers=3))
    with simulated("", kind) as target:
        for _ in range(2):
            before, read = len(target.asked), len(registry.requests())
            run_ocisync("copy", f"docker://{registry.host}/app:1.0", f"docker://{target.host}/app:1.0").expect(0)
        assert asked(target, before) == {"HEAD manifests": 1, "PUT manifests": 1}
    assert len(registry.requests()) - read == 1


@pytest.mark.parametrize("kind", [TakesAll, InvalidToAll])
def test_where_a_manifest_proves_nothing_its_blobs_are_looked_at(
    registry: DockerRegistry, kind: Callable[[], Simulated]
) -> None:
    made = images.make_image("one", layers=3)
    images.push(registry.client, "app", "1.0", made)
    with simulated("", kind) as target:
        copied = ["copy", f"docker://{registry.host}/app:1.0", f"docker://{target.host}/app:1.0"]
        run_ocisync(*copied).expect(0)
        del target.blobs[list(made.blobs)[1]]
        run_ocisync(*copied).expect(0)
        assert made.blobs.items() <= target.blobs.items()
        assert len([key for key in target.manifests if key[0] == "app"]) <= 2, "the trial was removed"
