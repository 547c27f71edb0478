"""The grammar of texts in the configuration: names, patterns, durations, sizes, addresses.

Pure; every function raises ValueError or InvalidName with the remedy.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ocisync.config.diagnostics import suggest
from ocisync.model.image_name import ImageName, parse_host, parse_image_name, parse_name
from ocisync.model.place_name import PLACES, parse_place

LABEL_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
PLACEHOLDERS = ("name", "tag", "os", "arch", "variant")
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
_OWN_HEADERS = {"authorization", "connection", "content-length", "host", "transfer-encoding", "user-agent"}


def parse_pattern(text: str) -> str:
    """Check that an expression compiles; it must match a whole tag later."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as exc:
        if is_glob(text):
            raise ValueError(
                f"{text[:100]!r} is a glob, not an expression. Write {glob_as_pattern(text)[:100]!r}"
            ) from exc
        raise ValueError(f"the expression {text[:100]!r} cannot be compiled: {exc}. Correct it") from exc
    return text


def is_glob(text: str) -> bool:
    """Whether text is more likely a glob (`v*`, `*-alpine`) than the expression that it also may be.

    A star after nothing, a letter, a digit or a hyphen repeats nothing that somebody would want repeated.
    """
    return re.search(r"(?:^|[A-Za-z0-9_-])\*", text) is not None and re.search(r"[\\^$+|()\[\]{}]", text) is None


def glob_as_pattern(text: str) -> str:
    """The expression that means what a glob means."""
    return text.replace(".", r"\.").replace("*", ".*").replace("?", ".")


def list_literals(patterns: Sequence[str]) -> list[str] | None:
    """The texts that expressions name one by one; None when there are none, or one can match more than one text."""
    return [_unescape(one) for one in patterns] if patterns and all(map(_is_literal, patterns)) else None


def _is_literal(pattern: str) -> bool:
    plain = _unescape(pattern)
    return re.fullmatch(r"[A-Za-z0-9/_-]+", plain.replace(".", "")) is not None and pattern == plain.replace(".", r"\.")


def _unescape(pattern: str) -> str:
    return pattern.replace(r"\.", ".")


def parse_source(text: str, *, digests: bool = False, folder: Path = Path()) -> ImageName:
    """An image's name in a registry, without a scheme, and without a digest unless those are wanted.

    Other places have their transport before them, as on the command line: `static:DIR//NAME`, `oci:DIR`.
    """
    if text.startswith(PLACES):
        name: ImageName = parse_place(text, lambda path: str(parse_path(path, folder)))
    else:
        _check_scheme(text)
        name = parse_image_name(text)
    if name.digest and not digests:
        raise ValueError("a digest never moves. For one image write `type: image`, for several list them as `digests`")
    return name


def parse_source_registry(text: str) -> ImageName:
    """A registry's host, and a path that repositories' names must begin with ("" for all of them)."""
    _check_scheme(text)
    host, _, path = text.partition("/")
    if "@" in path or ":" in path:
        raise ValueError("a registry has no tag or digest. Write host or host/path, and select tags under `tags`")
    return ImageName(parse_host(host), parse_name(path) if path else "")


def _check_scheme(text: str) -> None:
    if "://" in text:
        raise ValueError(f"a source has no scheme. Write {text.partition('://')[2][:200]!r}")


def parse_label(text: str) -> str:
    """A name that is safe in logs, metrics and on command lines."""
    if not re.match(LABEL_PATTERN.replace("$", r"\Z"), text, re.ASCII):
        raise ValueError(f"{text[:80]!r} cannot be a name. Use letters, digits, . _ -, at most 64 characters")
    return text


