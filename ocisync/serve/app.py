"""The registry as an aiohttp application.

Spec: distribution v1.1.1, the workflow categories "Pull" and "Content Discovery"; every other method is answered 405.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from ocisync.content.object_store import ObjectStore
from ocisync.errors import OcisyncError
from ocisync.serve.blobs import blob_response
from ocisync.serve.browse_page import page_response
from ocisync.serve.errors import ApiError, ErrorCode, Interrupted, error_response
from ocisync.serve.headers import COMMON, etag_of, http_date, is_match
from ocisync.serve.lists import catalog_response, json_response, tags_response
from ocisync.serve.manifests import ManifestFacts, ManifestReader
from ocisync.serve.referrers import referrers_response
from ocisync.serve.routes import Endpoint, EndpointKind, parse_path
from ocisync.serve.store_streams import StoreStreams
from ocisync.serve.whole_bodies import WholeBodies
from ocisync.stores.static import layout

_METHODS = ("GET", "HEAD")

log = structlog.get_logger(__name__)

Answer = Callable[[web.Request, ObjectStore, Endpoint], Awaitable[web.Response]]


def registry_app(store: ObjectStore, *, page: bool = False) -> web.Application:
    """An application that serves one static registry, read-only, at /v2/, and its page to browse at /.

    `page`: also where the registry itself holds none.
    """
    app = web.Application()
    app.add_routes(registry_routes(store, page=page))
    return app


def registry_routes(store: ObjectStore, *, page: bool = False) -> list[web.RouteDef]:
    """The same as routes, for an application that serves more."""
    registry = _Registry(store, page)
    api = [web.route("*", "/v2", registry.answer), web.route("*", "/v2/{rest:.*}", registry.answer)]
    return [*api, web.get("/", registry.page), web.get("/index.html", registry.page)]


class _Registry:
    """Answers for one store."""

    def __init__(self, store: ObjectStore, has_page: bool) -> None:
        self._store = store
        self._has_page = has_page
        self._manifests = ManifestReader(store)
        self._bodies = WholeBodies()
        self._streams = StoreStreams(store)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, errors included, and leave a line in the log at debug."""
        started = time.monotonic()
        response = await self._answer_or_refuse(request)
        log.debug(
            "request.served",
            method=request.method,
            path=request.rel_url.raw_path[:300],
            status=response.status,
            size=response.content_length,
            seconds=round(time.monotonic() - started, 4),
        )
        return response

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Answer with the page to browse."""
        try:
            return await page_response(self._store, request, always=self._has_page)
        except (OcisyncError, OSError) as exc:
            log.warning("request.failed", path="/", error=str(exc))
            return _unavailable()

    async def _answer_or_refuse(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except ApiError as refusal:
            return error_response(refusal)
        except Interrupted as exc:
            log.warning("answer.interrupted", path=request.rel_url.raw_path[:300], error=str(exc))
            return _break_connection(request)
        except ConnectionError as exc:
            log.debug("client.left", path=request.rel_url.raw_path[:300], error=str(exc))
            return _break_connection(request)
        except (OcisyncError, OSError) as exc:
            code = exc.code if isinstance(exc, OcisyncError) else "disk"
            log.warning("request.failed", path=request.rel_url.raw_path[:300], code=code, error=str(exc))
            return _unavailable()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method not in _METHODS:
            message = f"{request.method} is not served: this registry is read-only, images come to it through ocisync"
            raise ApiError(405, ErrorCode.UNSUPPORTED, message, {"Allow": ", ".join(_METHODS)})
        endpoint = parse_path(request.rel_url.raw_path)
        if endpoint.kind is EndpointKind.BASE:
            return json_response(request, {})
        if endpoint.kind is EndpointKind.BLOB:
            return await blob_response(request, self._store, self._streams, endpoint)
        if endpoint.kind is EndpointKind.MANIFEST:
            async with self._bodies.reading:
                response = await self._manifest(request, endpoint)
        else:
            async with self._bodies.listing:
                response = await _LISTS[endpoint.kind](request, self._store, endpoint)
        return await self._bodies.send(request, response)

    async def _manifest(self, request: web.Request, endpoint: Endpoint) -> web.Response:
        condition = request.headers.get("If-None-Match")
        if request.method == "GET" and condition is None:
            facts, raw = await self._manifests.read(endpoint)
            return web.Response(body=raw, headers=_manifest_headers(endpoint, facts))
        facts = await self._manifests.facts(endpoint)
        headers = _manifest_headers(endpoint, facts)
        if is_match(condition, headers["ETag"]):
            return web.Response(status=304, headers=headers)
        if request.method == "HEAD":
            return web.Response(headers=headers | {"Content-Length": str(facts.size)})
        facts, raw = await self._manifests.read(endpoint)
        return web.Response(body=raw, headers=_manifest_headers(endpoint, facts))


_LISTS: dict[EndpointKind, Answer] = {
    EndpointKind.TAGS: tags_response,
    EndpointKind.CATALOG: catalog_response,
    EndpointKind.REFERRERS: referrers_response,
}


def _manifest_headers(endpoint: Endpoint, facts: ManifestFacts) -> dict[str, str]:
    date = http_date(facts.modified)
    dated = {"Last-Modified": date} if date else {}
    return (
        COMMON
        | dated
        | {
            "Content-Type": facts.media_type,
            "Docker-Content-Digest": facts.digest,
            "ETag": etag_of(facts.digest),
            "Cache-Control": layout.IMMUTABLE if endpoint.is_immutable else layout.NO_CACHE,
        }
    )


def _unavailable() -> web.Response:
    message = "the storage behind this registry does not answer; try again in a moment"
    return error_response(ApiError(503, ErrorCode.UNAVAILABLE, message, {"Retry-After": "5"}))


def _break_connection(request: web.Request) -> web.Response:
    """Break the connection, so that nobody takes half a blob for a whole one."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=499)
