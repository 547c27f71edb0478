"""Pull a whole graph and check every byte of it, keeping nothing: proof that what is published can be pulled."""

from __future__ import annotations

from dataclasses import dataclass

from ocisync.content.concurrency import SingleFlight, for_each
from ocisync.content.repository import Fetcher
from ocisync.content.verify import read_entry, read_manifest, verify_stream
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.manifest import may_be_manifest, parse_manifest

_AT_A_TIME = 4  # children of one manifest


@dataclass(slots=True)
class PullResult:
    """What was read."""

    manifests: int = 0
    blobs: int = 0
    bytes: int = 0


async def pull_and_check(source: Fetcher, root: Descriptor) -> PullResult:
    """Read everything at and below a root.

    Raises:
        NotFound: something it needs is not there.
        DigestMismatch, SizeMismatch: something is not what its descriptor says.
    """
    pulled = PullResult()
    once: SingleFlight[Digest, None] = SingleFlight()

    async def blob(desc: Descriptor) -> None:
        if desc.data is None:
            async with source.open(desc) as stream:
                async for _ in verify_stream(stream, desc):
                    pass
        pulled.blobs += 1
        pulled.bytes += desc.size

    async def manifest(desc: Descriptor) -> None:
        parsed = parse_manifest(await read_manifest(source, desc), desc.media_type)
        pulled.manifests += 1
        pulled.bytes += desc.size
        await for_each(parsed.children, entry if parsed.is_index else node, _AT_A_TIME)

    async def entry(desc: Descriptor) -> None:
        await node((await read_entry(source, desc))[0] if may_be_manifest(desc) else desc)

    async def node(desc: Descriptor) -> None:
        async with once.turn(desc.digest) as turn:
            if not turn.is_done:
                await (manifest(desc) if desc.is_manifest else blob(desc))

    await node(root)
    return pulled
