"""A registry that answers as a test likes, and otherwise as the specification says."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from aiohttp import web

from ocisync.stores.registry.client import RegistryClient, open_registries
from ocisync.stores.registry.options import RegistryOptions
from tests.integration.registries import QUICK
from tests.servers.simulated import Reply, Simulated

NAME = "library/app"
HTML = {"Content-Type": "text/html"}
Hook = Callable[[web.Request], Reply | None]


@dataclass
class Hooked(Simulated):
    """A registry that wants no login; a hook may answer before it."""

    hook: Hook = field(default=lambda _: None)

    async def route(self, request: web.Request) -> Reply:
        if (reply := self.hook(request)) is not None:
            await request.read()
            return reply
        return await super().route(request)

    def refuse(self, request: web.Request, name: str) -> web.Response | None:
        return None

    def methods(self, part: str) -> list[str]:
        """The methods of the requests for something."""
        return [one.method for one in self.asked if part in one.path]


def open_client(registry: Simulated, options: RegistryOptions = QUICK) -> AbstractAsyncContextManager[RegistryClient]:
    """A client of a registry."""
    return open_registries({registry.host: options})


def answering(method: str, part: str, reply: Callable[[], Reply], times: int = 1000) -> Hook:
    """A hook that answers some requests so."""
    left = [times]

    def answer(request: web.Request) -> Reply | None:
        if request.method != method or part not in request.path or not left[0]:
            return None
        left[0] -= 1
        return reply()

    return answer
