"""Durations, sizes and addresses as people write them. Pure; every function raises ValueError with the remedy."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
BYTES = {
    "": 1, "B": 1, "K": 1 << 10, "KiB": 1 << 10, "M": 1 << 20, "MiB": 1 << 20, "G": 1 << 30, "GiB": 1 << 30,
    "T": 1 << 40, "TiB": 1 << 40, "KB": 10**3, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
DURATION_PATTERN = r"^(0|([0-9]{1,9}(\.[0-9]{1,6})?(ms|s|m|h|d|w))+)$"
SIZE_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,6})? ?(B|K|KB|kB|KiB|M|MB|MiB|G|GB|GiB|T|TB|TiB)?$"
FOREVER = "forever"
MAX_DURATION = 10 * 366 * SECONDS["d"]  # seconds

_DURATION_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d|w)", re.ASCII)
_DURATION = re.compile(DURATION_PATTERN.replace("$", r"\Z"), re.ASCII)
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]{0,3})\Z", re.ASCII)
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host name or IP address without brackets, and a port (0: the system picks one)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def parse_duration(text: str) -> float:
    """Seconds of `10s`, `1h30m`, `250ms` or `0`; at most ten years."""
    if not _DURATION.match(text):
        raise ValueError(f"{text[:40]!r} is not a duration. Write a number with a unit: 10s, 60m, 24h, 7d or 1h30m")
    seconds = math.fsum(float(number) * SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    if seconds > MAX_DURATION:
        raise ValueError(f"{text[:40]!r} is more than ten years. Write a shorter duration")
    return seconds


def parse_retention(text: str) -> float:
    """As `parse_duration`, or infinity for `forever`."""
    return math.inf if text == FOREVER else parse_duration(text)


def format_duration(seconds: float) -> str:
    """The shortest spelling that `parse_retention` reads back; below a millisecond it is rounded."""
    if math.isinf(seconds):
        return FOREVER
    rest = round(seconds * 1000)  # milliseconds
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, round(SECONDS[unit] * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0"


def parse_size(text: str) -> int:
    """Bytes of `16MiB`, `1.5GiB`, `500MB` or `4096`; K, M, G and T are binary."""
    found = _SIZE.match(text)
    if not found or found[2] not in BYTES:
        raise ValueError(f"{text[:40]!r} is not a size. Write a number and a unit, such as 512KiB, 16MiB or 2GiB")
    number, factor = found[1], BYTES[found[2]]
    return round(float(number) * factor) if "." in number else int(number) * factor


def format_size(size: int) -> str:
    """The shortest exact spelling in binary units."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % BYTES[unit] == 0:
            return f"{size // BYTES[unit]}{unit}"
    return str(size)


def parse_address(text: str) -> Address:
    """Read `host:port` or `[IPv6]:port`."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or re.search(r"[\s/@]", bare):
        raise ValueError(f"{text[:80]!r} is not an address. Write host:port, such as 127.0.0.1:8080 or 0.0.0.0:8080")
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > _PORT_MAX:
        raise ValueError(f"{port[:20]!r} is not a port. Write a number from 0 to 65535; 0 lets the system pick one")
    return Address(bare, int(port))
