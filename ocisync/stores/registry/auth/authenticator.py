"""Answering a registry's challenges: one Authorization header per repository and action, renewed once when refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import anyio
from yarl import URL

from ocisync.errors import AuthError
from ocisync.stores.registry.auth.challenge import Challenge, best_challenge
from ocisync.stores.registry.auth.credentials import Credentials
from ocisync.stores.registry.auth.tokens import Realm, Token, fetch_token
from ocisync.stores.registry.http.exchange import HttpExchange
from ocisync.stores.registry.http.policy import check_realm
from ocisync.stores.registry.options import RegistryOptions

PULL, PUSH = "pull", "pull,push"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request needs to be allowed."""

    repository: str  # "" for the list of all repositories
    actions: str = PULL
    also_from: str = ""  # another repository that is read in the same request

    @property
    def scopes(self) -> tuple[str, ...]:
        """As a token server is asked for it."""
        if not self.repository:
            return ("registry:catalog:*",)
        own = f"repository:{self.repository}:{self.actions}"
        return (own, f"repository:{self.also_from}:{PULL}") if self.also_from else (own,)


class Authenticator:
    """The challenges, credentials and tokens of one registry host: nothing is shared with another."""

    def __init__(self, host: str, registry: URL, options: RegistryOptions, http: HttpExchange) -> None:
        self.credentials = Credentials(host, options)
        self._host = host
        self._registry = registry
        self._options = options
        self._http = http
        self._challenge: Challenge | None = None
        self._held: dict[Grant, Token] = {}
        self._locks: defaultdict[Grant, anyio.Lock] = defaultdict(anyio.Lock)

    async def header(self, grant: Grant) -> str | None:
        """The Authorization to send at once; None as long as the host has not asked for any."""
        if (token := self._held_for(grant)) is not None:
            return token.header
        if self._challenge is None:
            return None
        return await self._obtain(grant, self._challenge, None)

    async def renew(self, grant: Grant, challenges: Sequence[str], rejected: str | None) -> str:
        """The Authorization after a 401 to a request that carried `rejected`.

        Raises:
            AuthError: there is nothing better to show, or it must not be shown to the realm that was named.
        """
        challenge = best_challenge(challenges)
        if challenge is None:
            raise AuthError(f"{self._host}: status 401 without a Basic or Bearer challenge to answer", host=self._host)
        self._challenge = challenge
        if rejected is not None:
            self.credentials.forget(rejected)
        return await self._obtain(grant, challenge, rejected)

    async def _obtain(self, grant: Grant, challenge: Challenge, rejected: str | None) -> str:
        async with self._locks[grant]:
            held = self._held_for(grant)
            if held is not None and held.header != rejected:
                return held.header  # another request has renewed it meanwhile
            is_bearer = challenge.scheme == "bearer"
            token = await (self._bearer(grant, challenge) if is_bearer else self._basic(grant, rejected))
            self._held = {known: one for known, one in self._held.items() if one.is_fresh}
            self._held[grant] = token
            return token.header

    async def _bearer(self, grant: Grant, challenge: Challenge) -> Token:
        url = check_realm(challenge.parameters["realm"], self._registry, self._host, self._options.realm_hosts)
        realm = Realm(url, challenge.parameters.get("service", ""))
        credential = await self.credentials.find(grant.repository)
        try:
            return await fetch_token(self._http, realm, grant.scopes, credential)
        except AuthError:
            self.credentials.forget("")
            renewed = await self.credentials.find(grant.repository)
            if renewed == credential:
                raise
            return await fetch_token(self._http, realm, grant.scopes, renewed)

    async def _basic(self, grant: Grant, rejected: str | None) -> Token:
        credential = await self.credentials.find(grant.repository)
        if credential.is_anonymous or not credential.username:
            raise AuthError(
                f"{self._host}/{grant.repository}: the registry wants a username and password; none was found in the "
                "configuration, docker's config.json or podman's auth.json",
                host=self._host,
            )
        if credential.basic == rejected:
            raise AuthError(
                f"{self._host}/{grant.repository}: the username and password were refused; log in again",
                host=self._host,
            )
        return Token(credential.basic, credential.expires)

    def _held_for(self, grant: Grant) -> Token | None:
        if not self._held:
            return None
        for known in (grant, replace(grant, actions=PUSH)):
            if (token := self._held.get(known)) is not None and token.is_fresh:
                return token
        return None
