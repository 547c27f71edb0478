"""One HTTP exchange with aiohttp: time-outs, no retries, no credentials, no redirects of its own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from http.client import HTTPException
from urllib.request import getproxies_environment

import aiohttp
from yarl import URL

from ocisync.content.cost import count_request
from ocisync.content.transfer.exchange import BulkBody, Patience, exchange
from ocisync.content.transfer.pool import ConnectTimeout, ProxyRefused, Route, make_unverified_context
from ocisync.errors import OcisyncError, RegistryError, Stalled
from ocisync.stores.registry.http.body import PacedBody, SentOnce
from ocisync.stores.registry.http.bulk_response import BulkResponse
from ocisync.stores.registry.http.errors import network_error
from ocisync.stores.registry.http.host_limiter import Throttle
from ocisync.stores.registry.http.hosts import safe_url
from ocisync.stores.registry.http.proxies import Proxies, ProxyRoute
from ocisync.stores.registry.http.response import Response, StreamedResponse
from ocisync.stores.registry.http.session import Connector
from ocisync.stores.registry.http.tls import Trust
from ocisync.stores.registry.options import RegistryOptions

_WITH_CONTENT = frozenset({200, 206})
Body = bytes | SentOnce | PacedBody | BulkBody | None


class HttpExchange:
    """Exchanges on behalf of one registry host, also with the token server and the storage it points to."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        hostname: str,
        options: RegistryOptions,
        throttle: Throttle | None = None,
    ) -> None:
        self._session = session
        self._connector = session.connector
        self._unverified: ssl.SSLContext | None = None  # made for the first bulk request that wants it
        self._unsized = set[str | None]()  # hosts that do not say how long their content is
        self._options = options
        self._hostname = hostname
        self._trust: Trust | None = None  # made for the first request that needs TLS
        uses_proxy = options.proxy is not None or getproxies_environment()
        self._proxies = Proxies(options.proxy) if uses_proxy else None
        self._throttle = throttle
        self._timeouts = _timeouts(options, 0.0)
        # A registry may hash or move a whole blob before it answers, so the answer to a body has longer to come.
        self._timeouts_with_body = _timeouts(options, options.commit_timeout)

    def can_bulk(self, url: URL, size: int) -> bool:
        """Whether threads may move a body of this size from or to a URL: what is paced for, aiohttp moves.

        TLS inside of TLS to a proxy is aiohttp's too, and whatever comes without a length from hosts that say none.
        """
        if size < self._options.bulk_from or self._throttle is not None or not isinstance(self._connector, Connector):
            return False
        route = self._proxies.route(url) if self._proxies else None
        return (route is None or route.proxy is None or route.proxy.scheme == "http") and url.host not in self._unsized

    async def exchange(
        self, method: str, url: URL, headers: Mapping[str, str], body: Body = None, size: int = 0
    ) -> Response:
        """Send one request and return its answer, whatever its status.

        `size` are the bytes that the answer should have: when they are many, the answer may be one that threads read.

        Raises:
            NetworkError, TlsError, Stalled: no answer came.
            OcisyncError: what a PacedBody's or a BulkBody's stream raised.
        """
        route = self._proxies.route(url) if self._proxies else None
        trust = await self._trust_for(url, route)
        length = {} if body is None else {"Content-Length": str(len(body) if isinstance(body, bytes) else body.length)}
        headers = {**headers, **length, **(route.headers(url.scheme) if route else {})}
        if isinstance(body, BulkBody) or (body is None and self.can_bulk(url, size)):
            answer = await self._exchange_in_bulk(method, url, headers, body, route, trust)
            if answer.is_bulk or answer.status not in _WITH_CONTENT or body is not None:
                return answer
            answer.close()  # without a length the body's end cannot be told by counting: aiohttp reads it
            self._unsized.add(url.host)
        assert not isinstance(body, BulkBody), "it was sent above"
        return await self._exchange_by_aiohttp(method, url, headers, body, route, trust)

    async def _exchange_by_aiohttp(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | SentOnce | PacedBody | None,
        route: ProxyRoute | None,
        trust: ssl.SSLContext | bool,
    ) -> Response:
        seconds, timeouts = self._timeouts if body is None else self._timeouts_with_body
        paced = body if isinstance(body, PacedBody) else None
        if paced is not None:
            paced.throttle = self._throttle
        # A streamed body may take as long as it needs while it moves, and notices by itself when it does not.
        # asyncio's time-out costs a third less CPU time than anyio's.
        guard = paced or asyncio.timeout(seconds)
        count_request()
        try:
            async with guard:
                try:
                    response = await self._session.request(
                        method,
                        url,
                        headers=headers,
                        data=body,
                        allow_redirects=False,
                        ssl=trust,
                        proxy=route.proxy if route else None,
                        proxy_headers=(route.login if route else None) or None,
                        timeout=timeouts,
                    )
                except (aiohttp.ClientError, OSError, ValueError) as exc:
                    raise _translate(exc, method, url) from exc
        except TimeoutError:
            raise Stalled(f"{method} {safe_url(url)}: no progress within the time-out", host=url.host) from None
        answer = StreamedResponse(response, method, url, self._options, self._throttle)
        if paced is not None and not paced.is_sent:  # answered early: the rest must not be sent any more
            answer.when_closed(paced.abort)
        return answer

    async def _exchange_in_bulk(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: BulkBody | None,
        route: ProxyRoute | None,
        trust: ssl.SSLContext | bool,
    ) -> BulkResponse:
        assert isinstance(self._connector, Connector), "can_bulk was asked"
        if url.scheme == "https" and not isinstance(trust, ssl.SSLContext):
            trust = self._unverified = self._unverified or await make_unverified_context()
        context = trust if isinstance(trust, ssl.SSLContext) and url.scheme == "https" else None
        way = Route(url, context, route.proxy, route.login) if route else Route(url, context)
        options = self._options
        seconds = options.idle_timeout + (0.0 if body is None else options.commit_timeout)
        patience = Patience(options.connect_timeout, options.idle_timeout, seconds)
        count_request()
        try:
            found = await exchange(
                self._connector.bulk, way, method, {**self._session.headers, **headers}, patience, body
            )
        except ConnectTimeout as exc:
            raise network_error(exc, method, url) from exc
        except TimeoutError as exc:
            raise Stalled(f"{method} {safe_url(url)}: no progress within the time-out", host=url.host) from exc
        except (OSError, HTTPException, ProxyRefused, ValueError) as exc:
            if body is not None and exc is body.failure:
                raise
            raise _translate(exc, method, url) from exc
        return BulkResponse(found, method, url, options)

    async def _trust_for(self, url: URL, route: ProxyRoute | None) -> ssl.SSLContext | bool:
        """What aiohttp takes as `ssl`."""
        proxy = route.proxy if route else None
        if url.scheme == "http" and (proxy is None or proxy.scheme == "http"):
            return True  # there is no TLS
        if self._trust is None:
            self._trust = Trust(self._hostname, self._options)
        return await self._trust.context_for(url, proxy)


def _timeouts(options: RegistryOptions, commit: float) -> tuple[float, aiohttp.ClientTimeout]:
    """The longest wait for an answer's head, in seconds, and what aiohttp watches over."""
    seconds = options.connect_timeout + options.idle_timeout + commit
    read = max(options.idle_timeout, commit)
    return seconds, aiohttp.ClientTimeout(total=None, sock_connect=options.connect_timeout, sock_read=read)


def _translate(exc: Exception, method: str, url: URL) -> OcisyncError:
    if isinstance(exc, aiohttp.InvalidURL):
        pass
    elif isinstance(exc, aiohttp.ClientError | OSError | HTTPException | ProxyRefused):
        return network_error(exc, method, url)
    return RegistryError(f"{method} {safe_url(url)}: the request cannot be sent: {type(exc).__name__}", host=url.host)
