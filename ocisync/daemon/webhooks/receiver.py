"""Where registries report pushes: `POST /v1/webhooks/NAME`, each sender known by its secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import anyio
import structlog
from aiohttp import web

from ocisync.daemon.responses import RefusalLog, constant_time_equal, json_answer, text_answer
from ocisync.daemon.webhooks.payloads import Push, read_pushes
from ocisync.errors import InputError

MAX_BODY = 1 << 20  # bytes of one request
MAX_BODIES = 8 << 20  # bytes of all requests whose bodies are being read
MOST_BODIES = 32  # that are read at a time; other senders come again
BODY_TIME = 30.0  # seconds in which a body must have come
# Docker Hub and Quay send no header of the user's: their secret is in the URL.
_IN_QUERY = frozenset({"dockerhub", "quay"})
_SIGNATURE = "X-Hub-Signature-256"
_HOW = "send the webhook's secret as docs/webhooks.md says for this sender\n"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A sender of notifications."""

    sender: str  # whose format: github, harbor, dockerhub, quay, distribution or plain
    secret: str = field(repr=False)
    registry: str = ""  # the host that rules call it; empty: what the notification says, if anything


class WebhookReceiver(Protocol):
    """What becomes of notifications."""

    def webhooks(self) -> Mapping[str, Webhook]:
        """The senders of the present configuration."""
        ...

    def not_ready(self) -> Sequence[str]:
        """Why nothing can be taken now."""
        ...

    async def accept(self, pushes: Sequence[Push]) -> Sequence[str]:
        """Have looked at what was pushed; the rules that will."""
        ...


class BodyBudget:
    """Memory for bodies of requests: so many bytes of each, so many of all that are being read, and so many at a time.

    What a connection has received and nobody has read yet counts too, a quarter of a MiB: hence the last bound.
    """

    def __init__(self, each: int = MAX_BODY, total: int = MAX_BODIES, most: int = MOST_BODIES) -> None:
        self.each = each
        self.left = total
        self._free = most

    @contextmanager
    def open_body(self) -> Iterator[Body]:
        """A body to be read; what it took is given back with the block. 503 when too many are being read."""
        if not self._free:
            raise web.HTTPServiceUnavailable
        body, self._free = Body(self), self._free - 1
        try:
            yield body
        finally:
            self.left += body.size
            self._free += 1


class Body:
    """A body as far as it has come. Who sends slowly holds no more than what was sent."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._chunks: list[bytes] = []
        self.size = 0  # bytes

    def add(self, chunk: bytes) -> None:
        """Take what has come; 413 when the body is too large, 503 when all bodies together are."""
        if self.size + len(chunk) > self._budget.each:
            raise web.HTTPRequestEntityTooLarge(self._budget.each, self.size + len(chunk))
        if len(chunk) > self._budget.left:
            raise web.HTTPServiceUnavailable
        self._budget.left -= len(chunk)
        self.size += len(chunk)
        self._chunks.append(chunk)

    def whole(self) -> bytes:
        """All of it."""
        return b"".join(self._chunks)


class WebhookPage:
    """Answers notifications. `count` is told the webhook's name and the outcome."""

    def __init__(self, receiver: WebhookReceiver, count: Callable[[str, str], None]) -> None:
        self._receiver = receiver
        self._count = count
        self._budget = BodyBudget()
        self._refusals = RefusalLog()

    async def answer(self, request: web.Request) -> web.Response:
        """202 with the rules that will look; senders repeat what was answered with 5xx."""
        name = request.match_info["name"]
        hook = self._receiver.webhooks().get(name)
        if hook is None:
            return text_answer(
                404, "there is no webhook of this name; they stand under `webhooks` in the configuration\n"
            )
        try:
            body = await _read_authentic(request, hook, self._budget)
        except web.HTTPServiceUnavailable:
            return await _refuse_at_once(request)
        if body is None:
            self._count(name, "refused")
            self._refusals.log("webhook.refused", webhook=name, remote=request.remote)
            return text_answer(401, _HOW)
        if reasons := self._receiver.not_ready():
            return text_answer(503, f"{'; '.join(reasons)}; send it again\n", {"Retry-After": "5"})
        return await self._dispatch(name, hook, body, request.headers)

    async def _dispatch(self, name: str, hook: Webhook, body: bytes, headers: Mapping[str, str]) -> web.Response:
        try:
            pushes = read_pushes(hook.sender, body, headers)
        except InputError as exc:
            self._count(name, "invalid")
            log.warning("webhook.invalid", webhook=name, error=exc.message)
            return text_answer(400, f"{exc.message}\n")
        if hook.registry:
            pushes = [replace(push, registry=hook.registry) for push in pushes]
        rules = await self._receiver.accept(pushes)
        self._count(name, "taken" if rules else "unmatched" if pushes else "ignored")
        log.info("webhook.taken", webhook=name, pushes=len(pushes), rules=list(rules))
        return json_answer({"pushes": len(pushes), "rules": list(rules)}, 202)


async def _refuse_at_once(request: web.Request) -> web.Response:
    """503, and the end of the connection: what is still to come of the body is not even received."""
    answer = text_answer(503, "too many notifications at a time; send it again\n", {"Retry-After": "5"})
    answer.force_close()
    await answer.prepare(request)
    await answer.write_eof()
    request.protocol.force_close()
    return answer


async def _read_authentic(request: web.Request, hook: Webhook, budget: BodyBudget) -> bytes | None:
    """The body, or None when the sender does not prove to know the secret; 413 when it is too large, 408 too slow."""
    if hook.sender == "github":
        if not request.headers.get(_SIGNATURE):
            return None  # nothing is read of what cannot be right
    elif not any(constant_time_equal(given, hook.secret) for given in _find_secrets(request, hook)):
        return None
    signature = hmac.new(hook.secret.encode(), digestmod=hashlib.sha256)
    with anyio.move_on_after(BODY_TIME), budget.open_body() as body:
        async for chunk in request.content.iter_any():
            body.add(chunk)
            signature.update(chunk)
        is_signed = constant_time_equal(request.headers.get(_SIGNATURE, ""), f"sha256={signature.hexdigest()}")
        return body.whole() if hook.sender != "github" or is_signed else None
    raise web.HTTPRequestTimeout


def _find_secrets(request: web.Request, hook: Webhook) -> list[str]:
    """Whatever may be the secret: a bearer token, a password, the header as it is; in the URL where it must be."""
    header = request.headers.get("Authorization", "").strip()
    scheme, _, rest = header.partition(" ")
    given = [header, rest.strip() if scheme.lower() == "bearer" else ""]
    if scheme.lower() == "basic":
        given.append(_decode_password(rest))
    if hook.sender in _IN_QUERY:
        given.append(request.query.get("token", ""))
    return given


def _decode_password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[2]
    except ValueError:  # no base64, or no UTF-8; a character that is not ASCII is neither
        return ""
