"""Fetching bearer tokens.

Spec: distribution, "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlencode

import anyio
from yarl import URL

from ocisync.errors import AuthError, OcisyncError, RedirectRefused
from ocisync.model.text.outside_json import load_json
from ocisync.stores.registry.auth.docker_config import Credential
from ocisync.stores.registry.http.errors import find_words, refusal
from ocisync.stores.registry.http.exchange import HttpExchange
from ocisync.stores.registry.http.host_limiter import HostLimiter
from ocisync.stores.registry.http.hosts import safe_url, same_origin
from ocisync.stores.registry.http.policy import BUSY, MAX_REDIRECTS, REDIRECTS, RETRIED, redirect_target
from ocisync.stores.registry.http.response import Response

CLIENT_ID = "ocisync"
_DEFAULT_LIFE = 60.0  # seconds, when the server does not say
_SHARE_USED = 0.9  # of a token's life, so that it does not end on its way
_LONGEST_LIFE = 1e9  # seconds; what says more is not believed
_MAX_REPLY = 1024 * 1024  # bytes
_GIVEN = frozenset({200, 201, 202, 203})
_NO_SUCH_WAY = {"GET": frozenset({405, 501}), "POST": frozenset({404, 405, 501})}  # 404 to a GET is about the scope


class Realm(NamedTuple):
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

    Some servers know only one of the two ways to ask, so the other follows where the first one is not known.

    Raises:
        AuthError: `auth.denied`, or `auth.realm` for one that redirects elsewhere: credentials do not follow.
        OcisyncError: it could not be reached, or failed.
    """
    ways = list_ways(realm, scopes, credential)
    for way in ways:
        answer = await _ask(http, way, is_secret=not credential.is_anonymous)
        try:
            if answer.status in _NO_SUCH_WAY[way.method] and way is not ways[-1]:
                await answer.beginning()
                continue
            if answer.status in BUSY:
                limiter.slow_down(answer.status, answer.headers)
            if answer.status not in _GIVEN:
                raise _refusal(way.method, realm, scopes, credential, answer.status, await answer.beginning())
            raw = await answer.read_document(_MAX_REPLY, "a token")
            return parse_token(raw, realm, anyio.current_time())
        finally:
            answer.close()
    raise AssertionError("there is always a way to ask")


async def _ask(http: HttpExchange, way: Way, *, is_secret: bool) -> Response:
    """The answer to one way of asking; a redirect is followed where nothing secret leaves its origin."""
    url = way.url
    for _ in range(MAX_REDIRECTS):
        answer = await http.exchange(way.method, url, way.headers, way.body)
        if answer.status not in REDIRECTS:
            return answer
        try:
            location = redirect_target(way.method, answer.status, url, answer.headers.get("Location"))
        except RedirectRefused:
            return answer
        if is_secret and not same_origin(location, way.url):
            return answer
        await answer.beginning()
        url = location
    return answer


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
    return Token(f"Bearer {text}", now + _life(answer.get("expires_in")) * _SHARE_USED)


def _life(said: object) -> float:
    """Seconds; some servers write the number as text."""
    try:
        seconds = float(said) if isinstance(said, int | float | str) else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    return seconds if 0 < seconds < _LONGEST_LIFE else _DEFAULT_LIFE


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask for a token."""

    method: str
    url: URL
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


def list_ways(realm: Realm, scopes: tuple[str, ...], credential: Credential) -> list[Way]:
    """GET with a login, or none, and POST with a form: an identity token goes by POST, anything else by GET first."""
    service = [("service", realm.service)] if realm.service else []
    query = [*realm.url.query.items(), *service, *(("scope", scope) for scope in scopes)]
    if credential.is_anonymous:
        return [Way("GET", realm.url.with_query(query), {})]
    by_query = Way(
        "GET",
        realm.url.with_query([*query, ("account", credential.username)]),
        {"Authorization": credential.basic},
    )
    common = [("client_id", CLIENT_ID), *service, ("scope", " ".join(scopes))]
    if credential.identity_token:
        by_form = _form(realm, [("grant_type", "refresh_token"), *common, ("refresh_token", credential.identity_token)])
        return [by_form, by_query] if credential.password else [by_form]
    login = [("username", credential.username), ("password", credential.password)]
    return [by_query, _form(realm, [("grant_type", "password"), *common, *login])]


def _form(realm: Realm, fields: list[tuple[str, str]]) -> Way:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return Way("POST", realm.url, headers, urlencode(fields).encode())


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
