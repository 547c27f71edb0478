"""How hosts are reached and told apart: entries for a path, https written out, TLS on loopback, new places at ECR."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from ocisync.content.openers import BytesOpener
from ocisync.errors import AuthError, NetworkError, NotFound
from ocisync.model.descriptor import Descriptor
from ocisync.stores.registry.client import open_registries
from ocisync.stores.registry.options import EcrOptions
from tests.integration.registries import NAME, QUICK, blob_desc, repository_at
from tests.servers import faults, images
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.ecr import ACCESS_KEY, EcrApi, ecr_api
from tests.servers.fault_proxy import FaultProxy
from tests.servers.loop import serve_app
from tests.servers.tls import Certificate

IMAGE = images.make_image()


@pytest.fixture
def basic(tmp_path: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "basic", basic=True) as registry:
        images.push(registry.client, NAME, "1", IMAGE)
        images.push(registry.client, "some/other", "2", IMAGE)
        yield registry


async def test_an_entry_for_a_path_holds_for_what_lies_below_it_and_no_more(basic: DockerRegistry) -> None:
    login = replace(QUICK, username=USERNAME, password=PASSWORD)
    async with open_registries({basic.host: QUICK, f"{basic.host}/some/image": login}) as client:
        assert await client.source(basic.host, NAME).tags() == ["1"]
        with pytest.raises(AuthError):
            await client.source(basic.host, "some/other").tags()
        with pytest.raises(AuthError):
            await client.source(basic.host, "some/image-too").tags()  # a path ends at a slash
    wrong = replace(QUICK, username=USERNAME, password="wrong")
    async with open_registries(
        {basic.host: login, f"{basic.host}/some": wrong, f"{basic.host}/some/image": login}
    ) as client:
        assert await client.source(basic.host, NAME).tags() == ["1"]
        with pytest.raises(AuthError):
            await client.source(basic.host, "some/other").tags()


def test_a_configuration_with_entries_for_a_path(basic: DockerRegistry, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    login = {"username": USERNAME, "password": {"env": "PW"}}
    config.write_text(yaml.safe_dump({"version": 1, "registries": {f"{basic.host}/{NAME}": login}}))
    run_ocisync(
        "copy", f"docker://{basic.host}/{NAME}:1", f"oci:{tmp_path}/a:1", "-c", config, env={"PW": PASSWORD}
    ).expect()
    other = f"docker://{basic.host}/some/other:2"
    run_ocisync("copy", other, f"oci:{tmp_path}/b:1", "-c", config, env={"PW": PASSWORD}).expect(1)


async def test_tls_on_loopback_is_told_from_a_server_that_is_down(certificate: Certificate) -> None:
    app = web.Application()
    with serve_app(app, certificate.server_context()) as url:
        async with repository_at(url.removeprefix("https://"), replace(QUICK, retries=1)) as repository:
            with pytest.raises(NetworkError, match="plain_http: false") as caught:
                await repository.tags()
    assert not caught.value.retryable
    async with repository_at("127.0.0.1:1", replace(QUICK, retries=0)) as repository:
        with pytest.raises(NetworkError, match="cannot connect"):
            await repository.tags()


async def test_a_server_that_says_it_wants_tls_but_speaks_none_is_quoted(registry_proxy: FaultProxy) -> None:
    body = b"Client sent an HTTP request to an HTTPS server.\n"
    registry_proxy.on("GET", "/tags/list", faults.Reply(400, body=body))
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(Exception, match="Client sent an HTTP request to an HTTPS server"):
            await repository.tags()


def test_https_that_is_written_out_is_kept_to_on_loopback(
    certificate: Certificate, tmp_path: Path, registry: DockerRegistry
) -> None:
    images.push(registry.client, NAME, "1", IMAGE)
    config = tmp_path / "c.yaml"
    document = {
        "version": 1,
        "targets": {"t": {"type": "registry", "url": f"https://{registry.host}"}},
        "sync": [{"source": f"{registry.host}/{NAME}", "target": "t/other/image"}],
    }
    config.write_text(yaml.safe_dump(document))
    done = run_ocisync("once", "-c", config, timeout=120).expect(1)
    assert "TLS" in done.stderr + done.stdout
    assert not [one for one in registry.requests() if "other/image" in one.path], "not a word without TLS"


class NewPlaces:
    """A registry that makes no repository by itself, as ECR: 404 NAME_UNKNOWN until its API has made it."""

    def __init__(self, api: EcrApi) -> None:
        self.api = api
        self.posts = 0

    async def answer(self, request: web.Request) -> web.Response:
        name = request.path.removeprefix("/v2/").partition("/blobs/")[0].partition("/manifests/")[0]
        if name not in self.api.created:
            self.posts += request.method == "POST"
            error = {"code": "NAME_UNKNOWN", "message": f"The repository with name '{name}' does not exist"}
            return web.json_response({"errors": [error]}, status=404)
        if request.method == "POST":
            return web.Response(status=202, headers={"Location": f"/v2/{name}/blobs/uploads/1"})
        await request.read()
        return web.Response(status=201)


async def test_a_repository_that_does_not_exist_is_told_or_created() -> None:
    with ecr_api() as api:
        places = NewPlaces(api)
        app = web.Application()
        app.router.add_route("*", "/v2/{path:.+}", places.answer)
        chosen = EcrOptions(region="eu-central-1", endpoint=api.url, access_key=ACCESS_KEY, secret_key="s")
        index = images.make_index([])
        root = Descriptor(index.media_type, index.digest, len(index.manifest), data=index.manifest)  # type: ignore[arg-type]
        with serve_app(app) as url:
            host = url.removeprefix("http://")
            async with repository_at(host, QUICK) as repository:
                for push in (
                    repository.push(blob_desc(b"new"), BytesOpener(b"new")),
                    repository.publish({"1": root}),
                ):
                    with pytest.raises(NotFound, match="create it there first") as caught:
                        await push
                    assert caught.value.code == "target.missing"
                    assert NAME in caught.value.message
                    assert "does not exist" in caught.value.message
            assert places.posts == 1, "asked once, and not again"
            async with repository_at(host, replace(QUICK, ecr=replace(chosen, create=True))) as repository:
                await repository.push(blob_desc(b"new"), BytesOpener(b"new"))
                await repository.publish({"1": root})
            assert api.created == [NAME]
            async with repository_at(host, replace(QUICK, ecr=replace(chosen, create=True)), "new/index") as repository:
                await repository.publish({"1": root})
            assert api.created == [NAME, "new/index"]
            api.refusal = (400, "AccessDeniedException", "no")
            async with repository_at(host, replace(QUICK, ecr=replace(chosen, create=True)), "new/third") as repository:
                with pytest.raises(AuthError):
                    await repository.push(blob_desc(b"new"), BytesOpener(b"new"))
