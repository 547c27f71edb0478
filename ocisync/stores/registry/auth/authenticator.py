"""What requests to one registry host show: its own headers, and the authorization that the registry asked for.

A registry says with a challenge (401, WWW-Authenticate) which authorization it wants. What it said for one repository
need not hold for another: a host may serve strangers here and want a password there, or stand in front of several token
servers. So a challenge is kept for the repository that it came from, and is a guess for all others:

1. A repository that has sent a challenge is asked with what that challenge wants, from the start.
2. For any other, the host's challenge is the guess: from `/v2/`, or from another repository. `/v2/` is looked at once,
   and only where credentials are configured for the host: many registries answer strangers with 404, 403 or a part of
   a list where they should ask for a password.
3. A guess that comes to nothing is never final: the request is sent with nothing to show, and the registry's answer to
   that counts.

No secret leaves for a host that it was not meant for. Credentials and the host's own headers go to the registry's own
origin; credentials go to a token server of the registry's site, or of a host listed in `realms`. A token server
elsewhere, and a registry that a redirect leads to, are asked for anonymous tokens only.
Spec: distribution, "Token Authentication Specification".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import anyio
import structlog
from yarl import URL

from ocisync.errors import AuthError, OcisyncError, RateLimited, RedirectRefused
from ocisync.stores.registry.auth.challenge import Challenge, best_challenge, is_same_server
from ocisync.stores.registry.auth.credentials import Credentials
from ocisync.stores.registry.auth.docker_config import ANONYMOUS, Credential
from ocisync.stores.registry.auth.scopes import PUSH, Grant, choose_scopes
from ocisync.stores.registry.auth.tokens import Realm, Token, fetch_token
from ocisync.stores.registry.http.exchange import HttpExchange
from ocisync.stores.registry.http.host_limiter import HostLimiter
from ocisync.stores.registry.http.hosts import same_origin
from ocisync.stores.registry.http.policy import MAX_REDIRECTS, REDIRECTS, RETRIED, check_realm, redirect_target
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.options import RegistryOptions

log = structlog.get_logger(__name__)
_SCOPE_REFUSED = frozenset({400, 403, 404, 406, 415, 422})  # by a token server; 401 is about the credentials
_CREDENTIALS_UNUSED = frozenset({403, 404})  # how registries hide from strangers that they want credentials


class Proof(NamedTuple):
    """What one request shows to the registry's own origin."""

    header: str | None = None  # Authorization
    is_guess: bool = False  # the repository itself has not asked for it
    challenge: Challenge | None = None  # that could not be answered, and
    failure: OcisyncError | None = None  # why


_NOTHING = Proof()


