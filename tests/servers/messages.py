"""HTTP/1.1 on a raw stream, as little as a proxy needs."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field

from anyio.abc import ByteSendStream
from anyio.streams.buffered import BufferedByteReceiveStream

_MAX_HEAD = 64 * 1024
_CHUNK = 64 * 1024


@dataclass(slots=True)
class Headers:
    """Names keep their case and order; look-ups do not mind the case."""

    pairs: list[tuple[str, str]] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        """The first value."""
        return next((value for key, value in self.pairs if key.lower() == name.lower()), default)

    def drop(self, name: str) -> None:
        """Remove every value."""
        self.pairs = [(key, value) for key, value in self.pairs if key.lower() != name.lower()]

    def set(self, name: str, value: str) -> None:
        """Replace every value by one."""
        self.drop(name)
        self.pairs.append((name, value))

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in self.get("Transfer-Encoding").lower()


@dataclass(slots=True)
class Head:
    """A start line, split in three, and headers."""

    start: tuple[str, str, str]
    headers: Headers

    def encode(self) -> bytes:
        """As sent."""
        lines = [" ".join(self.start).rstrip(), *(f"{name}: {value}" for name, value in self.headers.pairs)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def read_head(stream: BufferedByteReceiveStream) -> Head:
    """Read to the empty line."""
    text = (await stream.receive_until(b"\r\n\r\n", _MAX_HEAD)).decode("latin-1")
    first, *rest = text.split("\r\n")
    start = [*first.split(" ", 2), ""]
    pairs = (line.partition(":") for line in rest)
    return Head((start[0], start[1], start[2]), Headers([(name, value.strip()) for name, _, value in pairs]))


def read_body(stream: BufferedByteReceiveStream, headers: Headers, *, to_end: bool) -> AsyncIterator[bytes]:
    """The body without its framing; `to_end` when a body without a length lasts until the connection ends.

    The headers are looked at now, not when the body is read: an action may change them in between.
    """
    if headers.chunked:
        return _read_chunks(stream)
    if to_end and not headers.get("Content-Length"):
        return _read_to_end(stream)
    return _read_exactly(stream, int(headers.get("Content-Length", "0")))


async def write_body(stream: ByteSendStream, headers: Headers, body: AsyncIterable[bytes]) -> None:
    """Send with the framing that the headers announce."""
    async for piece in body:
        if piece:
            await stream.send(b"%x\r\n%b\r\n" % (len(piece), piece) if headers.chunked else piece)
    if headers.chunked:
        await stream.send(b"0\r\n\r\n")


async def _read_chunks(stream: BufferedByteReceiveStream) -> AsyncIterator[bytes]:
    while size := int((await stream.receive_until(b"\r\n", 1024)).split(b";")[0], 16):
        async for piece in _read_exactly(stream, size):
            yield piece
        await stream.receive_exactly(2)
    while await stream.receive_until(b"\r\n", _MAX_HEAD):
        pass


async def _read_to_end(stream: BufferedByteReceiveStream) -> AsyncIterator[bytes]:
    async for piece in stream:
        yield piece


async def _read_exactly(stream: BufferedByteReceiveStream, length: int) -> AsyncIterator[bytes]:
    while length:
        piece = await stream.receive(min(length, _CHUNK))
        length -= len(piece)
        yield piece
