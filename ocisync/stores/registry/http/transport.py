"""Requests to one registry host: `open` sends one until it is answered, `_attempt` is one try from place to status."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NoReturn, TypeVar

import anyio
import structlog
from aiohttp import ClientSession
from multidict import istr
from yarl import URL

from ocisync.content.cost import PullQuota
from ocisync.errors import Handling, NetworkError, OcisyncError, RateLimited, RedirectRefused, RegistryError
from ocisync.stores.registry.auth.authenticator import Authenticator, Proof
from ocisync.stores.registry.auth.scopes import NOTHING, Grant
from ocisync.stores.registry.host_facts import HostFacts
from ocisync.stores.registry.http.errors import check_not_web_page, find_warnings, refusal
from ocisync.stores.registry.http.exchange import Body, HttpExchange
from ocisync.stores.registry.http.host_limiter import HostLimiter, leave_nothing
from ocisync.stores.registry.http.hosts import endpoint, safe_url
from ocisync.stores.registry.http.policy import BUSY, DENIED, MAX_REDIRECTS, REDIRECTS, RETRIED, redirect_target
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.tls_probe import speaks_tls
from ocisync.stores.registry.options import OnWait, RegistryOptions, wait_silently
from ocisync.stores.registry.pull_budget import PullBudget

log = structlog.get_logger(__name__)
_T = TypeVar("_T")
_MOST_TRIES = 100  # of one request, however often the host asks for patience
_LONG = 10.0  # seconds; what must wait longer stands still
_SECONDARY_LIMIT = 403  # GitHub's, with Retry-After
_WARNING, _MOST_WARNINGS = istr("Warning"), 100  # of one host that are logged
_PULLS_LEFT = istr("RateLimit-Remaining")
_WANTS_TLS = re.compile("HTTP request .*HTTPS", re.IGNORECASE)  # Go's server, nginx, Apache
_ANY_BUT_BUSY = frozenset(range(200, 600)) - BUSY


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `accept` are the statuses that count as an answer."""

    method: str
    url: URL
    grant: Grant
    accept: frozenset[int] = frozenset({200})
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = field(default=None, repr=False)
    size: int = 0  # bytes that the answer should have, where that may be many
    is_upload: bool = False  # sent once, from the place that `hold_upload_place` gave
    is_commit: bool = False  # sent once: it may have been heeded although it failed, so whoever sends it looks first

    @property
    def is_pull(self) -> bool:
        """Whether hosts that count pulls count it."""
        return self.method == "GET" and self.is_of_manifest

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing."""
        return self.method in ("GET", "HEAD")

    @property
    def is_of_manifest(self) -> bool:
        """Whether it is for a manifest, and not for one of another kind."""
        return "/manifests/" in self.url.raw_path


class UploadMoved(RedirectRefused):
    """An upload was redirected: its body, which was read, must be opened once more and sent to another place."""

    def __init__(self, message: str, location: URL) -> None:
        super().__init__(message)
        self.location = location


class Transport:
    """The way to one registry host, shared by all its repositories."""

    def __init__(
        self,
        host: str,
        options: RegistryOptions,
        session: ClientSession,
        on_wait: OnWait = wait_silently,
        key: str = "",
        whole: HostLimiter | None = None,
    ) -> None:
        self.host = host
        self.key = key or host  # what the options are for: the host, or a path of it
        self.options = options
        self.origin = endpoint(host, options)
        self.facts = HostFacts(options.chunk_size)
        self.limiter = HostLimiter(options, host, on_wait, whole)
        self._http = HttpExchange(session, self.origin.host or "", options, self.limiter.throttle)
        self._auth = Authenticator(host, self.origin, options, self._http, self.limiter)
        self._on_wait = on_wait
        if options.rate_limit is not None:
            self.facts.quota = PullBudget(self.key, options.rate_limit, on_wait, share=options.share)

    async def open(self, request: Request) -> Response:
        """An accepted answer that the caller closes; the request is sent again while that may help.

        Raises:
            NotFound, AuthError, RateLimited, RegistryError: the registry refused, and will not or did not think better.
            RedirectRefused, NetworkError and its kin: it could not be reached, or not in a safe way.
        """
        attempt = tries = 0
        while True:
            attempt, tries, answered = attempt + 1, tries + 1, self.limiter.answered
            try:
                return await self._attempt(request)
            except OcisyncError as exc:
                if isinstance(exc, RateLimited) and self.limiter.answered > answered:
                    attempt = 1  # the host answers others: waiting for one's turn is no failure
                gives_up = attempt > self.options.retries or tries > _MOST_TRIES
                is_final = request.is_upload or (request.is_commit and not isinstance(exc, RateLimited))
                if gives_up or not exc.retryable or is_final:
                    await self._check_for_tls(exc)
                    raise
                await self.backoff(attempt, exc)

    async def _attempt(self, request: Request) -> Response:
        """One try: an accepted answer, which keeps its place at the host until it is closed.

        The answers to a request may ask for more requests: a redirect for one to another place, a 401 for the same one
        with another authorization. Credentials go to the registry's own origin only, whatever the redirects.
        """
        if request.is_pull:
            await self._begin_pull(request)
        release = leave_nothing
        try:
            # An upload has its place already, taken by `hold_upload_place` before its source was opened.
            release = await self.limiter.enter(request.grant.repository, has_place=request.is_upload)
            pulls_ended = self.facts.quota.ended if self.facts.quota else 0
            proof = await self._auth.prepare(request.grant, is_read=request.is_read)
            url, redirects, answered = request.url, 0, list[URL]()
            while True:
                headers = {**await self._auth.headers_for(url, request.grant, proof), **request.headers}
                answer = await self._http.exchange(request.method, url, headers, request.body, request.size)
                if answer.status in REDIRECTS and answer.status not in request.accept:
                    redirects += 1
                    url = await self._follow(request, answer, redirects)
                    continue
                # What denies may only want something else to be shown; each registry is answered once.
                if answer.status not in DENIED or (origin := answer.url.origin()) in answered:
                    break
                answered.append(origin)
                if (better := await self._respond(request, proof, answer)) is None:
                    break
                proof = better
            self._observe_headers(request, answer, pulls_ended)
            if answer.status not in request.accept:
                await self._raise_refusal(request, answer, proof)
            self.limiter.record_success()
        except BaseException:
            release()
            raise
        else:
            answer.when_closed(release)
            return answer
        finally:
            if request.is_pull:
                self._end_pull()

    def send(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """An accepted answer, closed with the block; raises as `open` does."""
        return _Sent(self, request)

    async def read(self, request: Request, take: Callable[[Response], Awaitable[_T]]) -> _T:
        """What `take` makes of an accepted answer, asked for again when its body breaks off; raises as `open` does."""
        failures = 0
        while True:
            async with self.send(request) as answer:
                try:
                    return await take(answer)
                except OcisyncError as exc:
                    failures += 1
                    if not exc.retryable or failures > self.options.retries:
                        raise
                    reason = exc
            await self.backoff(failures, reason)

    async def check_login(self) -> bool:
        """Whether the registry asked for the credentials and took them; False when it lets anybody in.

        Raises:
            AuthError: it refused them.
            OcisyncError: it cannot be reached, or is no registry.
        """
        grant = Grant("", NOTHING)
        async with self.send(Request("GET", self.origin.with_path("/v2/"), grant)) as answer:
            check_not_web_page(answer.url, answer.media_type, await answer.beginning())
        return self._auth.has_shown(grant)

    def can_bulk(self, url: URL, size: int) -> bool:
        """Whether threads may send a body of this size to a URL."""
        return self._http.can_bulk(url, size)

    def hold_upload_place(self, repository: str) -> AbstractAsyncContextManager[object]:
        """A place for one upload to a repository; its requests wait for nothing but their turn."""
        return self.limiter.hold_upload_place(repository)

    async def backoff(self, attempt: int, reason: OcisyncError) -> None:
        """Wait before the next try."""
        wait = self.options.backoff.wait(attempt, random.random())
        log.debug("request.retried", host=self.host, attempt=attempt, wait=wait, code=reason.code, error=reason.message)
        await anyio.sleep(wait)

    def without_retries(self) -> Transport:
        """The same way to the same host, for those who would rather ask another than try again."""
        other = copy(self)
        other.options = replace(self.options, retries=0)
        return other

    @property
    def has_no_pull_limit(self) -> bool:
        """Whether the host gave a manifest and told of no limit on pulls."""
        return self.facts.gave_freely and (self.facts.quota is None or self.facts.quota.is_unlimited)

    @property
    def is_paused(self) -> bool:
        """Whether the host asked to be left alone."""
        return self.limiter.is_paused

    @property
    def is_stalled(self) -> bool:
        """Whether nothing can be pulled for long: the host asked for a pause, or its budget is used up."""
        return bool(self.wait_reason)

    @property
    def wait_reason(self) -> str:
        """What it waits for, as people call it; empty while it is not stalled."""
        quota = self.facts.quota
        if quota is not None and quota.is_paused:
            known = quota.allowance
            left = f" ({known.remaining} of {known.limit} are left)" if known and known.limit else ""
            return f"pulls from {self.host} to renew{left}"
        if self.limiter.pause_left >= _LONG:
            return f"a pause that {self.host} asked for, {self.limiter.pause_left:.0f} s more"
        return ""

    @property
    def allowance(self) -> PullQuota | None:
        """What the host said last of its limit on pulls."""
        return self.facts.quota.allowance if self.facts.quota else None

    async def _follow(self, request: Request, answer: Response, redirects: int) -> URL:
        """Where a redirect leads; its answer is closed."""
        await answer.beginning()
        if redirects > MAX_REDIRECTS:
            raise RedirectRefused(f"{safe_url(request.url)}: more than {MAX_REDIRECTS} redirects")
        location = redirect_target(request.method, answer.status, answer.url, answer.headers.get("Location"))
        if request.is_upload:  # its body has been read, and cannot be sent a second time
            raise UploadMoved(f"{safe_url(answer.url)}: the upload was redirected to {safe_url(location)}", location)
        return location

    async def _respond(self, request: Request, proof: Proof, answer: Response) -> Proof | None:
        """What to show instead, and the answer is closed; None when the answer stands."""
        try:
            better = await self._auth.respond(request.grant, proof, answer, is_read=request.is_read)
        except BaseException:
            answer.close()
            raise
        if better is None:
            return None
        await answer.beginning()
        if request.is_upload:
            raise RegistryError(
                f"{safe_url(request.url)}: the authorization ended during an upload",
                handling=Handling.RETRY,
                host=self.host,
            )
        return better

    async def _raise_refusal(self, request: Request, answer: Response, proof: Proof) -> NoReturn:
        """Raise the error of an answer that was not hoped for; a busy host is left alone for a while."""
        body = await answer.beginning()
        if answer.status == 401 and proof.failure is not None:
            raise proof.failure
        retry_after = answer.headers.get("Retry-After")
        is_asked = retry_after is not None and (answer.status == _SECONDARY_LIMIT or answer.status in RETRIED)
        if is_asked or answer.status in BUSY:
            window = self.facts.quota.window if self.facts.quota else 0.0
            self.limiter.slow_down(answer.status, answer.headers, window)
        raise refusal(request.method, answer.url, answer.status, body, retry_after=retry_after)

    def _log_warnings(self, answer: Response) -> None:
        for text in find_warnings(answer.headers.getall(_WARNING)):
            if text not in self.facts.warned and len(self.facts.warned) < _MOST_WARNINGS:
                self.facts.warned.add(text)
                log.warning("registry.warned", host=self.host, warning=text)

    async def _check_for_tls(self, failed: OcisyncError) -> None:
        """Say so when a registry on loopback, which is spoken to without TLS unless told otherwise, wants TLS.

        Raises:
            NetworkError: it does.
        """
        is_plain = self.origin.scheme == "http"
        is_guess = self.options.plain_http is None
        is_odd = isinstance(failed, NetworkError) or _WANTS_TLS.search(failed.message) is not None
        if is_plain and is_odd and await speaks_tls(self.origin):
            why = "as always on loopback" if is_guess else "as `plain_http: true` says"
            raise NetworkError(
                f"{self.host}: wants TLS, and plain HTTP was spoken, {why}: set `plain_http: false` "
                "for this registry, and `ca` where its authority is not one of the system's",
                handling=Handling.FAIL,
                host=self.origin.host,
            ) from failed

    async def _begin_pull(self, request: Request) -> None:
        """Wait until the host allows one more pull, where it is known to count them."""
        if self.facts.quota is None:
            self.facts.pulls += 1
        else:
            await self.facts.quota.take(partial(self._look, request))

    def _end_pull(self) -> None:
        if self.facts.quota is None:
            self.facts.pulls -= 1
        else:
            self.facts.quota.give_back()

    async def _look(self, pull: Request) -> None:
        """Let the host tell what is left of its budget, whatever else it says."""
        answer = await self._attempt(replace(pull, method="HEAD", accept=_ANY_BUT_BUSY))
        answer.close()

    def _observe_headers(self, request: Request, answer: Response, ended_before: int) -> None:
        """Take what an answer says of a limit on pulls; from the first that speaks of one, pulls are counted.

        What a registry wants people to know (distribution-spec 1.1, "Warnings") is logged, once.
        """
        if _WARNING in answer.headers:
            self._log_warnings(answer)
        if _PULLS_LEFT not in answer.headers:
            self.facts.gave_freely |= answer.status == 200 and request.is_of_manifest
        elif self.facts.quota is None:
            self.facts.quota = PullBudget(
                self.key, None, self._on_wait, under_way=self.facts.pulls, share=self.options.share
            )
        if self.facts.quota is not None:
            self.facts.quota.observe(answer.headers, ended_before)


class _Sent(AbstractAsyncContextManager[Response]):
    """The time of one answer. A generator would cost each request a hundredth of its CPU time."""

    def __init__(self, transport: Transport, request: Request) -> None:
        self._transport = transport
        self._request = request

    async def __aenter__(self) -> Response:
        self._answer = await self._transport.open(self._request)
        return self._answer

    async def __aexit__(self, *exc: object) -> None:
        self._answer.close()
