"""Which proxy a request goes through: the configured one, else what the environment says, as curl reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from yarl import URL

from ocisync.content.network.proxy_environment import find_proxy, read_environment
from ocisync.stores.registry.auth.docker_config import Credential
from ocisync.stores.registry.options import ProxyOptions

_NO_LOGIN: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class ProxyRoute:
    """How a request reaches its host; without a proxy, directly."""

    proxy: URL | None = None
    login: Mapping[str, str] = field(default_factory=lambda: _NO_LOGIN, repr=False)  # a header for the proxy

    def headers(self, scheme: str) -> Mapping[str, str]:
        """What the request itself carries for the proxy; with TLS, only the CONNECT before it does."""
        return self.login if scheme == "http" else _NO_LOGIN


_DIRECT = ProxyRoute()


class Proxies:
    """The proxies for one registry host and all that it sends us to."""

    def __init__(self, options: ProxyOptions | None) -> None:
        self._fixed = None if options is None else _configured_route(options)
        self._environment = {} if options else read_environment()

    def route(self, url: URL) -> ProxyRoute:
        """How to reach a URL."""
        if self._fixed is not None:
            return self._fixed
        if not self._environment:
            return _DIRECT
        found = find_proxy(str(url), self._environment)
        if found is None:
            return _DIRECT
        proxy = URL(found)
        return _make_route(proxy.with_user(None), proxy.user or "", proxy.password or "")


def _configured_route(options: ProxyOptions) -> ProxyRoute:
    return _make_route(URL(options.url), options.username, options.password) if options.url else _DIRECT


def _make_route(proxy: URL, username: str, password: str) -> ProxyRoute:
    login = {"Proxy-Authorization": Credential(username, password).basic} if username else _NO_LOGIN
    return ProxyRoute(proxy, login)
