"""Finding a repository's credentials: options, credential helpers, ECR, docker's and podman's files."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio import to_thread

from ocisync.errors import AuthError
from ocisync.logs import register_secret
from ocisync.stores.registry.auth.credential_helpers import ask_helper
from ocisync.stores.registry.auth.docker_config import (
    ANONYMOUS,
    AuthFile,
    Credential,
    candidates,
    helper_key,
    parse_auth_file,
)
from ocisync.stores.registry.auth.ecr import fetch_password, is_ecr
from ocisync.stores.registry.auth.reloading_file import ReloadingFile
from ocisync.stores.registry.options import EcrOptions, RegistryOptions

log = structlog.get_logger(__name__)
_REMEMBERED = 300.0  # seconds; helpers start a process, and some ask a cloud
_SEEN = 1.0  # seconds for which the files are believed where only a guess rests on it
_NO_FILE = AuthFile()
_AS_AWS_DOES = EcrOptions()

Ask = Callable[[], Awaitable[Credential | None]]


class Credentials:
    """The credentials of one registry host; files are read again when they change."""

    def __init__(self, host: str, options: RegistryOptions) -> None:
        self._host = host
        self._options = options
        self._files: dict[Path, ReloadingFile[AuthFile]] = {}
        self._secrets: dict[Path, ReloadingFile[str]] = {}
        self._answers = Answers()
        self._seen: list[AuthFile] = []
        self._seen_until = 0.0

    async def find(self, repository: str) -> Credential:
        """What to show for a repository; anonymous when nothing is known.

        Raises:
            AuthError: a configured credential helper failed, or ECR gives no password.
            OcisyncError: ECR cannot be asked.
        """
        options = self._options
        if options.username or options.password or options.identity_token:
            return await self._read_configured()
        if options.credential_helper:
            return await self._ask_helper(options.credential_helper, self._host) or ANONYMOUS
        if options.ecr is not None:
            return await self._ask_ecr(options.ecr)
        for file in await self._load():
            if found := await self._find_in_file(file, repository):
                return found
        return await self._ask_ecr(_AS_AWS_DOES) if is_ecr(self._host) else ANONYMOUS

    async def is_configured(self, repository: str) -> bool:
        """Whether somebody has set down credentials for this host or repository, without asking any helper for them.

        A credential store that serves every host counts only for the hosts that its file names, as `docker login` does.
        """
        options = self._options
        if options.username or options.password or options.identity_token or options.credential_helper or options.ecr:
            return True
        if anyio.current_time() > self._seen_until:  # each repository asks this first of all
            self._seen = await self._load()
            self._seen_until = anyio.current_time() + _SEEN
        files = self._seen
        return bool(files) and any(file.names(key) for key in candidates(self._host, repository) for file in files)

    async def headers(self) -> Mapping[str, str]:
        """Headers to send to the registry itself: docker's HttpHeaders, then the configured ones."""
        merged: dict[str, str] = {}
        for file in reversed(await self._load()):
            merged |= file.headers
        return merged | dict(self._options.headers)

    def forget(self, rejected: str) -> None:
        """Ask helpers and ECR again the next time, where what they said was refused."""
        self._answers.forget(rejected)

    async def _read_configured(self) -> Credential:
        options = self._options
        password = await self._read_secret(options.password, options.password_file)
        token = await self._read_secret(options.identity_token, options.identity_token_file)
        return Credential(options.username, password, token)

    async def _read_secret(self, text: str, path: Path | None) -> str:
        """A configured secret, as its file has it now."""
        if path is None:
            return text
        file = self._secrets.setdefault(path, ReloadingFile(path, _parse_secret, text))
        return await to_thread.run_sync(file.current)

    async def _find_in_file(self, file: AuthFile, repository: str) -> Credential | None:
        for key in candidates(self._host, repository):
            if helper := file.helpers.get(key):
                return await self._ask_helper(helper, key)
            if found := file.auths.get(key):
                return found
        return await self._ask_store(file.store) if file.store else None

    async def _ask_store(self, store: str) -> Credential | None:
        try:
            return await self._ask_helper(store, self._host)
        except AuthError as exc:  # a store serves every host: its absence must not stop anonymous pulls
            log.warning("credentials.store_failed", host=self._host, error=exc.message)
            return None

    async def _ask_helper(self, helper: str, key: str) -> Credential | None:
        return await self._answers.get((helper, key), partial(ask_helper, helper, helper_key(key)))

    async def _ask_ecr(self, chosen: EcrOptions) -> Credential:
        asked = partial(fetch_password, self._host, chosen, self._options)
        return await self._answers.get(("", self._host), asked) or ANONYMOUS

    async def _load(self) -> list[AuthFile]:
        return await to_thread.run_sync(self._load_changed)

    def _load_changed(self) -> list[AuthFile]:
        given = self._options.docker_config
        places = [given] if given else usual_places()
        for path in places:
            if path not in self._files and path.exists():
                self._files[path] = _auth_file(path)
        return [self._files[path].current() for path in places if path in self._files]


class Answers:
    """What helpers and clouds said; each is asked again when its answer has ended or was refused."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[float, Credential | None]] = {}
        self._asking = anyio.Lock()

    async def get(self, key: tuple[str, str], ask: Ask) -> Credential | None:
        """What is known, else what `ask` says."""
        async with self._asking:
            known = self._known.get(key)
            if known and known[0] > anyio.current_time():
                return known[1]
            found = await ask()
            ends = anyio.current_time() + _REMEMBERED
            if found is not None and found.expires < float("inf"):
                ends = found.expires
            self._known[key] = (ends, found)
            return found

    def forget(self, rejected: str) -> None:
        """Drop what gave this Authorization; without one that begins with Basic, all."""
        kept = self._known if rejected.startswith("Basic ") else {}
        self._known = {key: one for key, one in kept.items() if one[1] is not None and one[1].basic != rejected}


def _auth_file(path: Path) -> ReloadingFile[AuthFile]:
    return ReloadingFile(path, parse_auth_file, _NO_FILE)


def _parse_secret(raw: bytes, path: Path) -> str:
    try:
        text = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise AuthError(f"{path}: holds no secret; what it held before is used")
    register_secret(text)
    return text


def usual_places() -> list[Path]:
    """The credential files of podman and docker, in the order in which they count."""
    home = Path(os.environ.get("HOME") or "/")
    places: list[Path] = []
    if given := os.environ.get("REGISTRY_AUTH_FILE"):
        places.append(Path(given))
    if folder := os.environ.get("DOCKER_CONFIG"):
        places.append(Path(folder) / "config.json")
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(runtime) / "containers/auth.json")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return [*places, config / "containers/auth.json", home / ".docker/config.json"]
