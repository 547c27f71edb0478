"""Listings that are left before their end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ocisync.content.protocols import ObjectInfo


@asynccontextmanager
async def closed_after(listing: AsyncIterator[ObjectInfo]) -> AsyncIterator[None]:
    """Close a listing with the block, so that what it holds open does not wait for the garbage collector."""
    try:
        yield
    finally:
        close = getattr(listing, "aclose", None)
        if close is not None:
            await close()
