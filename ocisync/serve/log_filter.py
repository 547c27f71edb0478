"""A filter for the server's log: malformed requests leave one line at debug.

aiohttp answers them with 400 and logs a traceback for each, with which anybody could fill a disk.
"""

from __future__ import annotations

import logging

import structlog
from aiohttp.http_exceptions import HttpProcessingError

log = structlog.get_logger(__name__)


class _MalformedRequests(logging.Filter):
    """Lets everything pass but malformed requests, of which one line at debug is left."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether aiohttp's own record is to be logged."""
        exc = record.exc_info[1] if record.exc_info else None
        if not isinstance(exc, HttpProcessingError):
            return True
        log.debug("request.malformed", error=exc.message[:200])
        return False


SERVER_LOGGER = logging.getLogger("ocisync.serve.http")
SERVER_LOGGER.addFilter(_MalformedRequests())
