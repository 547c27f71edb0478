"""`ocisync login` and `logout`: checked at the registry, kept as podman and docker keep them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.command import run_ocisync
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.images import make_image, push
from tests.servers.tls import Certificate
from tests.servers.tokens import token_server

HELPER = """#!/bin/sh
case "$1" in
store) cat > {folder}/stored;;
get) read server; [ -f {folder}/stored ] || {{ echo credentials not found; exit 1; }}
     printf '{{"Username": "{user}", "Secret": "{password}"}}';;
erase) [ -f {folder}/stored ] || {{ echo credentials not found; exit 1; }}; rm {folder}/stored;;
esac
"""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "home"
    folder.mkdir()
    return {"HOME": str(folder), "XDG_RUNTIME_DIR": "", "DOCKER_CONFIG": ""}


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "closed", basic=True) as running:
        push(running.client, "app", "1", make_image())
        yield running


def test_log_in_use_it_and_log_out(closed: DockerRegistry, home: dict[str, str]) -> None:
    image = f"docker://{closed.host}/app:1"
    done = run_ocisync("login", closed.host, "-u", USERNAME, "--password-stdin", env=home, stdin=f"{PASSWORD}\n")
    file = Path(home["HOME"]) / ".config/containers/auth.json"
    assert done.expect(0).stdout == f"logged in to {closed.host} as {USERNAME}; stored in {file}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    token = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    assert json.loads(file.read_text()) == {"auths": {closed.host: {"auth": token}}}
    run_ocisync("digest", image, env=home).expect(0)
    assert closed.host in run_ocisync("logout", f"https://{closed.host}/v2/", env=home).expect(0).stdout
    assert json.loads(file.read_text()) == {"auths": {}}
    assert "[auth.denied]" in run_ocisync("digest", image, env=home).expect(1).stderr
    assert "not logged in to" in run_ocisync("logout", closed.host, env=home).expect(2).stderr
    assert run_ocisync("logout", "--all", env=home).expect(0).stdout == "there are no logins\n"


def test_a_wrong_password_is_refused_and_written_nowhere(closed: DockerRegistry, home: dict[str, str]) -> None:
    said = run_ocisync("login", closed.host, "-u", USERNAME, "--password-stdin", env=home, stdin="guessed-wrong")
    assert "[auth.denied]" in said.expect(1).stderr
    assert "guessed-wrong" not in said.stderr
    assert not (Path(home["HOME"]) / ".config").exists()


def test_a_token_server_is_asked_too(tmp_path: Path, certificate: Certificate, home: dict[str, str]) -> None:
    with token_server(certificate) as tokens, docker_registry(tmp_path / "bearer", token=tokens.auth) as registry:
        said = run_ocisync("login", registry.host, "-u", USERNAME, "--password-stdin", env=home, stdin="wrong-word")
        assert "check the credentials" in said.expect(1).stderr
        run_ocisync("login", registry.host, "-u", USERNAME, "--password-stdin", env=home, stdin=PASSWORD).expect(0)


def test_a_registry_for_anybody_tells_that_nothing_was_checked(
    registry: DockerRegistry, home: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "auth.json"
    file.write_text('{"other": 1, "auths": {"ghcr.io": {"auth": "YTpi"}}}')
    arguments = ("login", registry.host, "-u", "a", "--password-stdin", "--authfile", file)
    assert "was not checked" in run_ocisync(*arguments, env=home, stdin="secret-word").expect(0).stderr
    kept = json.loads(file.read_text())
    assert kept["other"] == 1
    assert set(kept["auths"]) == {"ghcr.io", registry.host}


def test_docker_hub_in_dockers_own_file(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}, "quay.io": {"auth": "YTpi"}}}')
    assert "docker.io" in run_ocisync("logout", "docker.io", "--authfile", file).expect(0).stdout
    assert json.loads(file.read_text()) == {"auths": {"quay.io": {"auth": "YTpi"}}}


def test_a_credential_helper_keeps_the_password(closed: DockerRegistry, home: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "bin/docker-credential-tests"
    program.parent.mkdir()
    program.write_text(HELPER.format(folder=tmp_path, user=USERNAME, password=PASSWORD))
    program.chmod(0o755)
    env = home | {"PATH": f"{program.parent}:/usr/bin:/bin", "DOCKER_CONFIG": str(tmp_path / "docker")}
    file = tmp_path / "docker/config.json"
    file.parent.mkdir()
    file.write_text('{"credsStore": "tests"}')
    login = ("login", closed.host, "-u", USERNAME, "--password-stdin")
    assert "the credential helper tests" in run_ocisync(*login, env=env, stdin=PASSWORD).expect(0).stdout
    assert json.loads((tmp_path / "stored").read_text()) == {
        "ServerURL": closed.host,
        "Username": USERNAME,
        "Secret": PASSWORD,
    }
    assert json.loads(file.read_text()) == {"credsStore": "tests", "auths": {closed.host: {}}}
    run_ocisync("tags", f"docker://{closed.host}/app", env=env).expect(0)
    run_ocisync("logout", closed.host, env=env).expect(0)
    assert not (tmp_path / "stored").exists()
    assert json.loads(file.read_text()) == {"credsStore": "tests", "auths": {}}


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("127.0.0.1:1", "-u", "a", "-p", "hunter2"), "can be seen by every user of this machine"),
        (("127.0.0.1:1", "-u", "a"), "--password-stdin"),
        (("127.0.0.1:1", "--password-stdin"), "--username"),
        (("127.0.0.1:1", "-u", "a", "--password-stdin"), "must not be empty"),
        (("not a host", "-u", "a", "--password-stdin"), "is not a registry's host"),
    ],
)
def test_what_is_missing_is_told(arguments: tuple[str, ...], answer: str, home: dict[str, str]) -> None:
    said = run_ocisync("login", *arguments, env=home).expect(2).stderr
    assert answer in said
    assert "hunter2" not in said


def test_a_file_that_holds_something_else_is_left_alone(registry: DockerRegistry, tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text("[1]")
    login = ("login", registry.host, "-u", "a", "--password-stdin", "--authfile", file)
    assert "not a JSON object" in run_ocisync(*login, stdin="secret-word").expect(1).stderr
    assert file.read_text() == "[1]"
