"""docker's config.json and podman's auth.json: the credentials they hold. Pure."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ocisync.errors import AuthError, InvalidName
from ocisync.model.image_name import DOCKER_HUB, parse_host
from ocisync.model.text.outside_json import load_json

HUB_KEY = "https://index.docker.io/v1/"  # as docker writes Docker Hub's entry
_NOT_SENT = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "range", "transfer-encoding",
     "user-agent"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Credential:
    """What a registry or its token server is shown; all empty means anonymous."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    expires: float = math.inf  # on anyio's clock

    @property
    def is_anonymous(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.username or self.password or self.identity_token)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


ANONYMOUS = Credential()


@dataclass(frozen=True, slots=True)
class AuthFile:
    """One credential file, its keys normalised to `host[/path]`."""

    auths: Mapping[str, Credential] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    stored: frozenset[str] = frozenset()  # keys whose credentials are in the store

    def names(self, key: str) -> bool:
        """Whether there are credentials for a key, here or at a helper."""
        return key in self.auths or key in self.helpers or (bool(self.store) and key in self.stored)


def parse_auth_file(raw: bytes, path: Path) -> AuthFile:
    """Read a credential file; entries that hold nothing are left out.

    Raises:
        AuthError: not a JSON object.
    """
    try:
        document = load_json(raw)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise AuthError(f"{path}: not a JSON object, so no credentials can be read from it")
    store = document.get("credsStore")
    return AuthFile(
        {normal_key(key): found for key, value in _items(document, "auths") if (found := _credential(value))},
        {normal_key(key): name for key, name in _items(document, "credHelpers") if isinstance(name, str) and name},
        store if isinstance(store, str) else "",
        _headers(document),
        frozenset(normal_key(key) for key, _ in _items(document, "auths")),
    )


def candidates(host: str, repository: str) -> list[str]:
    """The keys that may hold a repository's credentials, the most exact first."""
    parts = repository.split("/") if repository else []
    return ["/".join([host, *parts[:count]]) for count in range(len(parts), -1, -1)]


def normal_key(key: str) -> str:
    """`host[/path]` of a key as docker or podman writes it: `https://index.docker.io/v1/`, `host`, `host/namespace`."""
    bare = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    host, _, path = bare.partition("/")
    try:
        host = parse_host(host)
    except InvalidName:
        return bare
    return host if path in ("", "v1", "v2") else f"{host}/{path}"


def helper_key(host: str) -> str:
    """How a credential helper is asked for a host."""
    return HUB_KEY if host == DOCKER_HUB else host


def _items(document: Mapping[str, object], key: str) -> list[tuple[str, object]]:
    value = document.get(key)
    return list(value.items()) if isinstance(value, dict) else []


def _credential(value: object) -> Credential | None:
    if not isinstance(value, dict):
        return None
    username, password = _pair(value.get("auth"))
    username = _text(value.get("username")) or username
    password = _text(value.get("password")) or password
    found = Credential(username, password, _text(value.get("identitytoken")))
    return None if found.is_anonymous else found


def _pair(auth: object) -> tuple[str, str]:
    if not isinstance(auth, str) or not auth:
        return "", ""
    try:
        username, _, password = base64.b64decode(auth).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return username, password.rstrip("\0")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _headers(document: Mapping[str, object]) -> dict[str, str]:
    listed = [(name, text) for name, text in _items(document, "HttpHeaders") if isinstance(text, str)]
    return {
        name: text
        for name, text in listed
        if name.lower() not in _NOT_SENT and name.isprintable() and text.isprintable()
    }
