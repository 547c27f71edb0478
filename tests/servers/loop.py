"""Servers of our own, in a thread with an event loop of its own, so that synchronous and async tests can use them."""

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeVar

from aiohttp import web
from anyio.from_thread import start_blocking_portal

_T = TypeVar("_T")


@contextmanager
def in_thread(manager: Callable[[], AbstractAsyncContextManager[_T]]) -> Iterator[_T]:
    """Hold an async context manager open in a thread with its own event loop."""
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(manager()) as value:
        yield value


@contextmanager
def serve_app(app: web.Application, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve an aiohttp application on loopback; its URL, without a slash at the end."""

    @asynccontextmanager
    async def serving() -> AsyncIterator[str]:
        runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
            host, port = runner.addresses[0][:2]
            yield f"{'https' if tls else 'http'}://{host}:{port}"
        finally:
            await runner.cleanup()

    with in_thread(serving) as url:
        yield url
