"""How a registry is reached: client certificates, proxies, and secrets in files that change."""

import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from yarl import URL

from ocisync.errors import AuthError, ConfigError, NetworkError
from ocisync.stores.registry.http import tls
from ocisync.stores.registry.options import ProxyOptions, RegistryOptions
from tests.integration.registries import NAME, QUICK, repository_at
from tests.servers import faults, images
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy, fault_proxy
from tests.servers.loop import serve_app
from tests.servers.tls import Certificate, make_certificate

IMAGE = images.make_image()


async def tags(request: web.Request) -> web.Response:
    """The list of tags, with the peer's certificate for one."""
    transport = request.transport
    shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True) if transport else None
    return web.json_response({"tags": [f"c{len(shown)}" if shown else "none"]})


@pytest.fixture
def mutual(certificate: Certificate) -> Iterator[str]:
    """A registry that wants a certificate of its own authority; its host."""
    context = certificate.server_context()
    context.load_verify_locations(certificate.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    app = web.Application()
    app.router.add_get("/v2/{name:.+}/tags/list", tags)
    with serve_app(app, context) as url:
        yield url.removeprefix("https://")


def shown_size(own: Certificate) -> str:
    return f"c{len(ssl.PEM_cert_to_DER_cert(own.certificate.read_text()))}"


async def listed(host: str, options: RegistryOptions) -> list[str]:
    async with repository_at(host, options) as repository:
        return list(await repository.tags())


async def test_a_client_certificate_is_shown(mutual: str, certificate: Certificate, tmp_path: Path) -> None:
    known = replace(QUICK, ca_file=certificate.authority, retries=0)
    with pytest.raises(NetworkError):
        await listed(mutual, known)
    with_key = replace(known, client_cert=certificate.certificate, client_key=certificate.key)
    assert await listed(mutual, with_key) == [shown_size(certificate)]
    both = tmp_path / "both.pem"
    both.write_text(certificate.certificate.read_text() + certificate.key.read_text())
    insecure = replace(QUICK, client_cert=both, insecure_tls=True)
    assert await listed(mutual, insecure) == [shown_size(certificate)]


async def test_a_client_certificate_that_is_renewed_is_read_again(
    mutual: str, certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_LOOK_EVERY", 0.0)
    elsewhere = make_certificate(tmp_path / "elsewhere")
    own, key = tmp_path / "own.pem", tmp_path / "own.key"
    own.write_bytes(elsewhere.certificate.read_bytes())
    key.write_bytes(elsewhere.key.read_bytes())
    options = replace(QUICK, ca_file=certificate.authority, client_cert=own, client_key=key, retries=0)
    async with repository_at(mutual, options) as repository:
        with pytest.raises(NetworkError):
            await repository.tags()
        own.write_bytes(certificate.certificate.read_bytes())
        with pytest.raises(NetworkError):  # the key is still the old one: what was read before serves
            await repository.tags()
        key.write_bytes(certificate.key.read_bytes())
        assert await repository.tags() == [shown_size(certificate)]


async def test_a_client_certificate_is_shown_to_its_own_host_only(certificate: Certificate) -> None:
    options = replace(QUICK, ca_file=certificate.authority, client_cert=certificate.certificate)
    chosen = tls.Trust("r.example", replace(options, client_key=certificate.key))
    own = await chosen.context_for(URL("https://r.example/v2/"))
    other = await chosen.context_for(URL("https://cdn.example/blob"))
    assert isinstance(own, ssl.SSLContext)
    assert own is not other
    assert chosen._contexts[False]._certificate is None


async def test_a_key_with_a_passphrase_or_of_another_certificate_is_told(
    certificate: Certificate, tmp_path: Path
) -> None:
    other = make_certificate(tmp_path / "other")
    options = replace(QUICK, client_cert=certificate.certificate, client_key=other.key, plain_http=False)
    with pytest.raises(ConfigError, match=r"client_cert .* cannot be used: .* the key without a passphrase"):
        await listed("127.0.0.1:1", options)


@pytest.fixture
def pushed(registry: DockerRegistry) -> DockerRegistry:
    images.push(registry.client, NAME, "1", IMAGE)
    return registry


@pytest.fixture
def proxy(pushed: DockerRegistry) -> Iterator[FaultProxy]:
    with fault_proxy(pushed.url) as running:
        yield running


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_a_proxy_of_the_registry_wins_over_the_environment(
    pushed: DockerRegistry, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    options = replace(QUICK, proxy=ProxyOptions(proxy.url, "me", "pa:ss"))
    assert await listed(pushed.host, options) == ["1"]
    (seen,) = proxy.requests
    assert seen.path.startswith(f"{pushed.url}/v2/")
    assert seen.headers["proxy-authorization"] == "Basic bWU6cGE6c3M="


async def test_the_environments_proxy_and_its_exceptions(
    pushed: DockerRegistry, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://you:secret@"))
    assert await listed(pushed.host, QUICK) == ["1"]
    (seen,) = proxy.requests
    assert seen.headers["proxy-authorization"] == "Basic eW91OnNlY3JldA=="
    assert await listed(pushed.host, replace(QUICK, proxy=ProxyOptions())) == ["1"]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert await listed(pushed.host, QUICK) == ["1"]
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(("status", "advice"), [(407, "set the proxy's username and password"), (403, "allow CONNECT")])
async def test_a_proxy_that_refuses_is_told_apart_from_the_registry(
    proxy: FaultProxy, status: int, advice: str
) -> None:
    proxy.on("CONNECT", "", faults.Reply(status))
    options = replace(QUICK, plain_http=False, proxy=ProxyOptions(proxy.url, "me", "wrong"))
    with pytest.raises(NetworkError, match=f"the proxy refused with status {status}; .*{advice}") as caught:
        await listed("registry.invalid", options)
    assert not caught.value.retryable
    (asked,) = proxy.requests
    assert (asked.method, asked.path) == ("CONNECT", "registry.invalid:443")
    assert asked.headers["proxy-authorization"] == "Basic bWU6d3Jvbmc="


async def test_a_proxy_that_is_not_there_is_named() -> None:
    options = replace(QUICK, plain_http=False, retries=0, proxy=ProxyOptions("http://127.0.0.1:1"))
    with pytest.raises(NetworkError, match=r"cannot connect to the proxy 127\.0\.0\.1:1"):
        await listed("registry.invalid", options)


async def test_a_password_in_a_file_is_read_again_when_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("old\n")
    with docker_registry(tmp_path / "basic", basic=True) as basic:
        images.push(basic.client, NAME, "1", IMAGE)
        options = replace(QUICK, username=USERNAME, password="old", password_file=path)
        async with repository_at(basic.host, options) as repository:
            with pytest.raises(AuthError):
                await repository.tags()
            path.write_text(f"{PASSWORD}\n")
            assert await repository.tags() == ["1"]


def test_secrets_certificates_and_proxies_come_from_the_configuration(
    proxy: FaultProxy, pushed: DockerRegistry, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("pr0xy-s3cret")
    config = tmp_path / "c.yaml"
    through = {"url": proxy.url, "username": "me", "password": {"file": "secret"}}
    document = {"version": 1, "registries": {pushed.host: {"proxy": "direct"}}, "defaults": {"proxy": through}}
    config.write_text(yaml.safe_dump(document))
    run_ocisync("copy", f"docker://{pushed.host}/{NAME}:1", f"oci:{tmp_path}/one:1", "-c", config).expect()
    assert proxy.requests == []
    del document["registries"]
    config.write_text(yaml.safe_dump(document))
    done = run_ocisync("copy", f"docker://{pushed.host}/{NAME}:1", f"oci:{tmp_path}/two:1", "-c", config).expect()
    assert {one.headers.get("proxy-authorization") for one in proxy.requests} == {"Basic bWU6cHIweHktczNjcmV0"}
    assert "pr0xy" not in done.stdout + done.stderr
