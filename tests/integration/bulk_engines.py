"""The two ways in which a large blob's bytes move: by aiohttp, and by threads."""

from ocisync.content.transfer.mover import BULK_FROM

BY_AIOHTTP, BY_THREADS = 1 << 60, 1 << 20  # bytes from which on threads move a blob


class Engine:
    """Which of them the tests' registries use; the fixture `engine` sets it."""

    bulk_from = BULK_FROM  # bytes
