"""One HTTP exchange with aiohttp: time-outs, TLS, proxies; no retries, no credentials, no redirects of its own."""

from __future__ import annotations

import math
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import anyio
from aiohttp.abc import AbstractResolver, ResolveResult
from anyio import to_thread
from yarl import URL

from ocisync import __version__
from ocisync.content.protocols import ByteStream
from ocisync.errors import ConfigError, RegistryError, Stalled
from ocisync.stores.registry.answer import CHUNK, Answer
from ocisync.stores.registry.failures import network_error
from ocisync.stores.registry.hosts import is_internal_only, shown
from ocisync.stores.registry.options import RegistryOptions

_HEADER_LIMIT = 64 * 1024  # bytes; signed URLs are long
_OWN_HEADERS = {"User-Agent": f"ocisync/{__version__}", "Accept-Encoding": "identity"}


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """The session that all hosts share: keep-alive, and nothing done behind our back."""
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=30, resolver=PublicResolver(), keepalive_timeout=30)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,  # it would read ~/.netrc too; proxies are looked up here
        read_bufsize=CHUNK,
        max_line_size=_HEADER_LIMIT,
        max_field_size=_HEADER_LIMIT,
    ) as session:
        yield session


class PublicResolver(AbstractResolver):
    """Name look-ups that never lead to link-local or cloud metadata addresses."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """The addresses of a name.

        Raises:
            OSError: not found, or internal addresses only.
        """
        found = await self._inner.resolve(host, port, family)  # type: ignore[arg-type]  # ints are families here
        public = [one for one in found if not is_internal_only(one["host"])]
        if found and not public:
            raise OSError(None, "the name leads to an internal address")
        return public

    async def close(self) -> None:
        """Nothing is held."""
        await self._inner.close()


class PacedBody:
    """The body of one upload: a stall of the receiver is noticed, the sender's own pauses are not counted."""

    def __init__(self, stream: ByteStream, length: int, idle_timeout: float) -> None:
        self.length = length  # bytes
        self.failure: Exception | None = None  # what the stream itself raised
        self.scope = anyio.CancelScope()
        self._stream = stream
        self._idle = idle_timeout
        self._turn = anyio.Lock(fast_acquire=True)
        self._closed = False

    def __aiter__(self) -> PacedBody:
        return self

    async def __anext__(self) -> bytes:
        async with self._turn:
            if self._closed:
                raise StopAsyncIteration
            self.scope.deadline = math.inf
            try:
                chunk = await anext(self._stream)
            except Exception as exc:
                self.failure = None if isinstance(exc, StopAsyncIteration) else exc
                raise
            self.scope.deadline = anyio.current_time() + self._idle
            return chunk

    async def close(self) -> None:
        """Return once nobody reads the stream any more."""
        with anyio.move_on_after(10, shield=True):
            async with self._turn:
                self._closed = True


Body = bytes | PacedBody | None


class Wire:
    """Exchanges on behalf of one registry host, also with the token server and the storage it points to."""

    def __init__(self, session: aiohttp.ClientSession, hostname: str, options: RegistryOptions) -> None:
        self._session = session
        self._hostname = hostname
        self._options = options
        self._authorities: ssl.SSLContext | None = None
        self._proxies = urllib.request.getproxies_environment()

    async def exchange(self, method: str, url: URL, headers: Mapping[str, str], body: Body = None) -> Answer:
        """Send one request and return its answer, whatever its status.

        Raises:
            NetworkError, TlsError, Stalled: no answer came.
            OcisyncError: what a PacedBody's stream raised.
        """
        trust = await self._trust(url)
        scope = body.scope if isinstance(body, PacedBody) else self._short_scope(body)
        try:
            with scope:
                response = await self._send(method, url, headers, body, trust)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            if isinstance(body, PacedBody) and body.failure is not None:
                raise body.failure from None
            raise _foreign(exc, method, url) from exc
        finally:
            if isinstance(body, PacedBody):
                await body.close()
        if scope.cancelled_caught:
            raise Stalled(f"{method} {shown(url)}: no progress within the time-out", host=url.host)
        return Answer(response, method, url, self._options)

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], body: Body, trust: ssl.SSLContext | bool
    ) -> aiohttp.ClientResponse:
        length = {} if body is None else {"Content-Length": str(len(body) if isinstance(body, bytes) else body.length)}
        proxy, proxy_auth = self._proxy(url)
        return await self._session.request(
            method,
            url,
            headers={**_OWN_HEADERS, **headers, **length},
            data=body,
            allow_redirects=False,
            ssl=trust,
            proxy=proxy,
            proxy_auth=proxy_auth,
            timeout=self._timeout(body),
            skip_auto_headers=("Content-Type", "Accept"),
        )

    def _timeout(self, body: Body) -> aiohttp.ClientTimeout:
        idle = self._options.idle_timeout
        if body is not None:
            idle = max(idle, self._options.commit_timeout)
        return aiohttp.ClientTimeout(total=None, sock_connect=self._options.connect_timeout, sock_read=idle)

    def _short_scope(self, body: Body) -> anyio.CancelScope:
        limit = self._options.connect_timeout + self._options.idle_timeout
        if body is not None:
            limit += self._options.commit_timeout
        return anyio.CancelScope(deadline=anyio.current_time() + limit)

    async def _trust(self, url: URL) -> ssl.SSLContext | bool:
        if url.scheme != "https":
            return True
        if self._options.insecure_tls and url.host == self._hostname:
            return False
        if self._options.ca_file is None:
            return True
        if self._authorities is None:
            self._authorities = await to_thread.run_sync(_context, str(self._options.ca_file))
        return self._authorities

    def _proxy(self, url: URL) -> tuple[URL | None, aiohttp.BasicAuth | None]:
        found = self._proxies.get(url.scheme) or self._proxies.get("all")
        if not found or urllib.request.proxy_bypass_environment(url.host or "", self._proxies):  # type: ignore[attr-defined]
            return None, None
        proxy = URL(found if "://" in found else f"http://{found}")
        login = aiohttp.BasicAuth(proxy.user, proxy.password or "") if proxy.user else None
        return proxy.with_user(None), login


def _context(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"ca_file {ca_file}: cannot be used: {exc}") from exc
    return context


def _foreign(exc: Exception, method: str, url: URL) -> Exception:
    if isinstance(exc, aiohttp.ClientError | OSError) and not isinstance(exc, aiohttp.InvalidURL):
        return network_error(exc, method, url)
    return RegistryError(f"{method} {shown(url)}: the request cannot be sent: {type(exc).__name__}", host=url.host)
