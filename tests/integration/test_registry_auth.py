"""Credentials against real registries: basic, bearer, TLS, redirects; FAULTS 6, 7, 10 to 14."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from ocisync.content.openers import BytesOpener
from ocisync.errors import AuthError, NetworkError, RedirectRefused, TlsError, UnsupportedManifest
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.stores.registry.client import open_registries
from ocisync.stores.registry.options import RegistryOptions
from tests.integration.registries import BLOB, BLOB_PATH, LAYER, NAME, QUICK, blob_desc, read, repository_at
from tests.servers import faults, images
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy, fault_proxy
from tests.servers.loop import serve_app
from tests.servers.tls import Certificate, make_certificate
from tests.servers.tokens import TokenServer, token_server

IMAGE = images.make_image()
LOGIN = replace(QUICK, username=USERNAME, password=PASSWORD)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without any credentials."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def basic(tmp_path: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "basic", basic=True) as registry:
        images.push(registry.client, NAME, "1", IMAGE)
        images.push_blob(registry.client, NAME, LAYER.digest, BLOB)
        yield registry


@pytest.fixture
def tokens(certificate: Certificate) -> Iterator[TokenServer]:
    with token_server(certificate) as server:
        yield server


@pytest.fixture
def bearer(tmp_path: Path, tokens: TokenServer) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "bearer", token=tokens.auth) as registry:
        images.push(registry.client, NAME, "1", IMAGE)
        tokens.asked.clear()
        yield registry


@contextmanager
def docker_login(folder: Path, document: dict[str, object]) -> Iterator[Path]:
    """docker's config.json below a home folder."""
    path = folder / ".docker/config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    yield path
    path.unlink()


