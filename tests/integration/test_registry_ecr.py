"""Amazon ECR: passwords from its API, renewed before they end; against a stand-in that speaks the real protocol."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
import yaml

from ocisync.errors import AuthError, RegistryError
from ocisync.stores.registry.auth.ecr import PUBLIC, fetch_password, is_ecr, region_of
from ocisync.stores.registry.client import open_registries
from ocisync.stores.registry.options import EcrOptions, RegistryOptions
from tests.integration.registries import NAME, QUICK, repository_at
from tests.servers import faults, images
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.ecr import ACCESS_KEY, EcrApi, ecr_api
from tests.servers.fault_proxy import fault_proxy

IMAGE = images.make_image()
REGION = "eu-central-1"


@pytest.fixture(autouse=True)
def no_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No AWS credentials but those that a test gives."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def api() -> Iterator[EcrApi]:
    with ecr_api() as running:
        yield running


@pytest.fixture
def basic(tmp_path: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "basic", basic=True) as registry:
        images.push(registry.client, NAME, "1", IMAGE)
        images.push(registry.client, "other/image", "1", IMAGE)
        yield registry


def chosen(api: EcrApi, key: str = ACCESS_KEY) -> EcrOptions:
    return EcrOptions(region=REGION, endpoint=api.url, access_key=key, secret_key="secret")


def options(api: EcrApi) -> RegistryOptions:
    return replace(QUICK, ecr=chosen(api))


async def test_one_password_serves_all_repositories(basic: DockerRegistry, api: EcrApi) -> None:
    async with open_registries({basic.host: options(api)}) as client, anyio.create_task_group() as group:
        for name in (NAME, "other/image"):
            group.start_soon(client.repository(basic.host, name).resolve, "1")
    assert api.asked == [(ACCESS_KEY, REGION, "ecr")]


@pytest.mark.parametrize("offset", [86400, -86400])
async def test_a_password_is_renewed_before_it_ends_whatever_the_clocks_say(
    basic: DockerRegistry, api: EcrApi, offset: float
) -> None:
    api.life, api.offset = 2, offset
    async with repository_at(basic.host, options(api)) as repository:
        await repository.resolve("1")
        with anyio.fail_after(60):
            while len(api.asked) < 2:
                await repository.resolve("1")
    refused = [one for one in basic.requests() if one.status == 401]
    assert not [one for one in refused if NAME in one.path], "the look at /v2/ tells what is wanted"


async def test_fault_10_a_password_that_ecr_revokes_is_asked_for_again(basic: DockerRegistry, api: EcrApi) -> None:
    with fault_proxy(basic.url) as front:
        async with repository_at(front.host, options(api)) as repository:
            api.password = "revoked"
            with pytest.raises(AuthError):
                await repository.resolve("1")
            api.password = PASSWORD
            await repository.resolve("1")
            challenge = {"WWW-Authenticate": 'Basic realm="x"'}
            front.on("HEAD", "/manifests/", faults.Reply(401, challenge), times=1)
            api.asked.clear()
            with pytest.raises(AuthError, match="refused; log in again"):
                await repository.resolve("1")
            await repository.resolve("1")
    assert len(api.asked) == 1


async def test_ecr_public_has_an_api_of_its_own(api: EcrApi) -> None:
    found = await fetch_password(PUBLIC, chosen(api), QUICK)
    assert (found.username, found.password) == (USERNAME, PASSWORD)
    assert api.asked == [(ACCESS_KEY, "us-east-1", "ecr-public")]


@pytest.mark.parametrize(
    ("refusal", "code", "told"),
    [
        ((400, "AccessDeniedException", "not authorized"), "auth.denied", "grant ecr:GetAuthorizationToken"),
        ((400, "ExpiredTokenException", "expired"), "auth.denied", "credentials have expired: renew them"),
        ((400, "InvalidSignatureException", "the request signature"), "auth.denied", "secret key does not belong"),
        ((400, "InvalidSignatureException", "Signature not yet current: 1 is"), "clock.skew", r"differs by 72\d\d s"),
        ((400, "InvalidSignatureException", "Signature expired: 1 is now"), "clock.skew", "set it by NTP"),
        ((500, "ServerException", "later"), "registry.error", "ServerException"),
        ((400, "ThrottlingException", "slow"), "registry.error", "ThrottlingException"),
    ],
)
async def test_fault_61_refusals_say_what_to_do(
    api: EcrApi, refusal: tuple[int, str, str], code: str, told: str
) -> None:
    api.refusal, api.offset = refusal, -7200
    with pytest.raises(RegistryError, match=told) as caught:
        await fetch_password("r.example", chosen(api), QUICK)
    assert caught.value.code == code
    assert caught.value.retryable == (code == "registry.error")


@pytest.mark.parametrize("token", ["\N{LATIN SMALL LETTER E WITH ACUTE}", "a", "/w=="])
async def test_a_token_that_is_none_is_refused(api: EcrApi, token: str) -> None:
    api.token = token
    with pytest.raises(AuthError, match="holds no usable token"):
        await fetch_password("r.example", chosen(api), QUICK)


async def test_an_unknown_key_and_none_at_all_are_told_apart(api: EcrApi) -> None:
    with pytest.raises(AuthError, match="key or session token is not valid"):
        await fetch_password("r.example", chosen(api, "AKIDUNKNOWN"), QUICK)
    with pytest.raises(AuthError, match="no AWS credentials were found"):
        await fetch_password("123456789012.dkr.ecr.eu-central-1.amazonaws.com", EcrOptions(endpoint=api.url), QUICK)
    with pytest.raises(AuthError, match=r"set ecr\.region"):
        await fetch_password("r.example", EcrOptions(access_key="a", secret_key="b"), QUICK)
    assert api.asked == []


def test_hosts_of_ecr_are_known_by_their_names() -> None:
    number = "123456789012"
    assert region_of(f"{number}.dkr.ecr.eu-central-1.amazonaws.com") == "eu-central-1"
    assert region_of(f"{number}.dkr.ecr.cn-north-1.amazonaws.com.cn") == "cn-north-1"
    assert region_of(f"{number}.dkr.ecr-fips.us-gov-west-1.amazonaws.com") == "us-gov-west-1"
    assert region_of(f"{number}.dkr-ecr.us-east-1.on.aws") == "us-east-1"
    for other in (f"{number}.dkr.ecr.eu-west-1.amazonaws.com.evil.example", PUBLIC, "12.dkr.ecr.x.amazonaws.com"):
        assert not is_ecr(other)


def test_a_copy_logs_in_by_the_configuration(basic: DockerRegistry, api: EcrApi, tmp_path: Path) -> None:
    ecr = {"endpoint": api.url, "region": REGION, "access_key_id": ACCESS_KEY, "secret_access_key": {"env": "KEY"}}
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"version": 1, "registries": {basic.host: {"ecr": ecr}}}))
    source = f"docker://{basic.host}/{NAME}:1"
    done = run_ocisync("copy", source, f"oci:{tmp_path}/out:1", "-c", config, env={"KEY": "s3cr3t-key"})
    done.expect()
    assert "s3cr3t-key" not in done.stdout + done.stderr
    api.refusal = (400, "AccessDeniedException", "no")
    done = run_ocisync("copy", source, f"oci:{tmp_path}/out:2", "-c", config, env={"KEY": "s3cr3t-key"}).expect(1)
    assert "grant ecr:GetAuthorizationToken to these AWS credentials [auth.denied]" in done.stderr
