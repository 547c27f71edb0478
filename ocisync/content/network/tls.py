"""The system's certificates, read when a connection first needs them.

Whoever opens a session brings `system_context` where there is TLS, so that aiohttp's own contexts are not used.
"""

from __future__ import annotations

import ssl
from functools import lru_cache


@lru_cache(1)
def system_context() -> ssl.SSLContext:
    """What a client's connections go by that trust the system's authorities; reads files the first time."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    return context
