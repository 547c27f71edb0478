"""Content-Encoding that something on the way added or claims, although nothing was asked to be encoded."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web

from ocisync.errors import OcisyncError, SizeMismatch, VerificationError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe
from tests.integration.registries import QUICK, read, repository_at
from tests.servers import images
from tests.servers.loop import serve_app

IMAGE = images.make_image()
PLAIN = images.noise(300_000, "a tar") + bytes(2_000_000)
LAYER = gzip.compress(PLAIN, mtime=0)


@dataclass
class Encoding:
    """A registry behind something that encodes what passes."""

    body: bytes = b""  # of every blob and manifest, as it is stored
    sent: bytes = b""  # as it is sent
    encoding: str = "gzip"
    is_chunked: bool = False
    media_type: str = "application/octet-stream"
    breaks: int = 0  # answers that are cut off
    asked: list[tuple[str, str]] = field(default_factory=list)  # method, Range
    host: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.headers.get("Range", "")))
        reply = web.StreamResponse(headers={"Content-Type": self.media_type, "Content-Encoding": self.encoding})
        if self.is_chunked:
            reply.enable_chunked_encoding()
        else:
            reply.content_length = len(self.sent)
        await reply.prepare(request)
        if request.method != "HEAD":
            if self.breaks:
                self.breaks -= 1
                await reply.write(self.sent[: len(self.sent) // 2])
                assert request.transport is not None
                request.transport.close()
                return reply
            await reply.write(self.sent)
        await reply.write_eof()
        return reply


@pytest.fixture
def server() -> Iterator[Encoding]:
    running = Encoding()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", running.answer)
    with serve_app(app) as url:
        running.host = url.removeprefix("http://")
        yield running


def blob(body: bytes, media_type: str = media_types.OCI_LAYER_GZIP) -> Descriptor:
    return replace(describe(body, media_type), data=None)


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(
    ("body", "sent", "media_type"),
    [
        (b'{"a": 1}' * 1000, gzip.compress(b'{"a": 1}' * 1000), media_types.OCI_CONFIG),
        (PLAIN, gzip.compress(PLAIN), media_types.OCI_LAYER),
        (LAYER, gzip.compress(LAYER), media_types.OCI_LAYER_GZIP),  # twice
        (LAYER, LAYER, media_types.OCI_LAYER_GZIP),  # the claim of a storage that keeps it with the layer
        (LAYER, LAYER, media_types.DOCKER_LAYER_GZIP),
        (b'{"a": 1}', b'{"a": 1}', media_types.OCI_CONFIG),  # a claim, and nothing more
        (b"", b"", media_types.OCI_CONFIG),
    ],
    ids=["config", "tar", "twice", "claimed", "claimed of docker", "not at all", "empty"],
)
async def test_a_blob_is_what_its_descriptor_says(
    server: Encoding, body: bytes, sent: bytes, media_type: str, *, is_chunked: bool
) -> None:
    server.sent, server.is_chunked = sent, is_chunked
    async with repository_at(server.host) as repository:
        assert await read(repository, blob(body, media_type)) == body


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "identity, gzip"])
async def test_a_manifest_is_read_by_tag_and_by_digest(server: Encoding, encoding: str) -> None:
    server.sent, server.encoding = gzip.compress(IMAGE.manifest), encoding
    server.media_type = IMAGE.media_type
    async with repository_at(server.host) as repository:
        found = await repository.resolve("1")
        assert (found.digest, found.size) == (IMAGE.digest, len(IMAGE.manifest))
        assert await read(repository, replace(found, data=None)) == IMAGE.manifest
        assert await repository.exists(replace(found, data=None))  # the length of the encoding is none of its own


@pytest.mark.parametrize("encoding", ["aws-chunked", "aws-chunked,identity", "br", "zstd"])
async def test_other_encodings_are_left_to_the_digest(server: Encoding, encoding: str) -> None:
    server.sent, server.encoding = LAYER, encoding
    async with repository_at(server.host) as repository:
        assert await read(repository, blob(LAYER)) == LAYER


async def test_storage_that_was_written_in_chunks_gives_lists_and_manifests(server: Encoding) -> None:
    server.sent, server.encoding, server.media_type = IMAGE.manifest, "aws-chunked", IMAGE.media_type
    async with repository_at(server.host) as repository:
        assert (await repository.resolve_with_manifest("1", is_needed=True)).data == IMAGE.manifest


async def test_a_broken_transfer_of_an_encoding_begins_again_without_a_range(server: Encoding) -> None:
    server.sent, server.breaks = gzip.compress(PLAIN), 2
    async with repository_at(server.host) as repository:
        assert await read(repository, blob(PLAIN, media_types.OCI_LAYER)) == PLAIN
    assert {asked for _, asked in server.asked} == {""}
    assert len(server.asked) == 3


async def test_what_swells_beyond_the_descriptor_is_cut_off(server: Encoding) -> None:
    server.sent = gzip.compress(bytes(50_000_000))
    async with repository_at(server.host, replace(QUICK, retries=0)) as repository:
        with pytest.raises(SizeMismatch):
            await read(repository, blob(bytes(1000), media_types.OCI_LAYER))


async def test_wrong_content_is_refused_in_whatever_encoding(server: Encoding) -> None:
    async with repository_at(server.host, replace(QUICK, retries=0)) as repository:
        for server.sent in (
            gzip.compress(b"other"),
            gzip.compress(PLAIN)[:-100],
            b"\x1f\x8b no gzip",
            b"another length",
        ):
            for server.is_chunked in (False, True):
                with pytest.raises((VerificationError, OcisyncError)):
                    await read(repository, blob(PLAIN, media_types.OCI_LAYER))
