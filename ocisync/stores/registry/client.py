"""The registry client: one session, one state per host, repositories on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiohttp import ClientSession

from ocisync.content.cost import PullQuota
from ocisync.errors import MissingSecret
from ocisync.model.image_name import parse_host
from ocisync.stores.registry.auth.docker_config import candidates
from ocisync.stores.registry.auth.scopes import PUSH
from ocisync.stores.registry.foreign_layers import ExternalContent
from ocisync.stores.registry.http.session import open_session
from ocisync.stores.registry.http.transport import Transport
from ocisync.stores.registry.listing import list_repositories
from ocisync.stores.registry.mirrors import Mirror, MirroredRepository
from ocisync.stores.registry.options import OnWait, RegistryOptions, wait_silently
from ocisync.stores.registry.repository import RegistryRepository

_DEFAULTS = RegistryOptions()


class RegistryClient:
    """Every registry host that is spoken to, each with its own limits, credentials and tokens."""

    def __init__(
        self,
        session: ClientSession,
        options: Mapping[str, RegistryOptions],
        defaults: RegistryOptions = _DEFAULTS,
        on_wait: OnWait = wait_silently,
    ) -> None:
        self._session = session
        self._on_wait = on_wait
        self._options = {_normal_key(key): chosen for key, chosen in options.items()}
        self._defaults = defaults
        self._transports: dict[str, Transport] = {}  # by the key of the options that hold, else by host
        self._mirrors: dict[str, tuple[Mirror, ...]] = {}

    def repository(self, host: str, name: str) -> RegistryRepository:
        """A repository to write to, which need not exist.

        Raises:
            InvalidName: the host or the name breaks its grammar.
        """
        return RegistryRepository(self._transport(host, name), name, PUSH)

    def source(self, host: str, name: str) -> RegistryRepository:
        """A repository to read from, also from the host's mirrors; raises as `repository`."""
        transport = self._transport(host, name)
        mirrors = self._find_mirrors(transport)
        return (
            MirroredRepository(transport, name, mirrors)
            if mirrors
            else RegistryRepository(transport, name, confirms_absence=True)
        )

    def _find_mirrors(self, origin: Transport) -> tuple[Mirror, ...]:
        if origin.key not in self._mirrors:
            listed = origin.options.mirrors
            self._mirrors[origin.key] = tuple(
                Mirror(self._transport(one.host, one.prefix), one.prefix) for one in listed
            )
        return self._mirrors[origin.key]

    def allowance(self, host: str, name: str = "") -> tuple[str, PullQuota | None]:
        """The entry of the options that a repository's pulls are counted under, and what its host said last of a limit.

        Hosts count by account, and each entry has its own: the host's, or that of a path of it.
        """
        transport = self._transport(host, name)
        return transport.key, transport.allowance

    def explain_stall(self, host: str, name: str = "") -> str:
        """What nothing can be pulled for from a repository's host for long, nor from its mirrors; empty: it can."""
        origin = self._transports.get(self._key(parse_host(host), name))
        if origin is None or not (reason := origin.wait_reason):
            return ""
        return reason if all(mirror.is_stalled for mirror in self._find_mirrors(origin)) else ""

    async def catalog(self, host: str) -> Sequence[str]:
        """Every repository of a host, each once, in lexical order; raises as `listing.list_repositories` does."""
        return await list_repositories(self._transport(host))

    async def check_login(self, host: str, path: str = "") -> bool:
        """Whether a host asks for a login and takes the one that holds there; raises as `Transport.check_login`."""
        return await self._transport(host, path).check_login()

    def external(self) -> ExternalContent:
        """What lies neither here nor there: foreign layers at their own URLs."""
        return ExternalContent(self._session, self._defaults)

    def _transport(self, host: str, name: str = "") -> Transport:
        """The way to a repository: options for a path of a host make one of its own, with tokens apart.

        The host's own limits hold over all of its paths together, and those of a path's entry within them.
        """
        host = parse_host(host)
        key = self._key(host, name)
        transport = self._transports.get(key)
        if transport is None:
            chosen = self._options.get(key, self._defaults)
            if chosen.unusable:
                raise MissingSecret(f"{key}: {chosen.unusable}")
            whole = self._transport(host).limiter if key != host else None
            transport = self._transports[key] = Transport(host, chosen, self._session, self._on_wait, key, whole)
        return transport

    def _key(self, host: str, name: str) -> str:
        """The longest key of the options that fits a repository, as in docker's and podman's files."""
        if not any(key.startswith(f"{host}/") for key in self._options):
            return host
        return next((key for key in candidates(host, name) if key in self._options), host)


def _normal_key(key: str) -> str:
    host, slash, path = key.partition("/")
    return parse_host(host) + slash + path


@asynccontextmanager
async def open_registries(
    options: Mapping[str, RegistryOptions], defaults: RegistryOptions = _DEFAULTS, on_wait: OnWait = wait_silently
) -> AsyncIterator[RegistryClient]:
    """A client, closed with the block.

    `options` are by host, or by a path of one (`host/path`); `defaults` hold for every other host.

    `on_wait` takes the reason when the work stands still because a host must be left alone for long.
    """
    async with open_session() as session:
        yield RegistryClient(session, options, defaults, on_wait)
