"""Content that something on the way has compressed (Content-Encoding), although it was asked for as it is.

A digest is that of the content as it is stored, so what a proxy added to it has to go. But the same header also stands
on blobs that are compressed themselves: some storage keeps it with every layer. What the content must be, by its
descriptor, tells the two apart: as many bytes as the descriptor says are the content; fewer or more are its encoding.
Where no length is announced, the first bytes decide: a layer of type gzip that would be none after decoding was not
encoded on the way.
Spec: RFC 9110, 8.4.
"""

from __future__ import annotations

import zlib

from ocisync.errors import Truncated
from ocisync.model.descriptor import Descriptor
from ocisync.stores.registry.http.response import CHUNK, Response

_MAGIC = b"\x1f\x8b"
_START = 16 * 1024  # bytes that tell what a body is


class ContentReader:
    """The bytes of one answer's body as the descriptor means them."""

    def __init__(self, answer: Response, desc: Descriptor) -> None:
        self.answer = answer
        self._desc = desc
        self._is_open = answer.encoding == "gzip" and answer.content_length != desc.size  # whether it is to be decoded
        self._decoder: zlib._Decompress | None = None
        self._has_ended = False
        self._waiting = b""  # encoded bytes that were received and not decoded yet

    @property
    def may_be_encoded(self) -> bool:
        """Whether byte positions of the body may be others than those of the content."""
        return self._is_open or self._decoder is not None

    async def chunk(self) -> bytes:
        """The next bytes of the content, at most 1 MiB; empty at the end.

        Raises:
            Truncated, Stalled, NetworkError: the body broke off, stood still, trickled, or is not what it says.
        """
        if self._is_open:
            self._waiting = await self._receive_start()
            self._decoder = self._choose_decoder(self._waiting)
            self._is_open = False
        if self._decoder is None:
            first, self._waiting = self._waiting, b""
            return first or await self._receive()
        return await self._decode(self._decoder)

    async def _receive_start(self) -> bytes:
        start = b""
        while len(start) < _START and not self._has_ended:
            start += await self._receive()
        return start

    async def _receive(self) -> bytes:
        """What has come; the end is asked for once."""
        chunk = b"" if self._has_ended else await self.answer.chunk()
        self._has_ended = not chunk
        return chunk

    def _choose_decoder(self, start: bytes) -> zlib._Decompress | None:
        if not start.startswith(_MAGIC):
            return None
        if self.answer.content_length is None and "gzip" in self._desc.media_type:
            try:
                if not zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(start, len(_MAGIC)).startswith(_MAGIC):
                    return None
            except zlib.error:
                return None
        return zlib.decompressobj(16 + zlib.MAX_WBITS)

    async def _decode(self, decoder: zlib._Decompress) -> bytes:
        while not decoder.eof:
            encoded = self._waiting or await self._receive()
            if not encoded:
                raise Truncated(f"{self._desc.digest}: its gzip ends too early")
            try:
                plain = decoder.decompress(encoded, CHUNK)
            except zlib.error as exc:
                raise Truncated(f"{self._desc.digest}: is said to be sent as gzip, and is not") from exc
            self._waiting = decoder.unconsumed_tail
            if plain:
                return plain
        return b""
