"""The system's certificates, read when a connection first needs them.

aiohttp reads them twice when it is imported, for contexts of its own: a sixth of the start of a command.
Whoever opens a session here brings `system_context` where there is TLS, so that aiohttp's are not used.
"""

from __future__ import annotations

import importlib
import ssl
import sys
from functools import lru_cache


def import_aiohttp() -> None:
    """Import it without the certificates, where nobody has imported it before."""
    if "aiohttp" in sys.modules:
        return
    ssl.SSLContext.set_default_verify_paths = _read_nothing  # type: ignore[method-assign, assignment]
    try:
        importlib.import_module("aiohttp")
    finally:
        del ssl.SSLContext.set_default_verify_paths  # what it hides is the base class's


@lru_cache(1)
def system_context() -> ssl.SSLContext:
    """What a client's connections go by that trust the system's authorities; reads files the first time."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    return context


def _read_nothing(_: ssl.SSLContext) -> None:
    return None
