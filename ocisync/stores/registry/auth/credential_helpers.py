"""docker's credential helpers: programs that know credentials.

Spec: docker-credential-helpers, "Development": `docker-credential-NAME get`, `store` and `erase`.
"""

from __future__ import annotations

import json
import os

import anyio

from ocisync.errors import AuthError
from ocisync.model.text.outside_json import load_json
from ocisync.stores.registry.auth.docker_config import Credential

_TIMEOUT = 30.0  # seconds


async def ask_helper(name: str, server: str) -> Credential | None:
    """Run `docker-credential-NAME get`; None when it knows nothing.

    Raises:
        AuthError: there is no such program, it failed, or it took too long.
    """
    status, output, errors = await _run(name, "get", server, server)
    program = f"docker-credential-{name}"
    if status != 0:
        if b"not found" in output + errors:
            return None
        raise AuthError(f"{program} get: failed for {server} with exit status {status}")
    return _answer(output, program)


async def store_in_helper(name: str, server: str, username: str, password: str) -> None:
    """Run `docker-credential-NAME store`; raises as `ask_helper`."""
    login = json.dumps({"ServerURL": server, "Username": username, "Secret": password})
    status, _, _ = await _run(name, "store", login, server)
    if status != 0:
        raise AuthError(f"docker-credential-{name} store: failed for {server} with exit status {status}")


async def erase_from_helper(name: str, server: str) -> bool:
    """Run `docker-credential-NAME erase`; whether it knew of the server. Raises as `ask_helper`."""
    status, output, errors = await _run(name, "erase", server, server)
    if status != 0 and b"not found" not in output + errors:
        raise AuthError(f"docker-credential-{name} erase: failed for {server} with exit status {status}")
    return status == 0


async def _run(name: str, verb: str, text: str, server: str) -> tuple[int, bytes, bytes]:
    """Its exit status, standard output and standard error."""
    program = f"docker-credential-{name}"
    if os.sep in name:
        raise AuthError(f"{name!r} is not the name of a credential helper: expected what follows docker-credential-")
    try:
        with anyio.fail_after(_TIMEOUT):
            done = await anyio.run_process([program, verb], input=text.encode(), check=False)
    except TimeoutError as exc:
        raise AuthError(f"{program} {verb}: no answer for {server} within {_TIMEOUT:g} s") from exc
    except OSError as exc:
        advice = "install it or remove it from the configuration"
        raise AuthError(f"{program}: cannot be run: {exc.strerror}; {advice}") from exc
    return done.returncode, done.stdout, done.stderr


def _answer(output: bytes, program: str) -> Credential | None:
    try:
        answer = load_json(output)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not {"Username", "Secret"} <= answer.keys():
        raise AuthError(f"{program} get: its output is not an object with Username and Secret")
    username, secret = answer["Username"], answer["Secret"]
    if not isinstance(username, str) or not isinstance(secret, str):
        raise AuthError(f"{program} get: Username and Secret must be strings")
    if not secret:
        return None
    return Credential(identity_token=secret) if username == "<token>" else Credential(username, secret)