class Authenticator:
    """The challenges, credentials and tokens of one registry host: nothing is shared with another."""

    def __init__(
        self, host: str, registry: URL, options: RegistryOptions, http: HttpExchange, limiter: HostLimiter
    ) -> None:
        self._host = host
        self._registry = registry
        self._options = options
        self._http = http
        self._limiter = limiter
        self._credentials = Credentials(host, options)
        self._own_headers: Mapping[str, str] | None = None  # None: not read yet
        self._guess = _HostChallenge()
        self._challenges: dict[str, Challenge | None] = {}  # by repository; None: it is asked with nothing to show
        self._anonymous: set[str] = set()  # repositories for which there is nothing to show
        self._tokens = _Tokens()

    async def prepare(self, grant: Grant, *, is_read: bool) -> Proof:
        """What to show from the start, as far as that is known or can be guessed.

        Raises:
            RateLimited: the token server asked to be left alone.
            OcisyncError: the token server that the repository is known to want cannot be asked.
        """
        if (token := self._tokens.find(grant)) is not None:
            return Proof(token.header, is_guess=grant.repository not in self._challenges)
        is_guess = grant.repository not in self._challenges
        challenge = await self._guess_challenge(grant) if is_guess else self._challenges[grant.repository]
        if challenge is None:
            self._challenges.setdefault(grant.repository, None)
            return _NOTHING
        try:
            header = await self._obtain(grant, challenge, None, is_read=is_read)
        except RateLimited:
            raise
        except OcisyncError as exc:
            if exc.retryable and not is_guess:
                raise
            log.debug("auth.guess_failed", host=self._host, repository=grant.repository, error=exc.message)
            self._challenges[grant.repository] = None
            return Proof(challenge=challenge, failure=exc)
        return Proof(header, is_guess)

    def has_shown(self, grant: Grant) -> bool:
        """Whether credentials were taken for this."""
        return self._tokens.find(grant) is not None

    async def respond(self, grant: Grant, proof: Proof, answer: Response, *, is_read: bool) -> Proof | None:
        """What to show instead, after an answer that may want something else; None: the answer stands.

        Raises:
            AuthError: there is nothing better to show, or it must not be shown to the realm that was named.
        """
        if not same_origin(answer.url, self._registry):
            return proof if is_read and await self._is_welcome_elsewhere(grant, answer) else None
        if answer.status == 401:
            return await self._respond_to_challenge(grant, proof, answer, is_read=is_read)
        if answer.status not in _CREDENTIALS_UNUSED or proof.header is not None or proof.failure is not None:
            return None
        if not await self._has_unused_credentials(grant):
            return None
        try:
            challenge = await self._look()
        except OcisyncError as exc:  # the answer that there is stands
            log.debug("auth.look_failed", host=self._host, error=exc.message)
            return None
        if challenge is None:
            return None
        try:
            return Proof(await self._obtain(grant, challenge, None, is_read=is_read), is_guess=True)
        except AuthError as exc:
            log.debug("auth.guess_failed", host=self._host, repository=grant.repository, error=exc.message)
            return None

    async def headers_for(self, url: URL, grant: Grant, proof: Proof) -> Mapping[str, str]:
        """What goes to a URL beside the request's own headers; nothing that is secret goes to another origin."""
        if not same_origin(url, self._registry):
            token = self._tokens.find_elsewhere(url, grant)
            return {"Authorization": token.header} if token else {}
        if self._own_headers is None:
            self._own_headers = await self._credentials.headers()
        return {**self._own_headers, "Authorization": proof.header} if proof.header else self._own_headers

    async def _respond_to_challenge(
        self, grant: Grant, proof: Proof, answer: Response, *, is_read: bool
    ) -> Proof | None:
        challenge = best_challenge(answer.headers.getall("WWW-Authenticate", []))
        if challenge is not None:
            challenge = self._prefer_bearer(grant, challenge, proof)
            self._challenges[grant.repository] = challenge
            self._guess.learn(challenge)
        elif proof.header is None:  # some registries tell only at /v2/ what they want
            challenge = await self._look()
        if proof.failure is not None and (challenge is None or is_same_server(challenge, proof.challenge)):
            raise proof.failure  # it was asked just now, and would say the same
        if proof.header is not None:
            self._credentials.forget(proof.header)
        failure = AuthError(
            f"{self._host}: status 401 without a Basic or Bearer challenge to answer", host=self._host, status=401
        )
        if challenge is not None:
            try:
                return Proof(await self._obtain(grant, challenge, proof.header, is_read=is_read))
            except AuthError as exc:
                failure = exc
        if proof.header is None or not proof.is_guess:
            raise failure
        # What was shown was a guess, and it was refused: strangers may be welcome where these credentials are not.
        self._challenges[grant.repository] = None
        return Proof(challenge=challenge, failure=failure)

    def _prefer_bearer(self, grant: Grant, challenge: Challenge, proof: Proof) -> Challenge:
        """The token server that a token came from, where a registry answers with Basic alone to a token it refuses.

        Harbor does so, and need not take the login itself.
        """
        if challenge.scheme != "basic" or not (proof.header or "").startswith("Bearer "):
            return challenge
        known = self._challenges.get(grant.repository) or self._guess.challenge
        return replace(known, alternative=challenge) if known is not None and known.scheme == "bearer" else challenge

    async def _has_unused_credentials(self, grant: Grant) -> bool:
        """Whether there is something that could be shown, if only the host said how; looked up once per repository."""
        if (self._guess.is_looked_up and self._guess.challenge is None) or grant.repository in self._anonymous:
            return False
        if (await self._credentials.find(grant.repository)).is_anonymous:
            self._anonymous.add(grant.repository)
            return False
        return True

    async def _guess_challenge(self, grant: Grant) -> Challenge | None:
        """What a repository that has not been asked yet may want."""
        if not self._guess.is_looked_up and await self._credentials.is_configured(grant.repository):
            await self._look()
        return self._guess.challenge

    async def _look(self) -> Challenge | None:
        """What `/v2/` asks for, looked at once; also a 200 may say what it would take."""
        async with self._guess.lock:
            if not self._guess.is_looked_up:
                answer = await self._get_root()
                try:
                    challenge = best_challenge(answer.headers.getall("WWW-Authenticate", []))
                    await answer.beginning()
                finally:
                    answer.close()
                self._guess.is_looked_up = answer.status not in RETRIED
                if challenge is not None:
                    self._guess.learn(challenge)
        return self._guess.challenge

    async def _get_root(self) -> Response:
        """What `/v2/` answers; redirects are followed within the registry's own origin."""
        grant, url = Grant(""), self._registry.with_path("/v2/")
        for _ in range(MAX_REDIRECTS):
            answer = await self._http.exchange("GET", url, await self.headers_for(url, grant, _NOTHING))
            if answer.status not in REDIRECTS:
                break
            try:
                location = redirect_target("GET", answer.status, url, answer.headers.get("Location"))
            except RedirectRefused:
                break
            if not same_origin(location, self._registry):
                break
            await answer.beginning()
            url = location
        return answer

    async def _obtain(self, grant: Grant, challenge: Challenge, rejected: str | None, *, is_read: bool) -> str:
        async with self._tokens.locks[grant]:
            held = self._tokens.find(grant)
            if held is not None and held.header != rejected:
                return held.header  # another request has renewed it meanwhile
            if challenge.scheme == "bearer":
                token = await self._get_bearer(grant, challenge, rejected, is_read=is_read)
            else:
                token = await self._get_basic(grant, rejected)
            self._tokens.keep(grant, token)
            return token.header

    async def _get_bearer(self, grant: Grant, challenge: Challenge, rejected: str | None, *, is_read: bool) -> Token:
        scopes = choose_scopes(
            grant, challenge.parameters.get("scope", ""), is_read=is_read, is_insufficient=rejected is not None
        )
        credential = await self._credentials.find(grant.repository)
        try:
            return await self._ask_token_server(challenge, scopes, credential)
        except AuthError:
            self._credentials.forget("")
            renewed = await self._credentials.find(grant.repository)
            if renewed != credential:
                return await self._ask_token_server(challenge, scopes, renewed)
            if challenge.alternative is None or not credential.username or credential.basic == rejected:
                raise
            return Token(credential.basic, credential.expires)  # the registry takes the login itself as well

    async def _ask_token_server(
        self, challenge: Challenge, choices: list[tuple[str, ...]], credential: Credential
    ) -> Token:
        """A token for the first of the scopes that the token server does not refuse."""
        url = check_realm(
            challenge.parameters["realm"],
            self._registry,
            self._host,
            self._options.realm_hosts,
            is_secret=not credential.is_anonymous,
        )
        realm = Realm(url, challenge.parameters.get("service", ""))
        failure: AuthError | None = None
        for scopes in choices:
            await self._limiter.wait_pause()  # the token server may have asked for it while we waited for our turn
            try:
                return await fetch_token(self._http, realm, scopes, credential, self._limiter)
            except AuthError as exc:
                failure = failure or exc
                if exc.facts.get("status") not in _SCOPE_REFUSED:
                    break
        assert failure is not None, "there is always a scope to ask for"
        raise failure

    async def _get_basic(self, grant: Grant, rejected: str | None) -> Token:
        credential = await self._credentials.find(grant.repository)
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

    async def _is_welcome_elsewhere(self, grant: Grant, answer: Response) -> bool:
        """Get an anonymous token for another registry that a redirect led to, where it asks for one."""
        challenge = best_challenge(answer.headers.getall("WWW-Authenticate", []))
        is_registry = answer.url.path.startswith("/v2/")
        if answer.status != 401 or challenge is None or challenge.scheme != "bearer" or not is_registry:
            return False
        host = answer.url.host or ""
        url = check_realm(challenge.parameters["realm"], answer.url, host, (), is_secret=False)
        scopes = tuple(challenge.parameters.get("scope", "").split()) or grant.scopes
        realm = Realm(url, challenge.parameters.get("service", ""))
        token = await fetch_token(self._http, realm, scopes, ANONYMOUS, self._limiter)
        self._tokens.keep_elsewhere(answer.url, grant, token)
        return True


