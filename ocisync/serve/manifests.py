"""Manifests: their bytes as stored, and what is remembered of them so that a repeated HEAD is cheap."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from anyio import Semaphore, to_thread

from ocisync.content.object_store import ObjectInfo, ObjectStore
from ocisync.errors import LimitExceeded, ManifestError, NotFound
from ocisync.model.digest import Digest, digest_of, sha256
from ocisync.model.manifest import MAX_MANIFEST_SIZE, stored_media_type
from ocisync.serve.errors import ApiError, ErrorCode
from ocisync.serve.lists import read_small
from ocisync.serve.routes import Endpoint
from ocisync.stores.static import layout

_THREAD_WORTHY = 128 * 1024  # bytes; less is hashed and parsed faster than a thread is reached
_AT_A_TIME = 1  # long manifests that are read and parsed at a time: each takes several times its bytes meanwhile
_REMEMBERED = 4096  # manifests; some 400 bytes each


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """What the headers of an answer need."""

    digest: Digest
    media_type: str
    size: int  # bytes
    modified: float = 0.0  # seconds since the epoch: when a tag was published, where the store tells


class ManifestReader:
    """Reads manifests of one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, str], ManifestFacts] = OrderedDict()
        self._long = Semaphore(_AT_A_TIME, fast_acquire=True)

    async def facts(self, endpoint: Endpoint) -> ManifestFacts:
        """The facts; read from the store only when its ETag is not the one remembered.

        Raises:
            Refusal: 404, or 500 for bytes that are not what the digest says.
        """
        info = await self._store.head(endpoint.key)
        if info is None:
            raise _make_unknown_error(endpoint)
        known = self._known.get((endpoint.key, info.etag)) if info.etag else None
        if known is None:
            return (await self.read(endpoint))[0]
        self._known.move_to_end((endpoint.key, info.etag))
        return known if known.modified == info.modified else replace(known, modified=info.modified)

    async def read(self, endpoint: Endpoint) -> tuple[ManifestFacts, bytes]:
        """The facts and the bytes; raises as `facts` does."""
        try:
            try:
                info, raw = await read_small(self._store, endpoint.key, _THREAD_WORTHY)
            except LimitExceeded:
                return await self._read_long(endpoint)
        except NotFound as exc:
            raise _make_unknown_error(endpoint) from exc
        except LimitExceeded as exc:
            raise ApiError(500, ErrorCode.MANIFEST_INVALID, exc.message) from exc
        facts = _examine(raw, endpoint, info)
        self._remember(endpoint.key, info.etag, facts)
        return facts, raw

    async def _read_long(self, endpoint: Endpoint) -> tuple[ManifestFacts, bytes]:
        async with self._long:
            info, raw = await read_small(self._store, endpoint.key, MAX_MANIFEST_SIZE)
            facts = await to_thread.run_sync(_examine, raw, endpoint, info)
        self._remember(endpoint.key, info.etag, facts)
        return facts, raw

    def _remember(self, key: str, etag: str, facts: ManifestFacts) -> None:
        if etag:
            self._known[key, etag] = facts
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _examine(raw: bytes, endpoint: Endpoint, info: ObjectInfo) -> ManifestFacts:
    digest = digest_of(raw, Digest(endpoint.reference)) if endpoint.is_immutable else sha256(raw)
    if endpoint.is_immutable and digest != endpoint.reference:
        message = f"the stored manifest {endpoint.reference} is corrupt: its bytes hash to {digest}"
        raise ApiError(500, ErrorCode.MANIFEST_INVALID, message)
    return ManifestFacts(digest, _media_type(raw, info.content_type), len(raw), info.modified)


def _media_type(raw: bytes, content_type: str) -> str:
    """By the one rule; what is no manifest goes out as it is stored, for the client to judge."""
    try:
        return stored_media_type(raw, content_type)
    except (ManifestError, LimitExceeded):
        return content_type.partition(";")[0].strip() or layout.JSON


def _make_unknown_error(endpoint: Endpoint) -> ApiError:
    return ApiError(404, ErrorCode.MANIFEST_UNKNOWN, f"{endpoint.name}: no manifest {endpoint.reference}")
