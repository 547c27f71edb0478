"""The doctor's questions over a real network."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from ocisync import __version__
from ocisync.doctor.probe import MOST_BODY, ProbeResponse
from ocisync.errors import ConfigError
from ocisync.logs import redact

_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10, sock_read=20)  # seconds
_NO_HEADERS: Mapping[str, str] = {}


@asynccontextmanager
async def open_probe(ca: Path | None = None) -> AsyncIterator[HttpProbe]:
    """A probe that trusts the system's authorities, and those in `ca`."""
    connector = aiohttp.TCPConnector(ssl=_trust_context(ca))
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=_TIMEOUT,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept-Encoding", "Accept"),
        headers={"User-Agent": f"ocisync-doctor/{__version__}"},
    ) as session:
        yield HttpProbe(session)


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """The protocol `doctor.probe.Probe` by aiohttp."""

    session: aiohttp.ClientSession

    async def ask(self, method: str, url: str, headers: Mapping[str, str] = _NO_HEADERS) -> ProbeResponse:
        """One request; its body is read up to a limit, as it is."""
        try:
            asked = self.session.request(method, URL(url, encoded=True), headers=headers, allow_redirects=False)
            async with asked as response:
                body, is_whole = await _read_start(response)
                names = {name.lower() for name in response.headers}
                told = {name: ", ".join(response.headers.getall(name)) for name in names}
                return ProbeResponse(response.status, told, body, is_whole)
        except (aiohttp.ClientSSLError, ssl.SSLError) as exc:
            return ProbeResponse(0, failure=_describe(exc), is_tls_failure=True)
        except (aiohttp.ClientError, OSError, ValueError) as exc:  # a TimeoutError is an OSError
            return ProbeResponse(0, failure=_describe(exc))


async def _read_start(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    chunks, seen = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        seen += len(chunk)
        if seen > MOST_BODY:
            return b"".join(chunks)[:MOST_BODY], False
    return b"".join(chunks), True


def _describe(exc: Exception) -> str:
    return redact(str(exc)) or type(exc).__name__


def _trust_context(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if ca is not None:
            context.load_verify_locations(ca)
    except OSError as exc:  # an SSLError is an OSError
        raise ConfigError(f"{ca}: no certificates can be read there: {exc.strerror or exc}") from exc
    return context