def auth_of(password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{USERNAME}:{password}".encode()).decode()}


async def test_basic_is_asked_for_once_and_then_sent_at_once(basic: DockerRegistry) -> None:
    async with repository_at(basic.host, LOGIN) as repository:
        assert await repository.tags() == ["1"]
        await repository.resolve("1")
        await repository.push(blob_desc(b"new"), BytesOpener(b"new"))
    asked = [(one.path, one.status) for one in basic.requests()][-7:]
    assert [path for path, status in asked if status == 401] == [
        "/v2/"
    ]  # looked at once, as credentials are configured
    assert [path for path, _ in asked].count("/v2/") == 1


async def test_without_credentials_the_message_says_what_to_do(basic: DockerRegistry) -> None:
    async with repository_at(basic.host) as repository:
        with pytest.raises(AuthError, match=r"docker's config\.json"):
            await repository.tags()


async def test_dockers_login_is_used_and_read_again_when_it_changes(basic: DockerRegistry, home: Path) -> None:
    with docker_login(home, {"auths": {f"http://{basic.host}/v2/": auth_of("old")}}) as path:
        async with repository_at(basic.host) as repository:
            with pytest.raises(AuthError):
                await repository.tags()
            path.write_text(json.dumps({"auths": {basic.host: auth_of(PASSWORD)}}))
            assert await repository.tags() == ["1"]


async def test_a_credential_helper_is_asked_again_when_its_answer_is_refused(
    basic: DockerRegistry, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "bin/docker-credential-tests"
    helper.parent.mkdir()
    helper.write_text(
        "#!/bin/sh\nread server\n"
        f'[ "$1 $server" = "get {basic.host}" ] || {{ echo credentials not found; exit 1; }}\n'
        f'printf \'{{"Username": "{USERNAME}", "Secret": "%s"}}\' "$(cat {tmp_path}/secret)"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    with docker_login(home, {"credHelpers": {basic.host: "tests"}}):
        async with repository_at(basic.host) as repository:
            assert await repository.tags() == ["1"]
            secret.write_text("expired")
        async with repository_at(basic.host) as repository:
            with pytest.raises(AuthError):
                await repository.tags()
            secret.write_text(PASSWORD)
            assert await repository.tags() == ["1"]


async def test_dockers_http_headers_go_to_the_registry_but_not_its_user_agent(
    registry_proxy: FaultProxy, home: Path
) -> None:
    headers = {"X-Meta": "yes", "User-Agent": "theirs", "X-Bad": "a\nb"}
    registry_proxy.on("GET", BLOB_PATH, faults.Redirect("http://localhost:1/"))
    with docker_login(home, {"HttpHeaders": headers}):
        async with repository_at(registry_proxy.host, replace(QUICK, retries=0)) as repository:
            with pytest.raises(NetworkError):
                await read(repository, LAYER)
    (sent,) = (one.headers for one in registry_proxy.requests)
    assert sent["x-meta"] == "yes"
    assert sent["user-agent"].startswith("ocisync/")
    assert "x-bad" not in sent


async def test_a_bearer_token_serves_a_repository_and_pushing_covers_pulling(
    bearer: DockerRegistry, tokens: TokenServer
) -> None:
    async with repository_at(bearer.host, LOGIN) as repository:
        await repository.push(blob_desc(b"new"), BytesOpener(b"new"))
        await repository.resolve("1")
        await repository.tags()
    assert tokens.asked == [(USERNAME, f"repository:{NAME}:pull,push")]


async def test_many_requests_at_a_time_ask_for_one_token(bearer: DockerRegistry, tokens: TokenServer) -> None:
    async with repository_at(bearer.host, LOGIN) as repository, anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(repository.resolve, "1")
    assert len(tokens.asked) == 1


async def test_an_anonymous_token_is_enough_to_pull(bearer: DockerRegistry, tokens: TokenServer) -> None:
    tokens.anonymous_pull = True
    async with repository_at(bearer.host) as repository:
        assert await repository.tags() == ["1"]
        with pytest.raises(AuthError):
            await repository.push(blob_desc(b"new"), BytesOpener(b"new"))
    assert {user for user, _ in tokens.asked} == {""}


@pytest.mark.parametrize("expired", [False, True])
async def test_fault_06_a_bad_certificate_is_refused(tmp_path: Path, expired: bool) -> None:
    own = make_certificate(tmp_path / "tls", days=-1 if expired else 30)
    with fault_proxy("http://127.0.0.1:1", own) as proxy:
        options = replace(QUICK, plain_http=False, ca_file=own.authority if expired else None)
        async with repository_at(proxy.host, options) as repository:
            with pytest.raises(TlsError) as caught:
                await repository.tags()
    assert caught.value.code == "tls.verify"
    assert ("set this machine's clock" if expired else "trust its authority by `ca`") in caught.value.message
    assert not caught.value.retryable
    assert proxy.requests == []


async def test_fault_06_a_known_authority_or_an_accepted_certificate_will_do(
    tmp_path: Path, certificate: Certificate
) -> None:
    with docker_registry(tmp_path / "tls", tls=certificate) as registry:
        images.push(registry.client, NAME, "1", IMAGE)
        for options in (replace(QUICK, ca_file=certificate.authority), replace(QUICK, insecure_tls=True)):
            async with repository_at(registry.host, options) as repository:
                assert await repository.tags() == ["1"]


async def test_fault_06_tls_against_a_plain_server_never_falls_back(registry_proxy: FaultProxy) -> None:
    async with repository_at(registry_proxy.host, replace(QUICK, plain_http=False, retries=0)) as repository:
        with pytest.raises(NetworkError):
            await repository.tags()
    assert registry_proxy.requests == []


async def test_fault_07_a_redirect_to_another_port_is_followed_without_credentials(basic: DockerRegistry) -> None:
    with fault_proxy(basic.url) as front, fault_proxy(basic.url) as storage:
        front.on("GET", BLOB_PATH, faults.Redirect(storage.url + "{path}?X-Signature=s3cr3t%2Fa%2Bb"))
        storage.on("GET", BLOB_PATH, faults.Reply(200, body=BLOB))
        async with repository_at(front.host, replace(LOGIN, headers={"X-Own": "1"})) as repository:
            await repository.tags()
            front.on("GET", "/tags/list", faults.ChangeHeaders(add={"Set-Cookie": "session=1; Path=/"}))
            await repository.tags()
            assert await read(repository, LAYER) == BLOB
    (first,), (second,) = front.seen("GET", BLOB_PATH), storage.requests
    assert first.headers["authorization"].startswith("Basic ")
    assert first.headers["x-own"] == "1"
    assert not {"authorization", "cookie", "x-own"} & set(second.headers)
    assert second.path.endswith("?X-Signature=s3cr3t%2Fa%2Bb")


async def test_fault_07_a_refusal_after_a_redirect_gets_no_credentials_and_shows_no_signature(
    basic: DockerRegistry,
) -> None:
    with fault_proxy(basic.url) as front, fault_proxy(basic.url) as storage:
        front.on("GET", BLOB_PATH, faults.Redirect(storage.url + "{path}?X-Signature=s3cr3t"))
        challenge = {"WWW-Authenticate": 'Basic realm="give me"'}
        storage.on("GET", BLOB_PATH, faults.Reply(401, challenge))
        async with repository_at(front.host, LOGIN) as repository:
            with pytest.raises(AuthError) as caught:
                await read(repository, LAYER)
    assert len(storage.requests) == 1
    assert "s3cr3t" not in caught.value.message


async def test_fault_08_https_to_http_is_refused(registry: DockerRegistry, certificate: Certificate) -> None:
    with fault_proxy(registry.url, certificate) as proxy:
        proxy.on("GET", "/tags/list", faults.Redirect(registry.url + "{path}"))
        async with repository_at(proxy.host, replace(QUICK, ca_file=certificate.authority)) as repository:
            with pytest.raises(RedirectRefused, match="from https to http"):
                await repository.tags()


async def test_fault_10_a_token_that_ends_on_its_way_is_renewed_and_the_request_repeated(
    bearer: DockerRegistry, tokens: TokenServer
) -> None:
    with fault_proxy(bearer.url) as proxy:
        async with repository_at(proxy.host, LOGIN) as repository:
            await repository.tags()
            challenge = f'Bearer realm="{tokens.url}/token",service="test-registry",error="invalid_token"'
            late = proxy.on("GET", "/manifests/", faults.Reply(401, {"WWW-Authenticate": challenge}), times=1)
            assert await read(repository, await repository.resolve("1")) == IMAGE.manifest
    assert late.hits == 1
    assert len(tokens.asked) == 2
    first, repeated = proxy.seen("GET", "/manifests/")
    assert first.headers["authorization"] != repeated.headers["authorization"]


async def test_fault_10_a_token_past_its_time_is_not_sent(bearer: DockerRegistry, tokens: TokenServer) -> None:
    tokens.expires_in = 0  # counts as a minute
    async with repository_at(bearer.host, LOGIN) as repository:
        await repository.tags()
        await repository.tags()
    assert len(tokens.asked) == 1


async def test_fault_10_an_upload_whose_token_ended_is_sent_again(bearer: DockerRegistry, tokens: TokenServer) -> None:
    with fault_proxy(bearer.url) as proxy:
        challenge = f'Bearer realm="{tokens.url}/token",service="test-registry"'
        late = proxy.on("PUT", "/blobs/uploads/", faults.Reply(401, {"WWW-Authenticate": challenge}), times=1)
        async with repository_at(proxy.host, LOGIN) as repository:
            await repository.push(LAYER, BytesOpener(BLOB))
            assert await repository.exists(LAYER)
    assert late.hits == 1


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
async def test_fault_11_401_for_ever_is_denied_after_one_refresh(
    registry_proxy: FaultProxy, tokens: TokenServer, scheme: str
) -> None:
    tokens.anonymous_pull = True
    challenge = f'{scheme} realm="{tokens.url}/token",service="test-registry"'
    rule = registry_proxy.on(".*", "/v2/", faults.Reply(401, {"WWW-Authenticate": challenge}))
    async with repository_at(registry_proxy.host, LOGIN) as repository:
        with pytest.raises(AuthError) as caught:
            await repository.tags()
        assert rule.hits == 3  # /v2/, what it asked for, and one refresh (Basic: nothing, for strangers may be welcome)
        with pytest.raises(AuthError):
            await repository.tags()
    assert caught.value.code == "auth.denied"
    assert PASSWORD not in caught.value.message
    assert len(tokens.asked) == (0 if scheme == "Basic" else 3)  # one refresh for each request


async def test_fault_11_a_token_server_that_refuses_is_denied(bearer: DockerRegistry, tokens: TokenServer) -> None:
    tokens.refuse = True
    async with repository_at(bearer.host, LOGIN) as repository:
        with pytest.raises(AuthError, match="no token was given") as caught:
            await repository.tags()
    assert caught.value.code == "auth.denied"
    assert len(tokens.asked) == 1


@pytest.mark.parametrize("realm", ["http://realm.invalid/token", "http://169.254.169.254/token", "file:///etc/passwd"])
async def test_fault_12_a_realm_elsewhere_gets_nothing(registry_proxy: FaultProxy, realm: str) -> None:
    registry_proxy.on(".*", "/v2/", faults.Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}))
    async with repository_at(registry_proxy.host, LOGIN) as repository:
        with pytest.raises(AuthError) as caught:
            await repository.tags()
    assert caught.value.code == "auth.realm"


async def test_fault_12_a_realm_that_redirects_is_not_followed(registry_proxy: FaultProxy) -> None:
    with fault_proxy("http://127.0.0.1:1") as realm, fault_proxy("http://127.0.0.1:1") as thief:
        realm.on(".*", "/token", faults.Redirect(thief.url + "{path}"))
        challenge = {"WWW-Authenticate": f'Bearer realm="{realm.url}/token"'}
        registry_proxy.on(".*", "/v2/", faults.Reply(401, challenge))
        async with repository_at(registry_proxy.host, LOGIN) as repository:
            with pytest.raises(AuthError) as caught:
                await repository.tags()
        assert caught.value.code == "auth.realm"
        assert len(realm.requests) == 1
        assert thief.requests == []


async def test_fault_13_two_credentials_for_one_registry_share_no_token(
    bearer: DockerRegistry, tokens: TokenServer, home: Path
) -> None:
    images.push(replace(bearer.client), "other/image", "2", IMAGE)
    tokens.asked.clear()
    entries = {bearer.host: auth_of(PASSWORD), f"{bearer.host}/other": auth_of("wrong")}
    with docker_login(home, {"auths": entries}):
        async with open_registries({}, QUICK) as client:
            assert await client.repository(bearer.host, NAME).tags() == ["1"]
            with pytest.raises(AuthError):
                await client.repository(bearer.host, "other/image").tags()
    async with repository_at(bearer.host, QUICK) as anonymous:
        with pytest.raises(AuthError):
            await anonymous.tags()
    assert [user for user, _ in tokens.asked] == [USERNAME, USERNAME, ""]


async def test_fault_14_a_foreign_layer_is_never_asked_for_elsewhere(basic: DockerRegistry) -> None:
    with fault_proxy(basic.url) as elsewhere:
        absent = blob_desc(b"a foreign layer")
        url = f"{elsewhere.url}/layer"
        foreign = Descriptor(media_types.DOCKER_FOREIGN_GZIP, absent.digest, absent.size, urls=(url,))
        async with repository_at(basic.host, LOGIN) as repository:
            with pytest.raises(UnsupportedManifest, match="foreign layer"):
                await read(repository, foreign)
            kept = Descriptor(media_types.DOCKER_FOREIGN_GZIP, LAYER.digest, LAYER.size, urls=(url,))
            assert await read(repository, kept) == BLOB
        assert elsewhere.requests == []


async def test_options_never_show_their_secrets() -> None:
    shown = repr(RegistryOptions(username="me", password="s3cr3t", identity_token="t0ken", headers={"X": "h1dden"}))
    assert not [secret for secret in ("s3cr3t", "t0ken", "h1dden") if secret in shown]


async def test_an_identity_token_is_posted_for_a_token(registry_proxy: FaultProxy) -> None:
    forms: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        forms.append({name: str(value) for name, value in (await request.post()).items()})
        return web.json_response({"access_token": "fresh", "expires_in": 300})

    app = web.Application()
    app.router.add_post("/token", answer)
    with serve_app(app) as url:
        challenge = {"WWW-Authenticate": f'Bearer realm="{url}/token",service="tests"'}
        registry_proxy.on("GET", "/tags/list", faults.Reply(401, challenge), times=1)
        registry_proxy.on("GET", "/tags/list", faults.Reply(200, body=b'{"tags": ["1"]}'))
        async with open_registries({}, replace(QUICK, identity_token="r3fr3sh")) as client:
            assert await client.source(registry_proxy.host, NAME).tags() == ["1"]
    listed = registry_proxy.seen("GET", "/tags/list")
    assert [one.headers.get("authorization") for one in listed] == [None, "Bearer fresh"]
    assert [form["refresh_token"] for form in forms] == ["r3fr3sh"]
    assert [form["scope"] for form in forms] == [f"repository:{NAME}:pull"]
