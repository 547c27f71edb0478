"""docker's credential helpers: programs that know credentials.

Spec: docker-credential-helpers, "Development": `docker-credential-NAME get`.
"""

from __future__ import annotations

import os

import anyio

from ocisync.errors import AuthError
from ocisync.model.outside_json import load_json
from ocisync.stores.registry.auth.docker_config import Credential

_TIMEOUT = 30.0  # seconds


async def ask_helper(name: str, server: str) -> Credential | None:
    """Run `docker-credential-NAME get`; None when it knows nothing.

    Raises:
        AuthError: there is no such program, it failed, or it took too long.
    """
    program = f"docker-credential-{name}"
    if os.sep in name:
        raise AuthError(f"{name!r} is not the name of a credential helper: expected what follows docker-credential-")
    try:
        with anyio.fail_after(_TIMEOUT):
            done = await anyio.run_process([program, "get"], input=server.encode(), check=False)
    except TimeoutError as exc:
        raise AuthError(f"{program} get: no answer for {server} within {_TIMEOUT:g} s") from exc
    except OSError as exc:
        advice = "install it or remove it from the configuration"
        raise AuthError(f"{program}: cannot be run: {exc.strerror}; {advice}") from exc
    if done.returncode != 0:
        if b"not found" in done.stdout + done.stderr:
            return None
        raise AuthError(f"{program} get: failed for {server} with exit status {done.returncode}")
    return _answer(done.stdout, program)


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
