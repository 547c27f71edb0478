"""One HTTP exchange with aiohttp: time-outs, no retries, no credentials, no redirects of its own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import aiohttp
from yarl import URL

from ocisync.content.cost import count_request
from ocisync.errors import OcisyncError, RegistryError, Stalled
from ocisync.stores.registry.http.body import PacedBody, SentOnce, uploading
from ocisync.stores.registry.http.errors import network_error
from ocisync.stores.registry.http.host_limiter import Throttle
from ocisync.stores.registry.http.hosts import shown
from ocisync.stores.registry.http.proxies import Proxies, Way
from ocisync.stores.registry.http.response import Response
from ocisync.stores.registry.http.tls import Trust
from ocisync.stores.registry.options import RegistryOptions

Body = bytes | SentOnce | PacedBody | None


class HttpExchange:
    """Exchanges on behalf of one registry host, also with the token server and the storage it points to."""

    def __init__(self, session: aiohttp.ClientSession, hostname: str, options: RegistryOptions) -> None:
        self._session = session
        self._options = options
        self._trust = Trust(hostname, options)
        self._proxies = Proxies(options.proxy)
        self._throttle = Throttle(options.bandwidth) if options.bandwidth else None
        self._patience = _Timeouts(options, 0.0)
        self._patience_with_body = _Timeouts(options, options.commit_timeout)

    async def exchange(self, method: str, url: URL, headers: Mapping[str, str], body: Body = None) -> Response:
        """Send one request and return its answer, whatever its status.

        Raises:
            NetworkError, TlsError, Stalled: no answer came.
            OcisyncError: what a PacedBody's stream raised.
        """
        if isinstance(body, PacedBody):
            return await self._upload(method, url, headers, body)
        try:
            async with asyncio.timeout(self._patience_for(body).seconds):  # a third less CPU time than anyio's
                return await self._answered(method, url, headers, body)
        except TimeoutError:
            raise _stalled(method, url) from None

    async def _upload(self, method: str, url: URL, headers: Mapping[str, str], body: PacedBody) -> Response:
        body.throttle = self._throttle
        token = uploading.set(body)
        try:
            answer = await self._answered_while_it_moves(method, url, headers, body)
        except BaseException as exc:
            body.abort()
            if body.failure is not None and isinstance(exc, OcisyncError):
                raise body.failure from None
            raise
        finally:
            uploading.reset(token)
            await body.close()
        if not body.is_sent:
            answer.when_closed(body.abort)
        return answer

    async def _answered_while_it_moves(
        self, method: str, url: URL, headers: Mapping[str, str], body: PacedBody
    ) -> Response:
        with body.scope:
            return await self._answered(method, url, headers, body)
        raise _stalled(method, url)

    async def _answered(self, method: str, url: URL, headers: Mapping[str, str], body: Body) -> Response:
        way = self._proxies.of(url)
        trust = await self._trust.of(url, way.url)
        try:
            response = await self._send(method, url, headers, body, way, trust)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise _foreign(exc, method, url) from exc
        return Response(response, method, url, self._options, self._throttle)

    async def _send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: Body,
        way: Way,
        trust: ssl.SSLContext | bool,
    ) -> aiohttp.ClientResponse:
        length = {} if body is None else {"Content-Length": str(len(body) if isinstance(body, bytes) else body.length)}
        count_request()
        return await self._session.request(
            method,
            url,
            headers={**headers, **length, **way.headers(url.scheme)},
            data=body,
            allow_redirects=False,
            ssl=trust,
            proxy=way.url,
            proxy_headers=way.login or None,
            timeout=self._patience_for(body).timeout,
        )

    def _patience_for(self, body: Body) -> _Timeouts:
        return self._patience if body is None else self._patience_with_body


class _Timeouts:
    """How long a request may take."""

    def __init__(self, options: RegistryOptions, commit: float) -> None:
        self.seconds = options.connect_timeout + options.idle_timeout + commit
        self.timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=options.connect_timeout, sock_read=max(options.idle_timeout, commit)
        )


def _stalled(method: str, url: URL) -> Stalled:
    return Stalled(f"{method} {shown(url)}: no progress within the time-out", host=url.host)


def _foreign(exc: Exception, method: str, url: URL) -> Exception:
    if isinstance(exc, aiohttp.ClientError | OSError) and not isinstance(exc, aiohttp.InvalidURL):
        return network_error(exc, method, url)
    return RegistryError(f"{method} {shown(url)}: the request cannot be sent: {type(exc).__name__}", host=url.host)
