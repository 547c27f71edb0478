"""A tar that is the same for the same content, compressed as its name says; it appears when it is whole.

Spec: POSIX.1-2017, pax, "ustar Interchange Format"; sizes from 8 GiB on in a pax header.
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from anyio import CancelScope

from ocisync.content.compress import Compression, Kind, compress, split_blocks
from ocisync.content.files import READ, FileSection
from ocisync.content.threads import run_file, run_steps
from ocisync.errors import ConfigError
from ocisync.stores.archive.atomic_file import StagedFile, stage_file
from ocisync.stores.archive.streams import StreamedOutput, is_stream

Members = Mapping[str, FileSection | bytes]

_COMPRESSED: Mapping[str, Kind] = {".tar.gz": "gzip", ".tgz": "gzip", ".tar.zst": "zstd", ".tzst": "zstd"}
_ONLY_READ = (".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tbz")
_CHUNKS_PER_STEP = 8  # of at most 1 MiB, between two looks for cancellation


def choose_compression(name: str) -> Compression | None:
    """How an archive of this name is compressed as a whole; None: not at all.

    Raises:
        ConfigError: in a way that is only read.
    """
    if name.endswith(_ONLY_READ):
        raise ConfigError(f"{name}: archives are written as .tar, .tar.gz or .tar.zst; name it so")
    return next((Compression(kind) for ending, kind in _COMPRESSED.items() if name.endswith(ending)), None)


async def write_members(file: Path, members: Members) -> None:
    """Write an archive, sorted by the members' names, with times of zero.

    Raises:
        DiskError: it cannot be written; what was there under the name stays.
    """
    compression = choose_compression(file.name)
    async with _open_output(file) as staged:
        if compression is None:
            await run_steps(_write_plain(_render_chunks(members), staged))
        else:
            await compress(split_blocks(_render_chunks(members)), staged.write, compression)
        await run_file(staged.commit)


@asynccontextmanager
async def _open_output(file: Path) -> AsyncIterator[StagedFile | StreamedOutput]:
    """A file that is replaced when all is written, or a stream, which is written through."""
    if not await run_file(partial(is_stream, file)):
        async with stage_file(file) as staged:
            yield staged
        return
    stream = await run_file(partial(StreamedOutput, file))
    try:
        yield stream
    finally:
        with CancelScope(shield=True):
            await run_file(stream.close)


def _write_plain(chunks: Iterator[bytes], staged: StagedFile | StreamedOutput) -> Generator[None, None, None]:
    for number, chunk in enumerate(chunks, 1):
        staged.write(chunk)
        if number % _CHUNKS_PER_STEP == 0:
            yield


def _render_chunks(members: Members) -> Iterator[bytes]:
    for name, content in sorted(members.items()):
        size = len(content) if isinstance(content, bytes) else content.size
        yield render_header(name, size)
        if isinstance(content, bytes):
            yield content
        else:
            for offset in range(0, size, READ):
                yield content.read_at(offset, min(READ, size - offset))
        yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def render_header(name: str, size: int) -> bytes:
    """What stands before a member's content."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)
