"""What a fault proxy can do to one exchange. Offsets count bytes of the body."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import anyio
from anyio.to_thread import run_sync

from .messages import Head, Headers

Body = AsyncIterator[bytes]


class Cut(Exception):
    """End the client's connection now: with a reset, or with an ordinary end."""

    def __init__(self, *, reset: bool) -> None:
        self.reset = reset


@dataclass(slots=True)
class Exchange:
    """One request on its way; an action may change `head` before it is sent on."""

    head: Head
    body: Body

    @property
    def path(self) -> str:
        """The request's target, with its query."""
        return self.head.start[1]


@dataclass(slots=True)
class Answer:
    """A reply on its way back; an action may change all of it."""

    status: int
    headers: Headers
    body: Body
    reason: str = "Injected"


class Action:
    """Does nothing: the request and the reply pass unchanged."""

    async def before(self, exchange: Exchange) -> Answer | None:
        """Look at the request; an answer given here never reaches the server."""
        return None

    async def after(self, answer: Answer) -> None:
        """Change the server's answer."""


@dataclass(frozen=True, slots=True)
class Delay(Action):
    """Make the request wait, as a long way does; `seconds`."""

    seconds: float

    async def before(self, exchange: Exchange) -> Answer | None:
        """Wait, then let it pass."""
        await anyio.sleep(self.seconds)
        return None


@dataclass(frozen=True, slots=True)
class Refuse(Action):
    """Reset the connection as soon as the request's head is known; the server never sees it."""

    async def before(self, exchange: Exchange) -> Answer | None:
        raise Cut(reset=True)


@dataclass(frozen=True, slots=True)
class ResetRequest(Action):
    """Reset in mid-upload: the server gets so many bytes, then its connection ends too."""

    after_bytes: int

    async def before(self, exchange: Exchange) -> Answer | None:
        exchange.body = _first(exchange.body, self.after_bytes, Cut(reset=True))
        return None


@dataclass(frozen=True, slots=True)
class LoseReply(Action):
    """The server completes the request; the client gets a reset instead of the reply."""

    async def after(self, answer: Answer) -> None:
        async for _ in answer.body:
            pass
        raise Cut(reset=True)


@dataclass(frozen=True, slots=True)
class ResetBody(Action):
    """Reset after so many bytes of the reply's body."""

    after_bytes: int

    async def after(self, answer: Answer) -> None:
        answer.body = _first(answer.body, self.after_bytes, Cut(reset=True))


@dataclass(frozen=True, slots=True)
class Truncate(Action):
    """End the connection in order, too early: with the whole Content-Length announced, or in chunks."""

    after_bytes: int
    chunked: bool = False

    async def after(self, answer: Answer) -> None:
        if self.chunked:
            answer.headers.drop("Content-Length")
            answer.headers.set("Transfer-Encoding", "chunked")
        answer.body = _first(answer.body, self.after_bytes, Cut(reset=False))


@dataclass(frozen=True, slots=True)
class Stall(Action):
    """Send so many bytes, then nothing, and keep the connection open; -1 holds back the head as well."""

    after_bytes: int

    async def after(self, answer: Answer) -> None:
        if self.after_bytes < 0:
            await anyio.sleep_forever()
        answer.body = _first(answer.body, self.after_bytes, None)


@dataclass(frozen=True, slots=True)
class Trickle(Action):
    """Send the body piece by piece with a pause between: `size` bytes every `pause` seconds."""

    size: int = 1
    pause: float = 0.05

    async def after(self, answer: Answer) -> None:
        answer.body = _slowly(answer.body, self.size, self.pause)


@dataclass(frozen=True, slots=True)
class Flip(Action):
    """Turn over one byte of the reply's body."""

    at: int = 0

    async def after(self, answer: Answer) -> None:
        answer.body = _flipped(answer.body, self.at)


@dataclass(frozen=True, slots=True)
class Reply(Action):
    """Answer instead of the server. The request's body is read first."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    async def before(self, exchange: Exchange) -> Answer | None:
        async for _ in exchange.body:
            pass
        given = {"Content-Length": str(len(self.body)), **self.headers}
        return Answer(self.status, Headers(list(given.items())), _once(self.body))


@dataclass(frozen=True, slots=True)
class Redirect(Action):
    """Redirect to a URL, in which `{path}` stands for the request's target."""

    to: str
    status: int = 307

    async def before(self, exchange: Exchange) -> Answer | None:
        location = self.to.replace("{path}", exchange.path)
        return await Reply(self.status, {"Location": location}).before(exchange)


@dataclass(frozen=True, slots=True)
class ChangeHeaders(Action):
    """Replace, add and drop headers of the reply; the body stays."""

    replace: Mapping[str, str] = field(default_factory=dict)
    add: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()

    async def after(self, answer: Answer) -> None:
        for name in self.drop:
            answer.headers.drop(name)
        for name, value in self.replace.items():
            answer.headers.set(name, value)
        answer.headers.pairs += self.add.items()


@dataclass(frozen=True, slots=True)
class ChangeBody(Action):
    """Pass the reply's whole body through a function; Content-Length follows."""

    change: Callable[[bytes], bytes]

    async def after(self, answer: Answer) -> None:
        whole = self.change(b"".join([piece async for piece in answer.body]))
        answer.headers.drop("Transfer-Encoding")
        answer.headers.set("Content-Length", str(len(whole)))
        answer.body = _once(whole)


@dataclass(frozen=True, slots=True)
class IgnoreRange(Action):
    """The server never sees Range, so it answers 200 with everything."""

    async def before(self, exchange: Exchange) -> Answer | None:
        exchange.head.headers.drop("Range")
        return None


@dataclass(frozen=True, slots=True)
class WrongRange(Action):
    """Answer from an offset moved by `by` bytes; honest in Content-Range unless `lie`."""

    by: int
    lie: bool = False

    async def before(self, exchange: Exchange) -> Answer | None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", exchange.head.headers.get("Range"))
        if wanted:
            exchange.head.headers.set("Range", f"bytes={int(wanted[1]) + self.by}-{wanted[2]}")
        return None

    async def after(self, answer: Answer) -> None:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(.*)", answer.headers.get("Content-Range"))
        if found and self.lie:
            answer.headers.set("Content-Range", f"bytes {int(found[1]) - self.by}-{found[2]}/{found[3]}")


@dataclass(frozen=True, slots=True)
class Call(Action):
    """Call a function with the request's target before the request goes on, in a thread: it may block or act."""

    function: Callable[[str], object]

    async def before(self, exchange: Exchange) -> Answer | None:
        await run_sync(self.function, exchange.path, abandon_on_cancel=True)
        return None


async def _first(body: Body, count: int, then: Cut | None) -> Body:
    async for piece in body:
        if len(piece) > count:
            yield piece[:count]
            break
        count -= len(piece)
        yield piece
        if not count:
            break
    if then:
        raise then
    await anyio.sleep_forever()


async def _slowly(body: Body, size: int, pause: float) -> Body:
    async for piece in body:
        for start in range(0, len(piece), size):
            yield piece[start : start + size]
            await anyio.sleep(pause)


async def _flipped(body: Body, at: int) -> Body:
    async for piece in body:
        if 0 <= at < len(piece):
            yield piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]
        else:
            yield piece
        at -= len(piece)


async def _once(body: bytes) -> Body:
    yield body
