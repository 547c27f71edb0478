"""What an archive or a layout directory looks like to its readers: names that lead to stretches of files."""

from __future__ import annotations

import errno
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import structlog
from anyio import CancelScope

from ocisync.content.decompress import MAGIC_LENGTH, Caps, decompress_to_spool, detect_compression
from ocisync.content.files import FileGuard, FileSection, InputFile, Spool
from ocisync.content.tar.index import TarIndex, TarLimits, index_tar
from ocisync.content.threads import run_file, run_steps
from ocisync.errors import ArchiveError, InputError, LimitExceeded, OcisyncError, machine_error
from ocisync.model.manifest import MAX_MANIFEST_SIZE
from ocisync.stores.archive.other_content import HEAD, explain_content
from ocisync.stores.archive.streams import StreamedInput, is_stream, read_stream

log = structlog.get_logger(__name__)


class MemberFiles(Protocol):
    """Named content."""

    where: str  # for messages

    def open(self, name: str) -> AbstractAsyncContextManager[FileSection | None]:
        """Where the content of a file is; None when there is no such file.

        Raises:
            ArchiveError: the name leads out of the archive.
        """
        ...

    async def check(self) -> None:
        """Look whether what was read is still what was opened.

        Raises:
            InputChanged: it is not.
        """
        ...


@runtime_checkable
class UnnamedImages(Protocol):
    """A source that knows which of its images nothing names."""

    async def unnamed(self) -> Sequence[str]:
        """`@N` for each image without a name that can be published, when others have one."""
        ...


class ArchiveFiles:
    """The members of a tar archive."""

    def __init__(self, path: Path, input_file: InputFile | StreamedInput, index: TarIndex) -> None:
        self.where = str(path)
        self.index = index
        self.is_compressed = index.file is not input_file  # as a whole
        self._input = input_file

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[FileSection | None]:
        """Where a member's content is, links inside the archive followed."""
        yield self.find(name)

    def find(self, name: str) -> FileSection | None:
        """The same, usable as long as the archive is open."""
        try:
            return self.index.find(name)
        except OcisyncError as exc:
            raise _add_place(exc, self.where) from exc

    async def check(self) -> None:
        """Raise InputChanged when the archive was replaced, cut or written to."""
        await run_file(self._input.check)


class FolderFiles:
    """The files of a layout directory."""

    def __init__(self, root: Path, guard: FileGuard | None = None) -> None:
        self.where = str(root)
        self._root = root
        self._guard = replace(guard, identity=None) if guard else None  # that is the folder's

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[FileSection | None]:
        """Where a file's content is."""
        found = await run_file(partial(_open_beneath, self._root, name, self._guard))
        try:
            yield None if found is None else FileSection(found, 0, found.size)
        finally:
            if found is not None:
                with CancelScope(shield=True):
                    await run_file(found.close)

    async def check(self) -> None:
        """Nothing to look at: a layout directory may grow while it is read."""


@asynccontextmanager
async def open_archive_files(
    path: Path,
    scratch: Path,
    caps: Caps | None = None,
    limits: TarLimits | None = None,
    guard: FileGuard | None = None,
) -> AsyncIterator[ArchiveFiles]:
    """Index an archive; when it is compressed as a whole, it is first decompressed once into `scratch`.

    Raises:
        ArchiveError, LimitExceeded: not a tar, corrupt, truncated, or a bomb.
        InputChanged: it was replaced or cut meanwhile.
    """
    input_file: InputFile | StreamedInput
    if guard is None and await run_file(partial(is_stream, path)):
        input_file = await run_steps(read_stream(path, scratch))
    else:
        input_file = await run_file(partial(InputFile, path, guard))
    spool: Spool | None = None
    try:
        whole = FileSection(input_file, 0, input_file.size)
        try:
            head = await run_file(partial(whole.head, MAGIC_LENGTH))
            if kind := detect_compression(head):
                spool = await run_steps(decompress_to_spool(whole, kind, scratch, caps or Caps()))
            index = await run_steps(index_tar(spool or input_file, limits))
        except OcisyncError as exc:
            await run_file(input_file.check)
            told = explain_content(await run_file(partial(whole.head, HEAD))) if isinstance(exc, ArchiveError) else ""
            raise _add_place(ArchiveError(told) if told else exc, str(path)) from exc
        for warning in index.warnings:
            log.warning("archive.member_skipped", path=str(path), reason=warning)
        yield ArchiveFiles(path, input_file, index)
    finally:
        with CancelScope(shield=True):
            await run_file(input_file.close)
            if spool is not None:
                await run_file(spool.close)


def is_folder(path: Path, guard: FileGuard | None = None) -> bool:
    """Whether a path leads to a folder. Blocks.

    Raises:
        InputError: it is missing, or may not be looked at.
    """
    try:
        return stat.S_ISDIR((guard.stat(path) if guard else path.stat()).st_mode)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise InputError(f"{path}: cannot be opened: {exc.strerror}") from exc
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise InputError(f"{path}: cannot be opened: {exc.strerror}") from exc
        raise machine_error(exc, str(path), "cannot be opened") from exc


async def read_small(files: MemberFiles, name: str) -> bytes | None:
    """A whole small file, or None when there is none.

    Raises:
        LimitExceeded: over 4 MiB.
    """
    async with files.open(name) as region:
        if region is None:
            return None
        if region.size > MAX_MANIFEST_SIZE:
            raise LimitExceeded(
                f"{files.where}: {name[:200]} has {region.size} bytes; at most {MAX_MANIFEST_SIZE} are accepted",
                code="limit.manifest",
            )
        return await run_file(partial(region.read_at, 0, region.size))


def _add_place(exc: OcisyncError, where: str) -> OcisyncError:
    """The same error, saying in which archive."""
    return exc.at(where) if isinstance(exc, ArchiveError | LimitExceeded) else exc


def _open_beneath(root: Path, name: str, guard: FileGuard | None) -> InputFile | None:
    path = root / name
    if ".." in path.parts:
        return None
    try:
        return InputFile(path, guard)
    except InputError as exc:
        if isinstance(exc.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise
