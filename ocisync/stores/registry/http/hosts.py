"""Which host a registry's name means, and which of them are our own machine. Pure."""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from functools import lru_cache

from yarl import URL

from ocisync.model.image_name import DOCKER_HUB
from ocisync.stores.registry.options import RegistryOptions

HUB_ENDPOINT = "registry-1.docker.io"
# Where clouds tell a machine its credentials, beside the link-local 169.254.169.254 that most of them use.
_METADATA = frozenset(
    {
        "metadata", "metadata.google.internal",
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google
        "168.63.129.16",  # Azure
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
    }
)  # fmt: skip
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NUMERIC = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}\Z", re.ASCII | re.IGNORECASE)
_IPV4_BITS = 0xFFFFFFFF


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
    meant = _embedded_ipv4(address) or address
    refused = meant.is_link_local or meant.is_multicast or meant.is_unspecified
    return refused or str(meant) in _METADATA


def same_origin(one: URL, other: URL) -> bool:
    """Whether scheme, host and port agree: only then do credentials travel along."""
    if one.scheme == other.scheme and one.raw_authority == other.raw_authority:
        return True  # nearly always, and quicker than a look at the parts
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def safe_url(url: URL) -> str:
    """A URL as messages may show it: no query, which may hold a signature, and no user."""
    return str(url.with_query(None).with_fragment(None).with_user(None))[:300]


def _address(hostname: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a name spells, in any spelling that the system's look-up takes for one.

    `2852039166`, `0xA9FEA9FE` and `169.254.43518` all lead to 169.254.169.254 without a look-up in the DNS.
    """
    name = unicodedata.normalize("NFKC", hostname).strip("[]").partition("%")[0].rstrip(".")
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name)) if _NUMERIC.match(name) else None
    except OSError:
        return None


def _embedded_ipv4(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for: mapped, compatible, 6to4, or through NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    is_compatible = 1 < int(address) <= _IPV4_BITS  # :: and ::1 are addresses of their own
    if address in _NAT64 or is_compatible:
        return ipaddress.IPv4Address(int(address) & _IPV4_BITS)
    return None
