"""Commands that need no secret run without it: an operator's shell has not the variables of the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.command import run_ocisync

CONFIG = """version: 1
registries:
  ghcr.io: {username: {env: OCISYNC_T_USER}, password: {env: OCISYNC_T_UNSET}}
targets: {here: {type: static, path: ./registry}, there: {type: s3, bucket: b, endpoint: "http://127.0.0.1:1",
  access_key_id: {env: OCISYNC_T_UNSET}, secret_access_key: {file: /nonexistent/secret}}}
sync: [{name: alpine, source: ghcr.io/a/alpine, target: here/alpine}]
daemon: {state: ./state, token: {env: OCISYNC_T_UNSET}, listen: "127.0.0.1:1"}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "registry/v2").mkdir(parents=True)
    (tmp_path / "c.yaml").write_text(CONFIG)
    return tmp_path / "c.yaml"


def test_check_tells_what_is_not_known_here(config: Path) -> None:
    said = run_ocisync("config", "check", config).expect(0).stdout
    assert "registries[ghcr.io].password: the environment variable OCISYNC_T_UNSET is not set" in said
    assert "targets.there.secret_access_key: cannot read the secret's file /nonexistent/secret" in said
    assert "valid; 2 targets" in said


CLIENTS = ("clients", "podman", "here", "--url", "https://m.example")


@pytest.mark.parametrize("command", [("status",), CLIENTS, ("ls", "here")])
def test_commands_that_need_none(command: tuple[str, ...], config: Path) -> None:
    run_ocisync(*command, "-c", config).expect(0)


@pytest.mark.parametrize(
    "command",
    [("tags", "docker://ghcr.io/a/b"), ("ls", "there"), ("sync-now", "alpine")],
)
def test_a_secret_that_is_needed_is_asked_for(command: tuple[str, ...], config: Path) -> None:
    said = run_ocisync(*command, "-c", config).expect(2).stderr
    assert "is needed, and " in said
    assert "[config.secret]" in said


@pytest.mark.parametrize("command", ["once", "plan", "run"])
def test_who_works_by_rules_needs_all_of_them(command: str, config: Path) -> None:
    assert "OCISYNC_T_UNSET is not set" in run_ocisync(command, "-c", config).expect(2).stderr
