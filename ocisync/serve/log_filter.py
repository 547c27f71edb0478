"""A filter for the server's log: malformed requests, and clients that left, leave one line at debug.

aiohttp logs a traceback for each malformed request, and for each client that is gone before it is told to go on
("Expect: 100-continue"), or in the middle of a body that nobody wanted. With these anybody could fill a disk.
"""

from __future__ import annotations

import logging

import structlog
from aiohttp.http_exceptions import HttpProcessingError

log = structlog.get_logger(__name__)

_GONE = "Connection closed."  # what aiohttp says, as a RuntimeError, of a body whose sender has left


class _ClientFaults(logging.Filter):
    """Lets everything pass but what clients did, of which one line at debug is left."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether aiohttp's own record is to be logged."""
        exc = record.exc_info[1] if record.exc_info else None
        if isinstance(exc, HttpProcessingError):
            log.debug("request.malformed", error=exc.message[:200])
            return False
        if isinstance(exc, ConnectionError) or (isinstance(exc, RuntimeError) and str(exc) == _GONE):
            log.debug("client.left", error=str(exc)[:200])
            return False
        return True


SERVER_LOGGER = logging.getLogger("ocisync.serve.http")
SERVER_LOGGER.addFilter(_ClientFaults())
