"""Requests to one registry host: its gate, its credentials, redirects by hand, and retries."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import anyio
import structlog
from aiohttp import ClientSession
from yarl import URL

from ocisync.content.pull_quota import PullQuota
from ocisync.errors import Handling, OcisyncError, RateLimited, RedirectRefused, RegistryError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.stores.registry.auth.authenticator import Authenticator, Grant
from ocisync.stores.registry.http.errors import refusal
from ocisync.stores.registry.http.exchange import Body, HttpExchange
from ocisync.stores.registry.http.host_limiter import HostLimiter
from ocisync.stores.registry.http.hosts import endpoint, same_origin, shown
from ocisync.stores.registry.http.policy import (
    BUSY,
    MAX_REDIRECTS,
    REDIRECTS,
    redirected,
    retry_after,
    server_time,
)
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.options import RegistryOptions
from ocisync.stores.registry.pull_budget import OnWait, PullBudget, silent

log = structlog.get_logger(__name__)
_T = TypeVar("_T")
_MOST_TRIES = 100  # of one request, however often the host asks for patience
_WORTH_TELLING, _WORTH_SAYING = 1.0, 10.0  # seconds of a pause: in the log, and to whoever waits
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
    is_upload: bool = False  # sent once, from the place that `upload_place` gave

    @property
    def is_pull(self) -> bool:
        """Whether hosts that count pulls count it."""
        return self.method == "GET" and self.is_of_manifest

    @property
    def is_of_manifest(self) -> bool:
        """Whether it is for a manifest, and not for one of another kind."""
        return "/manifests/" in self.url.raw_path


class KnownSizes:
    """The sizes of blobs that were seen at this host, whatever their repository; bounded."""

    def __init__(self, most: int = 200_000) -> None:
        self._most = most
        self._sizes: dict[Digest, int] = {}  # bytes

    def learn(self, desc: Descriptor) -> None:
        """Remember one, and forget the oldest where there are too many."""
        self._sizes[desc.digest] = desc.size
        if len(self._sizes) > self._most:
            del self._sizes[next(iter(self._sizes))]

    def agree(self, desc: Descriptor) -> bool:
        """Whether the size is known and is the descriptor's."""
        return self._sizes.get(desc.digest) == desc.size

    def disagree(self, desc: Descriptor) -> bool:
        """Whether the size is known and is another."""
        return self._sizes.get(desc.digest, desc.size) != desc.size


