"""A connection to S3: the endpoint, credentials and signatures, and the HTTP session that requests are sent by."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

import aiohttp
import anyio
import anyio.lowlevel
from anyio import to_thread
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from yarl import URL

from ocisync.content.network.aiohttp_internals import SizedReadConnector, never_resend
from ocisync.content.network.proxy_environment import find_proxy, read_environment
from ocisync.content.network.tls import system_context
from ocisync.content.transfer.exchange import BulkAnswer, BulkBody, Patience, exchange
from ocisync.content.transfer.pool import ConnectionPool, Route
from ocisync.errors import ConfigError, S3ConfigError
from ocisync.stores.s3.errors import error_from_exception
from ocisync.stores.s3.options import S3Options
from ocisync.stores.s3.sign import S3Credentials, sign

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

_REGION = "us-east-1"  # for stores that have none
_READ_AHEAD = 64 * 1024  # bytes


class S3Session:
    """The endpoint and credentials of one bucket; made by `open_session`."""

    def __init__(
        self, options: S3Options, http: aiohttp.ClientSession, tls: ssl.SSLContext, bulk: ConnectionPool
    ) -> None:
        self.options = options
        self.http = http
        self._tls = tls
        self._bulk = bulk
        self.where = _name_of(options)
        self.generation = 0  # of the credentials
        self.region = options.region or _REGION
        self.base_url = ""  # of the bucket
        self.style_hint = ""  # for messages, where the bucket stands before the host's name and AWS is not asked
        self.proxy: str | None = None
        self.is_anonymous = options.anonymous  # no credentials: only reading is tried, unsigned
        self._chain: AioSession | None = None  # where AWS' own settings may say something
        self._lock = anyio.Lock()

    async def load(self) -> None:
        """Find the endpoint, and credentials as the AWS tools find them."""
        options = self.options
        endpoint, self.region = options.endpoint, options.region or _REGION
        if await to_thread.run_sync(may_learn_from_aws, options):
            from aiobotocore.session import AioSession

            self._chain = AioSession(profile=options.profile or None)
            endpoint, self.region = await to_thread.run_sync(_resolve, self._chain, options)
            if not options.access_key and not options.anonymous:
                # In a thread: it reads files, and may run a command or ask the machine's metadata service.
                self.is_anonymous = await to_thread.run_sync(anyio.run, self._chain.get_credentials) is None
        self.base_url = _base_url(endpoint.rstrip("/"), options)
        host = URL(self.base_url).host or ""
        if options.endpoint and not _is_path_style(options):
            self.style_hint = f"the bucket is asked for as {host}: set `path_style: true` if it belongs into the path"
        self.proxy = find_proxy(self.base_url, read_environment())

    def can_bulk(self, size: int) -> bool:
        """Whether threads may send a body of this size."""
        return size >= self.options.bulk_from and self.proxy is None

    async def send_in_bulk(self, method: str, url: URL, headers: Mapping[str, str], body: BulkBody) -> BulkAnswer:
        """Send a request whose body threads move; raises as `content.transfer.exchange` does."""
        options = self.options
        patience = Patience(options.connect_timeout, options.idle_timeout, options.idle_timeout)
        route = Route(url, self._tls if url.scheme == "https" else None)
        return await exchange(self._bulk, route, method, {**self.http.headers, **headers}, patience, body)

    async def sign(self, method: str, url: str, headers: Mapping[str, str], payload: str) -> dict[str, str]:
        """The headers with those that sign the request, by the credentials of this moment.

        Without any, reading goes unsigned: a public bucket allows it.

        Raises:
            S3ConfigError: there are none to write with.
        """
        if self.is_anonymous and method in ("GET", "HEAD"):
            return dict(headers)
        return sign(method, url, headers, payload, await self._credentials(), self.region)

    async def reload(self, generation: int) -> None:
        """Ask the whole chain of credentials again, unless somebody did since `generation`."""
        async with self._lock:
            if self.generation == generation:
                await self.load()
                self.generation += 1

    async def _credentials(self) -> S3Credentials:
        """The credentials of this moment; those that expire are renewed in time.

        Raises:
            S3ConfigError: there are none.
        """
        options = self.options
        if options.access_key:
            return S3Credentials(options.access_key, options.secret_key, options.session_token or None)
        try:
            if self.is_anonymous or self._chain is None:
                raise NoCredentialsError
            found = await self._chain.get_credentials()
            if found is None:
                raise NoCredentialsError
            frozen = await found.get_frozen_credentials()
            return S3Credentials(frozen.access_key, frozen.secret_key, frozen.token)
        except (BotoCoreError, ClientError) as exc:
            raise error_from_exception(exc, self.where, "finding credentials") from exc


@asynccontextmanager
async def open_session(options: S3Options) -> AsyncIterator[S3Session]:
    """Connect; nothing is sent yet.

    Raises:
        ConfigError: the CA file cannot be read.
        S3ConfigError: the options do not fit together.
    """
    sockets = _Sockets(options.idle_timeout)
    tls = await to_thread.run_sync(_tls, options)
    async with aiohttp.ClientSession(
        connector=_make_connector(options, tls, sockets),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=options.connect_timeout, sock_read=options.idle_timeout),
        auto_decompress=False,
        read_bufsize=options.read_size or _READ_AHEAD,  # aiohttp keeps up to twice of it
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "ocisync"},
    ) as http:
        bulk = ConnectionPool(aiohttp.ThreadedResolver())
        never_resend(http)  # it would send the rest of a stream that was begun elsewhere
        try:
            session = S3Session(options, http, tls, bulk)
            try:
                await session.load()
            except (BotoCoreError, ClientError) as exc:
                raise error_from_exception(exc, session.where, "connecting") from exc
            except ValueError as exc:
                raise S3ConfigError(f"{session.where}: {exc}: check the endpoint and the region") from exc
            yield session
        finally:
            bulk.close()
            await sockets.cut()


def _make_connector(options: S3Options, tls: ssl.SSLContext, sockets: _Sockets) -> aiohttp.TCPConnector:
    if options.read_size:
        return SizedReadConnector(piece=options.read_size, limit=0, ssl=tls, socket_factory=sockets.make)
    return aiohttp.TCPConnector(limit=0, ssl=tls, socket_factory=sockets.make)


class _Sockets:
    """The sockets of a session: a server that stops reading must not keep one for ever, and what is buffered for it."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout  # seconds
        self._made: WeakSet[socket.socket] = WeakSet()

    def make(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for aiohttp that gives up by itself when what it sent is not taken."""
        made = socket.socket(*address[:3])
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._timeout * 1000))
        self._made.add(made)
        return made

    async def cut(self) -> None:
        """End those that still wait to send what nobody wants."""
        for one in list(self._made):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for _ in range(3):  # turns of the loop, in which the transports see it
            await anyio.lowlevel.checkpoint()


def _name_of(options: S3Options) -> str:
    return f"bucket {options.bucket!r} at {options.endpoint or 'AWS'}"


def may_learn_from_aws(options: S3Options) -> bool:
    """Whether the settings of the AWS tools may say what the options do not: botocore takes 0.13 s to import."""
    if options.profile or not options.endpoint or not (options.access_key or options.anonymous):
        return True
    is_configured = os.path.exists(os.path.expanduser("~/.aws"))  # noqa: PTH110, PTH111 (False without a home or right)
    return is_configured or any(name.startswith("AWS_") for name in os.environ)


def _tls(options: S3Options) -> ssl.SSLContext:
    """What to trust: a file of authorities that is configured here or for the AWS tools, else the system's."""
    file = str(options.ca or "")
    if not file and may_learn_from_aws(options):
        import botocore.session

        try:
            file = botocore.session.Session(profile=options.profile or None).get_config_variable("ca_bundle") or ""
        except BotoCoreError as exc:
            raise error_from_exception(exc, _name_of(options), "connecting") from exc
    if not file:
        return system_context()
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be read as a PEM file of certificate authorities: {exc}") from exc


def _resolve(session: AioSession, options: S3Options) -> tuple[str, str]:
    """The URL of the service, and the region; reads botocore's configuration and data files, so call it in a thread."""
    session.get_scoped_config()  # an error when the profile is not there
    region = options.region or session.get_config_variable("region") or _REGION
    if options.endpoint:
        return options.endpoint, region
    import botocore.session
    from botocore.config import Config

    plain = botocore.session.Session(profile=options.profile or None)
    client = plain.create_client(
        "s3",
        region_name=region,
        aws_access_key_id="none",  # nothing is sent by it: only it knows AWS' partitions and regions
        aws_secret_access_key="none",
        config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"),
    )
    return str(client.meta.endpoint_url), region


def _is_path_style(options: S3Options) -> bool:
    """Whether the bucket stands in the path; before the host's name it fits no certificate when it has dots."""
    host = URL(options.endpoint).host or "" if options.endpoint else ""
    return options.path_style or "." in options.bucket or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True  # nothing can be put before it


def _base_url(endpoint: str, options: S3Options) -> str:
    """The bucket's URL; an endpoint that names the bucket already, as some consoles show it, is taken as it is."""
    scheme, _, host = endpoint.partition("://")
    if endpoint.endswith(f"/{options.bucket}") or (host.startswith(f"{options.bucket}.") and not options.path_style):
        return endpoint
    if _is_path_style(options):
        return f"{endpoint}/{options.bucket}"
    return f"{scheme}://{options.bucket}.{host}"
