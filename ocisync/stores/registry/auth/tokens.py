"""Fetching bearer tokens.

Spec: distribution, "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

import anyio
from yarl import URL

from ocisync.errors import AuthError, OcisyncError
from ocisync.model.outside_json import load_json
from ocisync.stores.registry.auth.docker_config import Credential
from ocisync.stores.registry.http.errors import find_words, refusal
from ocisync.stores.registry.http.exchange import HttpExchange
from ocisync.stores.registry.http.host_limiter import HostLimiter
from ocisync.stores.registry.http.hosts import safe_url
from ocisync.stores.registry.http.policy import BUSY, REDIRECTS, RETRIED

CLIENT_ID = "ocisync"
_DEFAULT_LIFE = 60.0  # seconds, when the server does not say
_SHARE_USED = 0.9  # of a token's life, so that it does not end on its way
_MAX_REPLY = 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Realm:
    """A token server that has been checked, and the service it is asked for."""

    url: URL
    service: str


@dataclass(frozen=True, slots=True)
class Token:
    """An Authorization header and how long it serves."""

    header: str = field(repr=False)
    expires: float  # on anyio's clock

    @property
    def is_fresh(self) -> bool:
        """Whether it may still be used."""
        return anyio.current_time() < self.expires


async def fetch_token(
    http: HttpExchange, realm: Realm, scopes: tuple[str, ...], credential: Credential, limiter: HostLimiter
) -> Token:
    """Ask a token server for the scopes; when it wants to be left alone, so is the registry, which needs its tokens.

    Raises:
        AuthError: `auth.denied`, or `auth.realm` for one that redirects: credentials do not follow.
        OcisyncError: it could not be reached, or failed.
    """
    method, url, headers, body = _build_request(realm, scopes, credential)
    answer = await http.exchange(method, url, headers, body)
    try:
        if answer.status in BUSY:
            limiter.slow_down(answer.status, answer.headers)
        if answer.status != 200:
            raise _refusal(method, realm, scopes, credential, answer.status, await answer.beginning())
        raw = await answer.read(_MAX_REPLY, "a token")
    finally:
        answer.close()
    return parse_token(raw, realm, anyio.current_time())


def parse_token(raw: bytes, realm: Realm, now: float) -> Token:
    """The token in a server's answer, counted from when it came: its own clock may be wrong.

    Raises:
        AuthError: there is none.
    """
    try:
        document = load_json(raw)
    except (ValueError, RecursionError):
        document = None
    answer = document if isinstance(document, dict) else {}
    text = answer.get("token") or answer.get("access_token")
    if not isinstance(text, str) or not (text.isascii() and text.isprintable()):
        raise AuthError(f"{safe_url(realm.url)}: the token server's answer holds no token")
    life = answer.get("expires_in")
    seconds = float(life) if isinstance(life, int | float) and 0 < life < 1e9 else _DEFAULT_LIFE
    return Token(f"Bearer {text}", now + seconds * _SHARE_USED)


def _build_request(
    realm: Realm, scopes: tuple[str, ...], credential: Credential
) -> tuple[str, URL, Mapping[str, str], bytes | None]:
    service = [("service", realm.service)] if realm.service else []
    if credential.identity_token:
        form = [("grant_type", "refresh_token"), ("client_id", CLIENT_ID), *service, ("scope", " ".join(scopes))]
        body = urlencode([*form, ("refresh_token", credential.identity_token)]).encode()
        return "POST", realm.url, {"Content-Type": "application/x-www-form-urlencoded"}, body
    query = [*realm.url.query.items(), *service, *(("scope", scope) for scope in scopes)]
    headers = {}
    if not credential.is_anonymous:
        query.append(("account", credential.username))
        headers["Authorization"] = credential.basic
    return "GET", realm.url.with_query(query), headers, None


def _refusal(
    method: str, realm: Realm, scopes: tuple[str, ...], credential: Credential, status: int, body: bytes
) -> OcisyncError:
    place = safe_url(realm.url)
    if status in REDIRECTS:
        return AuthError(
            f"{place}: the token server redirects (status {status}); credentials are not sent after it",
            code="auth.realm",
        )
    if status in RETRIED:
        return refusal(method, realm.url, status, body, retry_after="")
    words = find_words(body)
    login = "none were shown: log in" if credential.is_anonymous else "check the credentials"
    wanted = f" for {' '.join(scopes)[:200]}" if scopes else ""
    advice = f"check that the repository exists; {login}" if scopes else login
    return AuthError(
        f"{place}: no token was given{wanted} (status {status}{': ' if words else ''}{words}); {advice}",
        host=realm.url.host,
        status=status,
    )
