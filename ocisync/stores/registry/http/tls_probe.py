"""Whether a server speaks TLS: a handshake and nothing else, so that nothing is told to whoever answers."""

from __future__ import annotations

import asyncio
import ssl

import anyio
from yarl import URL

_PATIENCE = 10.0  # seconds


async def speaks_tls(origin: URL) -> bool:
    """Whether a TLS handshake with a server succeeds, whatever its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with anyio.move_on_after(_PATIENCE):
        try:
            _, writer = await asyncio.open_connection(origin.host, origin.port, ssl=context)
        except (OSError, ssl.SSLError):
            return False
        writer.close()
        return True
    return False