class Transport:
    """The way to one registry host, shared by all its repositories."""

    def __init__(self, host: str, options: RegistryOptions, session: ClientSession, tell: OnWait = silent) -> None:
        self.host = host
        self.options = options
        self.origin = endpoint(host, options)
        self._wire = HttpExchange(session, self.origin.host or "", options)
        self._auth = Authenticator(host, self.origin, options, self._wire)
        self._gate = HostLimiter(options)
        self._tell = tell
        self._budget = PullBudget(host, options.rate_limit, tell)
        self._headers: Mapping[str, str] | None = None
        self.sizes = KnownSizes()
        self.chunk_size = options.chunk_size  # bytes; made smaller when a body is refused as too large

    def send(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """An accepted answer, closed with the block; raises as `open` does."""
        return _Sent(self, request)

    async def open(self, request: Request) -> Response:
        """An accepted answer that the caller closes.

        Raises:
            NotFound, AuthError, RateLimited, RegistryError: the registry refused, and will not or did not think better.
            RedirectRefused, NetworkError and its kin: it could not be reached, or not in a safe way.
        """
        return await self._tried(request, partial(self._try, request))

    async def ask(self, request: Request, take: Callable[[Response], Awaitable[_T]]) -> _T:
        """What `take` makes of an accepted answer, asked for again when its body breaks off; raises as `open` does."""

        async def asked() -> _T:
            answer = await self._try(request)
            try:
                return await take(answer)
            finally:
                answer.close()

        return await self._tried(request, asked)

    async def _tried(self, request: Request, once: Callable[[], Awaitable[_T]]) -> _T:
        attempt = tries = 0
        while True:
            attempt, tries, answered = attempt + 1, tries + 1, self._gate.answered
            try:
                return await once()
            except OcisyncError as exc:
                if isinstance(exc, RateLimited) and self._gate.answered > answered:
                    attempt = 1  # the host answers others: waiting for one's turn is no failure
                gives_up = attempt > self.options.retries or tries > _MOST_TRIES
                if gives_up or not exc.retryable or request.is_upload:
                    raise
                await self.backoff(attempt, exc)

    @property
    def upload_place(self) -> AbstractAsyncContextManager[object]:
        """A place for one upload; its requests wait for nothing but their turn."""
        return self._gate.upload_place

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
        return self._budget.is_unlimited

    @property
    def is_paused(self) -> bool:
        """Whether the host asked to be left alone."""
        return self._gate.is_paused

    @property
    def is_stalled(self) -> bool:
        """Whether nothing can be pulled for long: the host asked for a pause, or its budget is used up."""
        return self._budget.is_paused or self._gate.pause_left >= _WORTH_SAYING

    @property
    def allowance(self) -> PullQuota | None:
        """What the host said last of its limit on pulls."""
        return self._budget.allowance

    async def _try(self, request: Request) -> Response:
        if request.is_upload:  # its place was taken by `upload_place`
            await self._gate.turn()
            return await self._accepted(request)
        if not request.is_pull:
            return await self._entered(request)
        await self._budget.take(partial(self._look, request))
        try:
            return await self._entered(request)
        finally:
            self._budget.give_back()

    async def _look(self, pull: Request) -> None:
        """Let the host tell what is left of its budget, whatever else it says."""
        answer = await self._entered(replace(pull, method="HEAD", accept=_ANY_BUT_BUSY))
        answer.close()

    async def _entered(self, request: Request) -> Response:
        release = await self._gate.enter()
        try:
            answer = await self._accepted(request)
        except BaseException:
            release()
            raise
        answer.when_closed(release)
        return answer

    async def _accepted(self, request: Request) -> Response:
        ended = self._budget.ended
        answer = await self._authorized(request)
        self._budget.observe(answer.headers, ended, told_of=answer.status == 200 and request.is_of_manifest)
        if answer.status not in request.accept:
            raise await self._refusal(request, answer)
        self._gate.went_well()
        return answer

    async def _authorized(self, request: Request) -> Response:
        sent = await self._auth.header(request.grant)
        answer = await self._followed(request, sent)
        if answer.status != 401 or not same_origin(answer.url, self.origin):
            return answer
        await answer.beginning()
        renewed = await self._auth.renew(request.grant, answer.headers.getall("WWW-Authenticate", []), sent)
        if request.is_upload:
            raise RegistryError(
                f"{shown(request.url)}: the authorization ended during an upload",
                handling=Handling.RETRY,
                host=self.host,
            )
        return await self._followed(request, renewed)

    async def _followed(self, request: Request, authorization: str | None) -> Response:
        url = request.url
        for _ in range(MAX_REDIRECTS + 1):
            headers = await self._headers_for(url, request, authorization)
            answer = await self._wire.exchange(request.method, url, headers, request.body)
            if answer.status not in REDIRECTS:
                return answer
            await answer.beginning()
            if request.is_upload:
                raise RedirectRefused(f"{shown(url)}: an upload under way was redirected (status {answer.status})")
            url = redirected(request.method, answer.status, url, answer.headers.get("Location"))
        raise RedirectRefused(f"{shown(request.url)}: more than {MAX_REDIRECTS} redirects")

    async def _headers_for(self, url: URL, request: Request, authorization: str | None) -> Mapping[str, str]:
        if not same_origin(url, self.origin):
            return request.headers
        if self._headers is None:
            self._headers = await self._auth.credentials.headers()
        secret = {"Authorization": authorization} if authorization else {}
        return {**self._headers, **request.headers, **secret}

    async def _refusal(self, request: Request, answer: Response) -> OcisyncError:
        body = await answer.beginning()
        asked = answer.headers.get("Retry-After")
        if answer.status in BUSY:
            self._slow_down(answer, asked)
        return refusal(request.method, answer.url, answer.status, body, retry_after=asked)

    def _slow_down(self, answer: Response, asked: str | None) -> None:
        """Leave the whole host alone: as long as it asks, else longer with each refusal in a row."""
        if asked is None and answer.status == 503:
            pause = self.options.backoff.ceiling(self._gate.refusals + 1)
        else:
            now = server_time(answer.headers.get("Date"), time.time())
            pause = retry_after(asked, now, max(self.options.longest_pause, self._budget.window))
        self._gate.pause(pause)
        note = log.warning if pause >= _WORTH_TELLING else log.debug
        note("registry.paused", host=self.host, status=answer.status, seconds=pause)
        if pause >= _WORTH_SAYING:
            self._tell(f"{self.host}: asks to be left alone for {pause:.0f} s (status {answer.status}); waits")


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
