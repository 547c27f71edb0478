"""A plain, blocking HTTP client for a registry: what the tests use to look from outside."""

import base64
import http.client
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def fetch(
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    authority: Path | None = None,
) -> Reply:
    """One request on a connection of its own; redirects are not followed."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=authority)
        connection = http.client.HTTPSConnection(parts.netloc, timeout=30, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, found, response.read())
    finally:
        connection.close()


@dataclass(slots=True)
class RegistryClient:
    """Requests to one registry, anonymous, with basic or with bearer authentication."""

    url: str
    username: str = ""
    password: str = ""
    authority: Path | None = None
    _tokens: dict[str, str] = field(default_factory=dict)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request; `path` may be a whole URL. A bearer challenge is answered once."""
        url = path if "://" in path else self.url + path
        scope = "/".join(urlsplit(url).path.split("/")[:-2])
        known = self._tokens.get(scope) or self._basic()
        sent = dict(headers or {}) | ({"Authorization": known} if known else {})
        reply = fetch(method, url, body, sent, self.authority)
        if reply.status != 401 or "Bearer" not in reply.headers.get("www-authenticate", ""):
            return reply
        self._tokens[scope] = self._token(reply.headers["www-authenticate"])
        return fetch(method, url, body, sent | {"Authorization": self._tokens[scope]}, self.authority)

    def expect(
        self,
        status: int,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """As `request`; any other status is an error."""
        reply = self.request(method, path, body, headers)
        if reply.status != status:
            raise RuntimeError(f"{method} {path}: {reply.status}, not {status}: {reply.body[:500]!r}")
        return reply

    def _basic(self) -> str:
        pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return f"Basic {pair}" if self.username else ""

    def _token(self, challenge: str) -> str:
        asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = asked.pop("realm")
        basic = {"Authorization": self._basic()} if self.username else {}
        reply = fetch("GET", f"{realm}?{urlencode(asked)}", headers=basic, authority=self.authority)
        return f"Bearer {json.loads(reply.body)['token']}" if reply.status == 200 else ""
