"""A Docker Hub of our own: a front of a real registry that counts pulls, tells what is left, and refuses the rest.

A GET of a manifest is a pull, a HEAD is free. When the budget renews does not depend on how fast the machine is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

import aiohttp
from aiohttp import web

from .loop import serve_app

_HOP = frozenset({"connection", "transfer-encoding", "host", "content-length"})


@dataclass(slots=True)
class Hub:
    """A running front; its attributes may be changed at any time."""

    upstream: str
    limit: int = 100
    window: int = 21600  # seconds, as the headers say; nothing here depends on it
    looks: int = 3  # HEADs at `floor` after which the budget renews
    floor: int = 0  # pulls that are left then
    retry_after: int = 1  # seconds, as a refusal says; the budget renews after them
    tells: bool = True  # whether the headers say what is left
    url: str = ""
    pulls: int = 0  # by this client, ever
    spent: int = 0  # of the budget, by this client and others
    least: int = 1_000_000  # the fewest pulls that were ever left
    refused: list[float] = field(default_factory=list)  # when, since the budget was new
    refusals: list[float] = field(default_factory=list)  # when, ever
    asked: list[tuple[str, str, float]] = field(default_factory=list)  # method, path, when
    _looked: int = 0

    @property
    def host(self) -> str:
        """`127.0.0.1:port`, as a reference begins."""
        return self.url.removeprefix("http://")

    @property
    def left(self) -> int:
        """Pulls that are allowed now."""
        return self.limit - self.spent

    def asked_for(self, method: str, what: str = "/manifests/") -> int:
        """How many requests there were."""
        return sum(one == method and what in path for one, path, _ in self.asked)

    def spend(self, pulls: int) -> None:
        """Others pull."""
        self.spent += pulls

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        self.asked.append((request.method, request.path_qs, monotonic()))
        is_manifest = "/manifests/" in request.path
        if is_manifest and request.method == "HEAD":
            self._look()
        if is_manifest and request.method == "GET":
            if self.left <= 0 and not self._is_over():
                return self._too_many()
            self.pulls += 1
            self.spend(1)
        self.least = min(self.least, self.left)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, self.upstream + request.path_qs, headers=headers) as reply,
        ):
            told = {name: value for name, value in reply.headers.items() if name.lower() not in _HOP}
            told |= self._counts() if is_manifest else {}
            if request.method == "HEAD":
                told["Content-Length"] = reply.headers.get("Content-Length", "0")
            return web.Response(status=reply.status, headers=told, body=await reply.read() or None)

    def _look(self) -> None:
        self._looked += self.left <= self.floor
        if self._looked >= self.looks:
            self.spent, self._looked = 0, 0

    def _is_over(self) -> bool:
        """Whether the time that the first refusal named is over; the budget is new then."""
        if not self.refused or monotonic() < self.refused[0] + self.retry_after:
            return False
        self.spent, self.refused = 0, []
        return True

    def _counts(self) -> dict[str, str]:
        if not self.tells:
            return {}
        left = max(self.left, 0)
        return {"RateLimit-Limit": f"{self.limit};w={self.window}", "RateLimit-Remaining": f"{left};w={self.window}"}

    def _too_many(self) -> web.Response:
        self.refused.append(monotonic())
        self.refusals.append(monotonic())
        error = {"errors": [{"code": "TOOMANYREQUESTS", "message": "You have reached your pull rate limit."}]}
        headers = {"Retry-After": str(self.retry_after)}
        return web.json_response(error, status=429, headers=headers | self._counts())


@contextmanager
def hub(upstream: str) -> Iterator[Hub]:
    """A running front of a registry's origin."""
    front = Hub(upstream)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", front.answer)
    with serve_app(app) as front.url:
        yield front
