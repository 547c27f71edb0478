"""A connection to S3: credentials and control operations through aiobotocore, objects through aiohttp."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from typing import Any, cast
from weakref import WeakSet

import aiohttp
import anyio
import anyio.lowlevel
import botocore.session
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from anyio import to_thread
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, NoCredentialsError
from botocore.utils import get_environ_proxies, parse_timestamp

from ocisync.content.tls import system_context
from ocisync.errors import ConfigError
from ocisync.stores.s3.errors import error_from_exception
from ocisync.stores.s3.options import S3Options

_REGION = "us-east-1"  # for stores that have none


class S3Session:
    """The clients and credentials of one bucket; made by `open_session`."""

    def __init__(
        self, options: S3Options, http: aiohttp.ClientSession, stack: AsyncExitStack, authorities: str
    ) -> None:
        self.options = options
        self.http = http
        self.where = _where(options)
        self.generation = 0  # of the credentials
        self._stack = stack
        self._authorities = authorities or ssl.get_default_verify_paths().cafile  # None: what botocore brings along
        self._lock = anyio.Lock()
        self.region = options.region or _REGION
        self.base_url = ""
        self.proxy: str | None = None
        self.control: Any = None  # aiobotocore's client, which has no types

    async def load(self) -> None:
        """Find credentials and make the client for control operations."""
        session = AioSession(profile=self.options.profile or None)
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
        options = self.options
        await to_thread.run_sync(_warm, session, options.profile)
        if not options.access_key:  # reads files, and may run a command or ask the machine's metadata service
            await to_thread.run_sync(anyio.run, session.get_credentials)
        self.region = options.region or session.get_config_variable("region") or _REGION
        self.control = await self._stack.enter_async_context(
            session.create_client(
                "s3",
                region_name=self.region,
                endpoint_url=options.endpoint or None,
                verify=self._authorities,
                aws_access_key_id=options.access_key or None,
                aws_secret_access_key=options.secret_key or None,
                aws_session_token=options.session_token or None,
                config=_config(options),
            )
        )
        endpoint = str(self.control.meta.endpoint_url).rstrip("/")
        self.base_url = _base_url(endpoint, options)
        self.proxy = get_environ_proxies(self.base_url).get(self.base_url.partition(":")[0])
        self._chain = session

    async def credentials(self) -> ReadOnlyCredentials:
        """The credentials of this moment; those that expire are renewed in time.

        Raises:
            S3ConfigError: there are none.
        """
        options = self.options
        if options.access_key:
            return ReadOnlyCredentials(options.access_key, options.secret_key, options.session_token or None)
        try:
            found = await self._chain.get_credentials()
            if found is None:
                raise NoCredentialsError
            return await found.get_frozen_credentials()
        except BotoCoreError as exc:
            raise error_from_exception(exc, self.where, "finding credentials") from exc

    async def reload(self, generation: int) -> None:
        """Ask the whole chain of credentials again, unless somebody did since `generation`."""
        async with self._lock:
            if self.generation == generation:
                await self.load()
                self.generation += 1


@asynccontextmanager
async def open_session(options: S3Options) -> AsyncIterator[S3Session]:
    """Connect; nothing is sent yet.

    Raises:
        ConfigError: the CA file cannot be read.
        S3ConfigError: the options do not fit together.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=options.connect_timeout, sock_read=options.idle_timeout)
    async with AsyncExitStack() as stack:
        sockets = _Sockets(options.idle_timeout)
        stack.push_async_callback(sockets.cut)
        authorities = await to_thread.run_sync(_authorities, options)
        tls = await to_thread.run_sync(_tls, authorities)
        connector = aiohttp.TCPConnector(limit=0, ssl=tls, socket_factory=sockets.make)
        http = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "ocisync"},
        )
        http._retry_connection = False  # it would send the rest of a stream that was begun elsewhere
        await stack.enter_async_context(http)
        session = S3Session(options, http, stack, authorities)
        try:
            await session.load()
        except (BotoCoreError, ValueError) as exc:
            raise error_from_exception(exc, session.where, "connecting") from exc
        yield session


class _Sockets:
    """The sockets of a session: a server that stops reading must not keep one for ever, and what is buffered for it."""

    def __init__(self, patience: float) -> None:
        self._patience = patience  # seconds
        self._made: WeakSet[socket.socket] = WeakSet()

    def make(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for aiohttp that gives up by itself when what it sent is not taken."""
        made = socket.socket(*address[:3])
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._patience * 1000))
        self._made.add(made)
        return made

    async def cut(self) -> None:
        """End those that still wait to send what nobody wants."""
        for one in list(self._made):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for _ in range(3):  # turns of the loop, in which the transports see it
            await anyio.lowlevel.checkpoint()


def _where(options: S3Options) -> str:
    return f"bucket {options.bucket!r} at {options.endpoint or 'AWS'}"


def _authorities(options: S3Options) -> str:
    """A file of authorities to trust in place of the system's, as the AWS tools find it; empty: none."""
    if options.ca is not None:
        return str(options.ca)
    try:
        return botocore.session.Session(profile=options.profile or None).get_config_variable("ca_bundle") or ""
    except BotoCoreError as exc:
        raise error_from_exception(exc, _where(options), "connecting") from exc


def _tls(authorities: str) -> ssl.SSLContext:
    if not authorities:
        return system_context()
    try:
        return ssl.create_default_context(cafile=authorities)
    except OSError as exc:
        raise ConfigError(f"{authorities}: cannot be read as a PEM file of certificate authorities: {exc}") from exc


def _moment(value: object) -> datetime:
    """A listing's dates without botocore's parser, which takes longer than the rest of a listing."""
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return cast("datetime", parse_timestamp(value))


def _warm(session: AioSession, profile: str) -> None:
    """Let botocore read its data files and configuration in a thread, where that may take its time."""
    plain = botocore.session.Session(profile=profile or None)
    plain.register_component("data_loader", session.get_component("data_loader"))
    plain.create_client("s3", region_name=_REGION, aws_access_key_id="warm", aws_secret_access_key="up")
    _ = session.full_config


def _config(options: S3Options) -> AioConfig:
    return AioConfig(
        connect_timeout=options.connect_timeout,
        read_timeout=options.idle_timeout,
        max_pool_connections=2 * options.concurrency,
        retries={"total_max_attempts": 1},  # retries are ours
        request_checksum_calculation="when_required",  # B2, R2 and GCS refuse more
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if _is_path_style(options) else "virtual"},
        signature_version="s3v4",
    )


def _is_path_style(options: S3Options) -> bool:
    return options.path_style or "." in options.bucket  # no certificate fits a bucket with dots in a host name


def _base_url(endpoint: str, options: S3Options) -> str:
    if _is_path_style(options):
        return f"{endpoint}/{options.bucket}"
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{options.bucket}.{host}"
