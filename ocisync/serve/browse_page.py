"""The page to browse: the one that the registry holds, or ocisync's own."""

from __future__ import annotations

from aiohttp import web
from anyio import to_thread

from ocisync.content.object_store import ObjectStore
from ocisync.errors import LimitExceeded, NotFound
from ocisync.model.digest import sha256
from ocisync.serve.headers import etag_of, is_match
from ocisync.serve.lists import read_small
from ocisync.stores.static.page import PAGE_HEADERS, PAGE_KEY, page_body

_MAX_PAGE = 1024 * 1024  # bytes


async def page_response(store: ObjectStore, request: web.Request, *, always: bool) -> web.Response:
    """Answer GET or HEAD for the page as it is stored; where there is none, with ocisync's if `always`, else 404."""
    try:
        _, body = await read_small(store, PAGE_KEY, _MAX_PAGE)
    except NotFound:
        body = await to_thread.run_sync(page_body) if always else b""
    except LimitExceeded:
        body = b""
    if not body:
        return web.Response(status=404, text="no page is published here; the registry is at /v2/\n")
    headers = {
        "Content-Type": PAGE_HEADERS.content_type,
        "Cache-Control": PAGE_HEADERS.cache_control,
        "ETag": etag_of(sha256(body)),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    if is_match(request.headers.get("If-None-Match"), headers["ETag"]):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers)
