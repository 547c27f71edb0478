"""The page to browse, where the registry holds one."""

from __future__ import annotations

from aiohttp import web

from ocisync.content.object_store import ObjectStore
from ocisync.errors import LimitExceeded, NotFound
from ocisync.model.digest import sha256
from ocisync.serve.headers import etag_of, is_match
from ocisync.serve.lists import read_small
from ocisync.stores.static.page import PAGE_HEADERS, PAGE_KEY

_MAX_PAGE = 1024 * 1024  # bytes


async def page_response(store: ObjectStore, request: web.Request) -> web.Response:
    """Answer GET or HEAD for the page as it is stored; 404 where there is none."""
    try:
        _, body = await read_small(store, PAGE_KEY, _MAX_PAGE)
    except (NotFound, LimitExceeded):
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
