"""What the doctor asks of a published registry, and what it is told: the only part that touches a network."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ocisync.model.text.outside_json import load_json

_NO_HEADERS: Mapping[str, str] = {}
REDIRECTS = (301, 302, 303, 307, 308)
MOST_BODY = 4 * 1024 * 1024  # bytes of an answer that are looked at


@dataclass(frozen=True, slots=True)
class ProbeResponse:
    """One answer as it came over the wire, not decompressed; status 0 means that none came."""

    status: int
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)  # names in lower case
    body: bytes = b""  # its start
    is_whole: bool = True  # whether `body` is all of it
    failure: str = ""  # why no answer came
    is_tls_failure: bool = False

    def header(self, name: str) -> str:
        """A header's value, or nothing."""
        return self.headers.get(name.lower(), "")

    @property
    def media_type(self) -> str:
        """Content-Type without its parameters."""
        return self.header("content-type").partition(";")[0].strip().lower()

    @property
    def plain(self) -> bytes:
        """The body as a client that understands gzip sees it; as it is when it cannot be unpacked."""
        if "gzip" not in self.header("content-encoding"):
            return self.body
        try:
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(self.body, MOST_BODY)
        except zlib.error:
            return self.body

    def json(self) -> Mapping[str, object] | None:
        """The body as a JSON object, if it is one."""
        try:
            found = load_json(self.plain)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


class Probe(Protocol):
    """Asks one thing of the registry; redirects are told, never followed, and bodies left as they are."""

    async def ask(self, method: str, url: str, headers: Mapping[str, str] = _NO_HEADERS) -> ProbeResponse:
        """One request to an absolute URL; a failed connection is an Answer of status 0, not an error."""
        ...


@dataclass(frozen=True, slots=True)
class Observation:
    """One question, the redirects on the way, and the last answer."""

    method: str
    path: str
    answer: ProbeResponse
    hops: tuple[str, ...] = ()  # the URLs that were redirected to, in order
    is_endless: bool = False  # whether the redirects did not come to an end

    @property
    def ok(self) -> bool:
        """Whether it was answered with what was asked for."""
        return self.answer.status in (200, 206)

    def __str__(self) -> str:
        status = self.answer.status or self.answer.failure
        return f"{self.method} {self.path}: {status}" + (f" after {len(self.hops)} redirects" if self.hops else "")
