"""docker's and podman's credential files, as they write them."""

import base64
import json
from pathlib import Path

import pytest

from ocisync.errors import AuthError
from ocisync.stores.registry.auth.credentials import Credentials, usual_places
from ocisync.stores.registry.auth.docker_config import (
    Credential,
    candidates,
    helper_key,
    normal_key,
    parse_auth_file,
)
from ocisync.stores.registry.options import RegistryOptions

PATH = Path("config.json")


def encoded(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


@pytest.mark.parametrize(
    ("key", "normal"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("docker.io/me", "docker.io/me"),
        ("https://registry.example.com/v2/", "registry.example.com"),
        ("http://localhost:5000", "localhost:5000"),
        ("quay.io/team/app", "quay.io/team/app"),
        ("not a host", "not a host"),
    ],
)
def test_keys(key: str, normal: str) -> None:
    assert normal_key(key) == normal


def test_the_most_exact_key_comes_first() -> None:
    assert candidates("h", "a/b/c") == ["h/a/b/c", "h/a/b", "h/a", "h"]
    assert candidates("h", "") == ["h"]


def test_helpers_know_docker_hub_by_its_old_name() -> None:
    assert helper_key("docker.io") == "https://index.docker.io/v1/"
    assert helper_key("quay.io") == "quay.io"


def test_entries_of_every_kind() -> None:
    document = {
        "auths": {
            "https://index.docker.io/v1/": {"auth": encoded("me:a:b")},
            "r.example": {"auth": encoded("<token>:"), "identitytoken": "refresh"},
            "plain.example": {"username": "you", "password": "pw"},
            "empty.example": {},
            "odd.example": "text",
            "broken.example": {"auth": "%%%"},
            "nul.example": {"auth": encoded("me:pw\0\0")},
        },
        "credHelpers": {"ecr.example": "ecr-login", "none.example": "", "odd.example": 1},
        "credsStore": "pass",
        "HttpHeaders": {"X-Meta": "1", "User-Agent": "no", "Host": "no", "X-Odd": 1, "X-Split": "a\r\nb"},
    }
    file = parse_auth_file(json.dumps(document).encode(), PATH)
    assert file.auths == {
        "docker.io": Credential("me", "a:b"),
        "r.example": Credential("<token>", "", "refresh"),
        "plain.example": Credential("you", "pw"),
        "nul.example": Credential("me", "pw"),
    }
    assert file.helpers == {"ecr.example": "ecr-login"}
    assert file.store == "pass"
    assert file.headers == {"X-Meta": "1"}


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_credential_file(raw: bytes) -> None:
    with pytest.raises(AuthError, match=r"config\.json"):
        parse_auth_file(raw, PATH)


@pytest.mark.parametrize("document", [{}, {"auths": None}, {"auths": [], "credHelpers": "x", "HttpHeaders": 1}])
def test_a_file_may_hold_nothing(document: dict[str, object]) -> None:
    file = parse_auth_file(json.dumps(document).encode(), PATH)
    assert (file.auths, file.helpers, file.store, file.headers) == ({}, {}, "", {})


def test_secrets_are_not_shown() -> None:
    assert "s3cr3t" not in repr(Credential("me", "s3cr3t", "s3cr3t"))


def test_the_usual_places_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HOME": "/home/me",
        "REGISTRY_AUTH_FILE": "/given.json",
        "DOCKER_CONFIG": "/docker",
        "XDG_RUNTIME_DIR": "/run/user/1",
        "XDG_CONFIG_HOME": "",
    }.items():
        monkeypatch.setenv(name, value)
    assert [str(path) for path in usual_places()] == [
        "/given.json",
        "/docker/config.json",
        "/run/user/1/containers/auth.json",
        "/home/me/.config/containers/auth.json",
        "/home/me/.docker/config.json",
    ]


async def test_a_file_is_read_again_when_it_changes_and_kept_while_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    credentials = Credentials("r.example", RegistryOptions(docker_config=path))
    assert (await credentials.find("a")).is_anonymous
    path.write_text(json.dumps({"auths": {"r.example": {"auth": encoded("me:1")}}}))
    assert await credentials.find("a") == Credential("me", "1")
    path.write_text('{"auths": {"r.exa')
    assert await credentials.find("a") == Credential("me", "1")
    path.write_text(json.dumps({"auths": {"r.example/a": {"auth": encoded("you:22")}}}))
    assert await credentials.find("a/b") == Credential("you", "22")
    assert (await credentials.find("ab")).is_anonymous
    path.unlink()
    assert (await credentials.find("a")).is_anonymous


async def test_options_win_over_files(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text(
        json.dumps({"auths": {"r.example": {"auth": encoded("me:1")}}, "HttpHeaders": {"A": "1", "B": "1"}})
    )
    options = RegistryOptions(username="config", password="pw", docker_config=path, headers={"B": "2"})
    credentials = Credentials("r.example", options)
    assert await credentials.find("a") == Credential("config", "pw")
    assert await credentials.headers() == {"A": "1", "B": "2"}


async def test_a_configured_helper_that_is_missing_is_an_error_but_a_missing_store_is_not(tmp_path: Path) -> None:
    helped = Credentials("r.example", RegistryOptions(credential_helper="no-such-helper"))
    with pytest.raises(AuthError, match="docker-credential-no-such-helper"):
        await helped.find("a")
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"credsStore": "no-such-store", "auths": {"r.example": {"auth": encoded("me:1")}}}))
    stored = Credentials("other.example", RegistryOptions(docker_config=path))
    assert (await stored.find("a")).is_anonymous


async def test_a_helper_is_a_name_and_not_a_path() -> None:
    with pytest.raises(AuthError, match="not the name"):
        await Credentials("r.example", RegistryOptions(credential_helper="/../../bin/sh")).find("a")


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ('echo \'{"Username": "u", "Secret": "s"}\'', Credential("u", "s")),
        ('echo \'{"Username": "<token>", "Secret": "t"}\'', Credential(identity_token="t")),
        ('echo \'{"Username": "", "Secret": ""}\'', Credential()),
        ("echo credentials not found in native keychain; exit 1", Credential()),
        ("echo broken >&2; exit 2", None),
        ("echo nonsense", None),
        ('echo \'{"Username": 1, "Secret": []}\'', None),
    ],
)
async def test_what_helpers_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, found: Credential | None
) -> None:
    program = tmp_path / "docker-credential-t"
    program.write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    credentials = Credentials("r.example", RegistryOptions(credential_helper="t"))
    if found is None:
        with pytest.raises(AuthError):
            await credentials.find("a")
    else:
        assert await credentials.find("a") == found
