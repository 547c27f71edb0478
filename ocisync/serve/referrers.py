"""Lists of referrers: filtered, and page by page where clients would refuse the whole.

Spec: distribution v1.1.1, "Listing Referrers".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

from aiohttp import web

from ocisync.content.object_store import ObjectStore
from ocisync.model import media_types
from ocisync.model.manifest import MAX_MANIFEST_SIZE
from ocisync.serve.errors import ApiError, ErrorCode
from ocisync.serve.lists import document_at, json_response
from ocisync.serve.routes import Endpoint
from ocisync.stores.static import layout

_ROOM = MAX_MANIFEST_SIZE - 64 * 1024  # bytes of descriptors; the rest is for what stands around them
_EMPTY_INDEX: Mapping[str, object] = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}


async def referrers_response(request: web.Request, store: ObjectStore, endpoint: Endpoint) -> web.Response:
    """The referrers of a manifest, where they are kept; 404 tells clients to use the fallback tag instead."""
    index = await _index(store, endpoint)
    found = index.get("manifests")
    entries = found if isinstance(found, list) else []
    wanted = request.query.get("artifactType")
    if wanted:
        entries = [entry for entry in entries if _has_type(entry, wanted)]
    entries, last = page_of_entries(entries, request.query.get("last", ""), _ROOM)
    response = json_response(
        request, {**index, "manifests": entries}, media_type=media_types.OCI_INDEX, link=_link(endpoint, wanted, last)
    )
    if wanted:
        response.headers["OCI-Filters-Applied"] = "artifactType"
    return response


def page_of_entries(entries: Iterable[object], last: str, room: int) -> tuple[list[object], str]:
    """The descriptors after the digest `last` that fit into so many bytes, and the digest after which to go on. Pure.

    The order is that of digests; no digest: there are no more.
    """
    page: list[object] = []
    for digest, entry in sorted(((_digest(entry), entry) for entry in entries), key=lambda pair: pair[0]):
        if digest <= last and last:
            continue
        room -= len(json.dumps(entry)) + 1
        if room < 0 and page:
            return page, _digest(page[-1])
        page.append(entry)
    return page, ""


def _link(endpoint: Endpoint, wanted: str | None, last: str) -> str | None:
    if not last:
        return None
    query = urlencode({**({"artifactType": wanted} if wanted else {}), "last": last}, safe="/:")
    return f'</{endpoint.key}?{query}>; rel="next"'


async def _index(store: ObjectStore, endpoint: Endpoint) -> Mapping[str, object]:
    document = await document_at(store, endpoint.key)
    if document is not None:
        return document
    async for _ in store.list(f"{layout.repository_prefix(endpoint.name)}{layout.REFERRERS}/"):
        return _EMPTY_INDEX
    message = f"{endpoint.name}: this registry keeps no referrers of it; look for the tag of the referrers tag schema"
    raise ApiError(404, ErrorCode.MANIFEST_UNKNOWN, message)


def _digest(entry: object) -> str:
    return str(entry.get("digest", "")) if isinstance(entry, dict) else ""


def _has_type(entry: object, wanted: str) -> bool:
    return isinstance(entry, dict) and entry.get("artifactType") == wanted
