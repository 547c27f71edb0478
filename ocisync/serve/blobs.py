"""Blobs: whole or in part, by the kernel's sendfile where the store has files, else streamed in bounded memory.

Spec: distribution v1.1.1, "Pulling blobs"; RFC 9110, section 14.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from ocisync.content.object_store import LocalFiles, ObjectInfo, ObjectStore
from ocisync.errors import NotFound, OcisyncError
from ocisync.model import media_types
from ocisync.serve.errors import ApiError, ErrorCode, Interrupted
from ocisync.serve.headers import COMMON, ByteRange, Unsatisfiable, etag_of, is_match, wanted_range
from ocisync.serve.routes import Endpoint
from ocisync.serve.send_file import IDLE, send_file
from ocisync.serve.store_streams import StoreStreams
from ocisync.stores.static import layout


async def blob_response(
    request: web.Request, store: ObjectStore, streams: StoreStreams, endpoint: Endpoint
) -> web.StreamResponse:
    """Answer HEAD or GET for one blob; the bytes are on their way when this returns."""
    headers = _headers(endpoint)
    if request.method == "HEAD":
        info = await _require(store, endpoint)
        return web.Response(headers=headers | {"Content-Length": str(info.size)})
    if is_match(request.headers.get("If-None-Match"), headers["ETag"]):
        await _require(store, endpoint)
        return web.Response(status=304, headers=headers)
    try:
        if isinstance(store, LocalFiles):
            return await _from_file(request, store, endpoint)
        return await _from_store(request, store, streams, endpoint)
    except NotFound as exc:
        raise _make_unknown_error(endpoint) from exc


def _headers(endpoint: Endpoint) -> dict[str, str]:
    return COMMON | {
        "Content-Type": media_types.OCTET_STREAM,
        "Docker-Content-Digest": endpoint.reference,
        "ETag": etag_of(endpoint.reference),
        "Cache-Control": layout.IMMUTABLE,
        "Accept-Ranges": "bytes",
    }


async def _require(store: ObjectStore, endpoint: Endpoint) -> ObjectInfo:
    info = await store.head(endpoint.key)
    if info is None:
        raise _make_unknown_error(endpoint)
    return info


async def _from_store(
    request: web.Request, store: ObjectStore, streams: StoreStreams, endpoint: Endpoint
) -> web.StreamResponse:
    size = (await _require(store, endpoint)).size if "Range" in request.headers else None
    window = None if size is None else _range_of(request, endpoint, size)
    start, length = (window.start, window.length) if window else (0, None)
    async with streams.open(request, endpoint.key, start, length) as (info, sender):
        response = _make_response(endpoint, info.size if size is None else size, window)
        await response.prepare(request)
        with _interrupting(endpoint):
            await sender.send(request)
        return response


async def _from_file(request: web.Request, store: LocalFiles, endpoint: Endpoint) -> web.StreamResponse:
    async with store.open_file(endpoint.key) as (info, file):
        window = _range_of(request, endpoint, info.size)
        response = _make_response(endpoint, info.size, window)
        await response.prepare(request)
        with _interrupting(endpoint):
            window = window or ByteRange(0, info.size)
            await send_file(request, response, file, window.start, window.length)
        return response


def _range_of(request: web.Request, endpoint: Endpoint, size: int) -> ByteRange | None:
    asked, condition = request.headers.get("Range"), request.headers.get("If-Range")
    try:
        return wanted_range(asked, condition, etag_of(endpoint.reference), size)
    except Unsatisfiable as exc:
        headers = {"Content-Range": f"bytes */{size}"}
        raise ApiError(416, ErrorCode.SIZE_INVALID, f"the blob has {size} bytes", headers) from exc


@contextmanager
def _interrupting(endpoint: Endpoint) -> Iterator[None]:
    """Once the headers are out, no error can be answered with a status any more."""
    try:
        yield
    except ConnectionError:
        raise
    except TimeoutError as exc:
        raise Interrupted(f"{endpoint.key}: the client took nothing for {IDLE:.0f} s") from exc
    except (OcisyncError, OSError) as exc:
        raise Interrupted(f"{endpoint.key}: {exc}") from exc


def _make_response(endpoint: Endpoint, size: int, window: ByteRange | None) -> web.StreamResponse:
    headers = _headers(endpoint)
    if window is None:
        return web.StreamResponse(headers=headers | {"Content-Length": str(size)})
    headers |= {"Content-Length": str(window.length), "Content-Range": window.content_range(size)}
    return web.StreamResponse(status=206, headers=headers)


def _make_unknown_error(endpoint: Endpoint) -> ApiError:
    return ApiError(404, ErrorCode.BLOB_UNKNOWN, f"{endpoint.name}: no blob {endpoint.reference}")
