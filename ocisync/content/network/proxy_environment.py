"""Which proxy the environment names for a URL: one rule for registries and S3. Pure but for `read_environment`.

Spec: none; as curl and Go read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, networks and ports included, which
Python's own functions do not know.
"""

from __future__ import annotations

import ipaddress
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

from ocisync.errors import ConfigError, InvalidName
from ocisync.model.text.urls import split_url

_PORTS = {"http": 80, "https": 443}


def read_environment() -> Mapping[str, str]:
    """The proxies by scheme, in either case of the variables' names; `no` names those that need none."""
    return urllib.request.getproxies_environment()


def find_proxy(url: str, environment: Mapping[str, str]) -> str | None:
    """The proxy's URL, its login included; None: the host is reached directly.

    Raises:
        ConfigError: what the environment names is not a URL.
    """
    parts = urlsplit(url)
    proxy = environment.get(parts.scheme) or environment.get("all")
    host = (parts.hostname or "").rstrip(".")
    if not proxy or is_exempt(host, parts.port or _PORTS.get(parts.scheme, 0), environment.get("no", "")):
        return None
    found = proxy if "://" in proxy else f"http://{proxy}"
    try:
        if split_url(found).hostname:
            return found
    except InvalidName:
        pass
    raise ConfigError(
        f"the environment's proxy for {parts.scheme} ({parts.scheme.upper()}_PROXY or ALL_PROXY) is not a URL: "
        "write http://HOST:PORT"
    )


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY names a host: by `*`, a domain, an address or a network, each but `*` with a port or without.

    A domain means its subdomains too, with a leading dot or without one. Names are not looked up: a network means
    addresses only.
    """
    address = _parse_address(host)
    for entry in no_proxy.replace(",", " ").lower().split():
        if entry == "*":
            return True
        name, entry_port = _split_port(entry)
        if entry_port not in (None, port):
            continue
        network = _parse_network(name)
        if network is not None:
            if address is not None and address.version == network.version and address in network:
                return True
            continue
        domain = name.removeprefix("*").strip(".")
        if domain and (host.lower() == domain or host.lower().endswith(f".{domain}")):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """`host:port`; an IPv6 address stands in brackets when a port follows."""
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        name, port = entry, ""
    return name, int(port) if port.isascii() and port.isdigit() else None


def _parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
