"""Small objects, read whole."""

from __future__ import annotations

from ocisync.content.protocols import ObjectInfo, ObjectStore
from ocisync.errors import LimitExceeded


async def read_small(store: ObjectStore, key: str, limit: int) -> tuple[ObjectInfo, bytes]:
    """An object and its bytes, at most `limit` of them.

    Raises:
        NotFound: no such key.
        LimitExceeded: it is larger; at most one chunk more than the limit was read.
    """
    async with store.open(key) as (info, stream):
        chunks: list[bytes] = []
        seen = 0
        async for chunk in stream:
            seen += len(chunk)
            if seen > limit:
                raise LimitExceeded(f"{key}: larger than the {limit} bytes that are accepted here")
            chunks.append(chunk)
        return info, b"".join(chunks)
