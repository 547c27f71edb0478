"""Lists of tags and repositories.

Spec: distribution v1.1.1, "Listing Tags".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from aiohttp import web

from ocisync.content.object_store import ObjectInfo, ObjectStore
from ocisync.errors import LimitExceeded, NotFound
from ocisync.model.digest import sha256
from ocisync.model.image_name import is_tag
from ocisync.model.text.outside_json import load_json
from ocisync.serve.errors import ApiError, ErrorCode
from ocisync.serve.headers import COMMON, etag_of, is_match
from ocisync.serve.pagination import page_of
from ocisync.serve.routes import Endpoint
from ocisync.stores.static import layout

_MAX_LIST = 32 * 1024 * 1024  # bytes; some 600,000 tags


async def tags_response(request: web.Request, store: ObjectStore, endpoint: Endpoint) -> web.Response:
    """The list of tags in lexical order, however it is stored; derived from the tags' keys when it is not."""
    stored = await _stored_list(store, endpoint.key, "tags")
    tags = await _derived_tags(store, endpoint.name) if stored is None else [tag for tag in stored if is_tag(tag)]
    page = page_of(sorted(set(tags)), request.query, f"/{endpoint.key}")
    return json_response(request, {"name": endpoint.name, "tags": list(page.entries)}, link=page.link)


async def catalog_response(request: web.Request, store: ObjectStore, endpoint: Endpoint) -> web.Response:
    """The list of repositories, when the registry keeps one."""
    repositories = await _stored_list(store, endpoint.key, "repositories")
    if repositories is None:
        raise ApiError(404, ErrorCode.UNSUPPORTED, "this registry keeps no list of its repositories")
    page = page_of(sorted(set(repositories)), request.query, f"/{endpoint.key}")
    return json_response(request, {"repositories": list(page.entries)}, link=page.link)


def json_response(
    request: web.Request, document: Mapping[str, object], *, media_type: str = layout.JSON, link: str | None = None
) -> web.Response:
    """A document that clients may keep but must ask about again."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    etag = etag_of(sha256(body))
    headers = COMMON | {"Content-Type": media_type, "Cache-Control": layout.NO_CACHE, "ETag": etag}
    headers |= {"Link": link} if link else {}
    if is_match(request.headers.get("If-None-Match"), etag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers)


async def _stored_list(store: ObjectStore, key: str, member: str) -> Sequence[str] | None:
    document = await document_at(store, key)
    entries = None if document is None else document.get(member)
    if entries is None:
        return None if document is None or member not in document else []
    if not isinstance(entries, list):
        return None
    return [entry for entry in entries if isinstance(entry, str)]


async def document_at(store: ObjectStore, key: str) -> dict[str, object] | None:
    """A stored JSON object; None when it is absent or useless."""
    try:
        _, raw = await read_small(store, key, _MAX_LIST)
        document = load_json(raw)
    except (NotFound, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


async def _derived_tags(store: ObjectStore, name: str) -> Sequence[str]:
    prefix = f"{layout.repository_prefix(name)}{layout.MANIFESTS}/"
    names = [info.key.removeprefix(prefix) async for info in store.list(prefix)]
    if not names:
        raise ApiError(404, ErrorCode.MANIFEST_UNKNOWN, f"{name}: no such repository")
    return [text for text in names if is_tag(text)]


async def read_small(store: ObjectStore, key: str, limit: int) -> tuple[ObjectInfo, bytes]:
    """An object and its bytes, at most `limit` of them.

    Raises:
        NotFound: no such key.
        LimitExceeded: it is larger; at most one chunk more than the limit was read.
    """
    async with store.open(key) as (info, stream):
        chunks: list[bytes] = []
        seen = 0
        if info.size > limit:
            raise LimitExceeded(f"{key}: larger than the {limit} bytes that are accepted here")
        async for chunk in stream:
            seen += len(chunk)
            if seen > limit:
                raise LimitExceeded(f"{key}: larger than the {limit} bytes that are accepted here")
            chunks.append(chunk)
        return info, b"".join(chunks)
