"""Which host a registry's name means, and which of them are our own machine. Pure."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from yarl import URL

from ocisync.model.image_name import DOCKER_HUB
from ocisync.stores.registry.options import RegistryOptions

HUB_ENDPOINT = "registry-1.docker.io"
_METADATA = frozenset({"metadata", "metadata.google.internal", "100.100.100.200", "fd00:ec2::254"})


def endpoint(host: str, options: RegistryOptions) -> URL:
    """The origin that answers for a registry's host; docker.io is served elsewhere."""
    scheme = "http" if is_plain_http(host, options) else "https"
    return URL(f"{scheme}://{HUB_ENDPOINT if host == DOCKER_HUB else host}")


def is_plain_http(host: str, options: RegistryOptions) -> bool:
    """Whether a host is spoken to without TLS: as configured, else only on loopback."""
    if options.plain_http is not None:
        return options.plain_http
    trusts = options.ca_file is not None or options.insecure_tls
    return not trusts and is_loopback(URL(f"http://{host}").host or "")


def is_loopback(hostname: str) -> bool:
    """Whether a host's name (without port) is this machine by its very spelling."""
    address = _address(hostname)
    if address is None:
        return hostname == "localhost" or hostname.endswith(".localhost")
    return address.is_loopback


@lru_cache(maxsize=1000)
def is_internal_only(hostname: str) -> bool:
    """Whether a host's name is a link-local or cloud metadata address, to which no registry may send us."""
    name = hostname.lower().rstrip(".")
    address = _address(name)
    if address is None:
        return name in _METADATA
    mapped = getattr(address, "ipv4_mapped", None) or address
    refused = mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified
    return refused or str(mapped) in _METADATA


def same_origin(one: URL, other: URL) -> bool:
    """Whether scheme, host and port agree: only then do credentials travel along."""
    if one.scheme == other.scheme and one.raw_authority == other.raw_authority:
        return True  # nearly always, and quicker than a look at the parts
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def safe_url(url: URL) -> str:
    """A URL as messages may show it: no query, which may hold a signature, and no user."""
    return str(url.with_query(None).with_fragment(None).with_user(None))[:300]


def _address(hostname: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(hostname.strip("[]").partition("%")[0])
    except ValueError:
        return None
