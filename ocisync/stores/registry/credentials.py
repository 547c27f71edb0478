"""Finding a repository's credentials: options, credential helpers, docker's and podman's files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import anyio
import structlog
from anyio import to_thread

from ocisync.errors import AuthError
from ocisync.stores.registry.authfiles import (
    ANONYMOUS,
    MAX_FILE,
    AuthFile,
    Credential,
    candidates,
    helper_key,
    parse_auth_file,
    usual_places,
)
from ocisync.stores.registry.options import RegistryOptions

log = structlog.get_logger(__name__)
_HELPER_TIMEOUT = 30.0  # seconds
_HELPER_REMEMBERED = 300.0  # seconds; helpers start a process, and some ask a cloud
_NO_FILE = AuthFile()


class Credentials:
    """The credentials of one registry host; files are read again when they change."""

    def __init__(self, host: str, options: RegistryOptions) -> None:
        self._host = host
        self._options = options
        self._files: dict[Path, tuple[object, AuthFile]] = {}
        self._answers: dict[tuple[str, str], tuple[float, Credential | None]] = {}

    async def find(self, repository: str) -> Credential:
        """What to show for a repository; anonymous when nothing is known.

        Raises:
            AuthError: a configured credential helper failed.
        """
        options = self._options
        if options.username or options.password or options.identity_token:
            return Credential(options.username, options.password, options.identity_token)
        if options.credential_helper:
            return await self._helped(options.credential_helper, self._host) or ANONYMOUS
        for file in await self._load():
            if found := await self._in_file(file, repository):
                return found
        return ANONYMOUS

    async def headers(self) -> Mapping[str, str]:
        """Headers to send to the registry itself: docker's HttpHeaders, then the configured ones."""
        merged: dict[str, str] = {}
        for file in reversed(await self._load()):
            merged |= file.headers
        return merged | dict(self._options.headers)

    def forget(self) -> None:
        """Ask the helpers again the next time: what they said was refused."""
        self._answers.clear()

    async def _in_file(self, file: AuthFile, repository: str) -> Credential | None:
        for key in candidates(self._host, repository):
            if helper := file.helpers.get(key):
                return await self._helped(helper, key)
            if found := file.auths.get(key):
                return found
        return await self._stored(file.store) if file.store else None

    async def _stored(self, store: str) -> Credential | None:
        try:
            return await self._helped(store, self._host)
        except AuthError as exc:  # a store serves every host: its absence must not stop anonymous pulls
            log.warning("credentials.store_failed", host=self._host, error=exc.message)
            return None

    async def _helped(self, helper: str, key: str) -> Credential | None:
        known = self._answers.get((helper, key))
        if known and known[0] > anyio.current_time():
            return known[1]
        found = await ask_helper(helper, helper_key(key))
        self._answers[helper, key] = (anyio.current_time() + _HELPER_REMEMBERED, found)
        return found

    async def _load(self) -> list[AuthFile]:
        return await to_thread.run_sync(self._load_changed)

    def _load_changed(self) -> list[AuthFile]:
        given = self._options.docker_config
        return [self._load_one(path) for path in ([given] if given else usual_places())]

    def _load_one(self, path: Path) -> AuthFile:
        stamp, file = self._files.get(path, (None, _NO_FILE))
        try:
            status = path.stat()
            now = (status.st_mtime_ns, status.st_size, status.st_ino)
            if now != stamp:
                file = _read(path)
                self._files[path] = (now, file)
        except FileNotFoundError:
            self._files.pop(path, None)
            return _NO_FILE
        except (OSError, AuthError) as exc:  # half-written or unreadable: what was known stays
            log.warning("credentials.file_skipped", path=str(path), error=str(exc))
        return file


async def ask_helper(name: str, server: str) -> Credential | None:
    """Run `docker-credential-NAME get`; None when it knows nothing.

    Raises:
        AuthError: there is no such program, it failed, or it took too long.
    """
    program = f"docker-credential-{name}"
    if os.sep in name:
        raise AuthError(f"{name!r} is not the name of a credential helper: expected what follows docker-credential-")
    try:
        with anyio.fail_after(_HELPER_TIMEOUT):
            done = await anyio.run_process([program, "get"], input=server.encode(), check=False)
    except TimeoutError as exc:
        raise AuthError(f"{program} get: no answer for {server} within {_HELPER_TIMEOUT:g} s") from exc
    except OSError as exc:
        advice = "install it or remove it from the configuration"
        raise AuthError(f"{program}: cannot be run: {exc.strerror}; {advice}") from exc
    if done.returncode != 0:
        if b"not found" in done.stdout + done.stderr:
            return None
        raise AuthError(f"{program} get: failed for {server} with exit status {done.returncode}")
    return _helper_answer(done.stdout, program)


def _helper_answer(output: bytes, program: str) -> Credential | None:
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError):
        raise AuthError(f"{program} get: its output is not an object with Username and Secret") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise AuthError(f"{program} get: Username and Secret must be strings")
    if not secret:
        return None
    return Credential(identity_token=secret) if username == "<token>" else Credential(username, secret)


def _read(path: Path) -> AuthFile:
    with path.open("rb") as file:
        return parse_auth_file(file.read(MAX_FILE), path)