def parse_url(text: str) -> str:
    """A service's http or https URL without credentials, without its last slash."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError("not a URL. Write https://host or https://host:port") from exc
    if parts.scheme not in ("http", "https") or not host or re.search(r"\s", text):
        raise ValueError("not a URL of a service. Write https://host or http://host:port")
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong in the URL. Put them into their own keys, as {env: VARIABLE}")
    if parts.query or parts.fragment or port == 0:
        raise ValueError("only a host, a port and a path belong here. Remove what follows ? or #, and a port 0")
    return text.rstrip("/")


def parse_mirror(text: str) -> str:
    """A registry's host, or a host and a path that goes before every repository."""
    host, slash, path = text.removesuffix("/").partition("/")
    if text.startswith(("http://", "https://")):
        raise ValueError(
            f"a mirror has no scheme. Write {text.partition('://')[2][:200]!r}, and plain_http under its host"
        )
    return parse_host(host) + (f"/{parse_name(path)}" if slash else "")


def parse_registry_key(text: str) -> str:
    """What an entry of `registries` is for: a registry's host, or a path of it."""
    host, slash, path = ("" if "://" in text else text.removesuffix("/")).partition("/")
    if not host:
        return parse_host(text)  # which refuses it in its own words
    return parse_host(host) + (f"/{parse_name(path)}" if slash else "")


def parse_proxy(text: str) -> str:
    """A proxy's http or https URL, or `direct`."""
    if text == "direct":
        return text
    url = parse_url(text)
    if urlsplit(url).path:
        raise ValueError("a proxy has no path. Write http://host:port")
    return url


def parse_prefix(text: str) -> str:
    """A folder in a bucket, without slashes around it."""
    folder = text.strip("/")
    if any(part in ("", ".", "..") for part in folder.split("/")) and folder:
        raise ValueError(f"{text[:100]!r} is not a folder in a bucket. Write words separated by single slashes")
    return folder


def parse_layout(text: str) -> str:
    """How a set's files are named, as a template with placeholders."""
    names = re.findall(r"\{([^{}]*)\}", text)
    unknown = next((name for name in names if name not in PLACEHOLDERS), None)
    if unknown is not None:
        raise ValueError(f"unknown placeholder {{{unknown[:40]}}}{suggest(unknown, PLACEHOLDERS)}")
    if not {"name", "tag", "os", "arch"} <= set(names) or len(names) != len(set(names)):
        raise ValueError("it needs {name}, {tag}, {os} and {arch}, each once. Write it as {name}/{tag}/{os}.{arch}")
    if "\\" in text:
        raise ValueError("folders are separated by slashes. Write {name}/{tag}/{os}.{arch}")
    if suffix := re.search(r"\.(?:tar|tgz|tzst|txz|tbz2?)(?:\.\w+)?\Z", text, re.IGNORECASE):
        raise ValueError(f"it is a name without the archive's suffix, which is any. Leave out {suffix[0]}")
    rest = re.sub(r"\{[^{}]*\}", "x", text)
    if "}{" in text or re.search(r"[{}]", rest) or any(part in ("", ".", "..") for part in rest.split("/")):
        raise ValueError(
            "it is not usable. Write a relative path with something between two placeholders and no other braces"
        )
    return text


def parse_header_name(text: str) -> str:
    """A header that ocisync does not set itself."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", text, re.ASCII):
        raise ValueError(f"{text[:40]!r} is not a header's name. Use letters, digits and hyphens")
    if text.lower() in _OWN_HEADERS:
        raise ValueError(f"ocisync sets {text} itself. Remove it; credentials go into `username` and `password`")
    return text


def parse_path(text: str, folder: Path) -> Path:
    """An absolute path without `.` and `..`, relative to a folder; `~` is the home where the system knows one."""
    return Path(os.path.normpath(folder.absolute() / os.path.expanduser(text)))  # noqa: PTH111


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


def parse_mail_server(text: str) -> Address:
    """Read `host:port` of a server that is asked, so that a port is needed."""
    try:
        address = parse_address(text)
    except ValueError:
        address = Address("", 0)
    if not address.port:
        raise ValueError(
            f"{text[:80]!r} is not an address of a mail server. Write host:port, such as smtp.example.com:587"
        )
    return address