class _HostChallenge:
    """What the host as a whole seems to want: as `/v2/` said, else as a repository said last."""

    def __init__(self) -> None:
        self.challenge: Challenge | None = None
        self.is_looked_up = False
        self.lock = anyio.Lock(fast_acquire=True)

    def learn(self, challenge: Challenge) -> None:
        """Take note of a challenge, without its scope: that is for the one repository it came from."""
        parameters = {name: value for name, value in challenge.parameters.items() if name != "scope"}
        if "realm" in parameters:  # nvcr.io writes the scope into the realm
            parameters["realm"] = re.sub(r"([?&])scope=[^&#]*&?", r"\1", parameters["realm"]).rstrip("?&")
        self.challenge = replace(challenge, parameters=parameters)


class _Tokens:
    """The tokens of one host, each for what it was asked for."""

    def __init__(self) -> None:
        self._own: dict[Grant, Token] = {}
        self._elsewhere: dict[tuple[str, str], Token] = {}  # by origin and our repository
        self.locks: defaultdict[Grant, anyio.Lock] = defaultdict(anyio.Lock)

    def find(self, grant: Grant) -> Token | None:
        """A fresh token for this, or for more."""
        if not self._own:
            return None
        for known in (grant, replace(grant, actions=PUSH)):
            if (token := self._own.get(known)) is not None and token.is_fresh:
                return token
        return None

    def keep(self, grant: Grant, token: Token) -> None:
        """Keep a token, and forget those that have ended."""
        self._own = {known: one for known, one in self._own.items() if one.is_fresh}
        self._own[grant] = token

    def find_elsewhere(self, url: URL, grant: Grant) -> Token | None:
        """A fresh anonymous token for another registry."""
        token = self._elsewhere.get((str(url.origin()), grant.repository)) if self._elsewhere else None
        return token if token is not None and token.is_fresh else None

    def keep_elsewhere(self, url: URL, grant: Grant, token: Token) -> None:
        """Keep an anonymous token for another registry."""
        self._elsewhere = {place: one for place, one in self._elsewhere.items() if one.is_fresh}
        self._elsewhere[str(url.origin()), grant.repository] = token
