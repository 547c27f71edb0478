"""A page to browse the registry: one HTML file at a host's root, which reads the registry's own lists and manifests.

It costs one look per process, and one write when it changes; nothing in it is derived from images. All texts of images
become text nodes in the browser, and its policy lets no other script or style run.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

import structlog
from anyio import to_thread

from ocisync.content.object_store import ObjectHeaders, ObjectStore
from ocisync.content.openers import BytesOpener
from ocisync.errors import OcisyncError
from ocisync.model.digest import sha256

PAGE_KEY = "index.html"
PAGE_HEADERS = ObjectHeaders("text/html; charset=utf-8", "no-cache")
_MARK = b'<meta name="generator" content="ocisync">'
_MARKED_WITHIN = 4096  # bytes

log = structlog.get_logger()


def render_page(template: str, style: str, script: str) -> bytes:
    """The page of its parts, with a policy that names exactly this style and this script. Pure."""
    policy = "; ".join(
        (
            "default-src 'none'",
            "connect-src 'self'",
            "img-src data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    filled = template.replace("{{policy}}", policy).replace("{{style}}", style).replace("{{script}}", script)
    return filled.encode()


def is_ours(start: bytes) -> bool:
    """Whether a page that is there was written by ocisync; another one is never replaced."""
    return _MARK in start[:_MARKED_WITHIN]


@cache
def page_body() -> bytes:
    """The page; reads files of the package, so call it in a thread."""
    folder = resources.files("ocisync.stores.static") / "browse"
    template, style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    return render_page(template, style, script)


async def publish_page(store: ObjectStore) -> bool:
    """Write the page where none, or an older one of ours, is; whether it was written. Never fails a publication."""
    try:
        return await _publish(store)
    except OcisyncError as exc:
        log.warning("page.failed", store=str(store), code=exc.code, error=exc.message)
        return False


async def _publish(store: ObjectStore) -> bool:
    body = await to_thread.run_sync(page_body)
    if await store.head(PAGE_KEY) is not None:
        async with store.open(PAGE_KEY, length=4 * len(body)) as (_, stream):
            found = b"".join([chunk async for chunk in stream])
        if found == body:
            return False
        if not is_ours(found):
            log.info("page.left_alone", store=str(store), key=PAGE_KEY, why="it was not written by ocisync")
            return False
    await store.put(PAGE_KEY, BytesOpener(body), PAGE_HEADERS, size=len(body), digest=sha256(body))
    log.debug("page.written", store=str(store), size=len(body))
    return True


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
