"""An index of a tar archive: where each member's content is, found by reading headers only, nothing unpacked.

An archive of 20 GB is opened in the time that its headers take to read, and each layer is then read in place, in any
order. What the index keeps of a member is its name and two numbers; `TarLimits` bounds their count and the bytes of
their names, so a hostile archive of a few megabytes cannot fill the memory. Reasons: docs/adr/0020-own-tar-reader.md.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from ocisync.content.files import READ, FileSection, ReadAt
from ocisync.content.tar.headers import (
    BLOCK,
    GNU_SPARSE,
    HARD_LINK,
    MAX_EXTENSION,
    REGULAR,
    SYMLINK,
    Extensions,
    Header,
    apply_extensions,
    is_extension,
    parse_header,
    read_extension,
)
from ocisync.errors import ArchiveError, LimitExceeded

_WINDOW = 64 * 1024  # bytes; headers of small members are near each other
_MEMBERS_PER_STEP = 20_000
_MAX_WARNINGS = 20
_MAX_LINKS = 40  # as Linux follows
_MAX_TOP_LEVEL = 1000
_ZEROS = bytes(BLOCK)


@dataclass(frozen=True, slots=True)
class TarLimits:
    """Caps on what an archive may hold."""

    members: int = 500_000
    names: int = 128 * 1024 * 1024  # bytes of all names together


class TarIndex:
    """The regular files and links of an archive, by their names without a leading `./` or `/`.

    A name may occur twice only with the same content. Readers disagree about which of two contents counts (docker takes
    the last, others the first), so one archive could be two images; such an archive is refused.
    """

    def __init__(self, file: ReadAt) -> None:
        self.file = file
        self.warnings: list[str] = []
        self.top_level: set[str] = set()  # the first components of all names
        self._numbers: dict[str, int] = {}
        self._offsets = array("q")
        self._sizes = array("q")  # -1: the content is not the file's bytes (sparse)
        self._links: dict[str, str] = {}  # from the archive's root

    def __len__(self) -> int:
        return len(self._numbers) + len(self._links)

    def __iter__(self) -> Iterator[str]:
        yield from self._numbers
        yield from self._links

    def __contains__(self, name: object) -> bool:
        return name in self._numbers or name in self._links

    def find(self, name: str) -> FileSection | None:
        """Where the content of a file is, links followed inside the archive; None when there is no such member.

        Raises:
            ArchiveError: the name or a link leaves the archive, links form a loop, or the member is sparse.
        """
        number = self._numbers.get(self._follow(name))
        if number is None:
            return None
        if self._sizes[number] < 0:
            raise ArchiveError(f"{name[:200]}: a sparse member cannot be part of an image")
        return FileSection(self.file, self._offsets[number], self._sizes[number])

    def warn(self, text: str) -> None:
        """Note something odd but harmless; the first few are kept."""
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(text)

    def add(self, name: str, header: Header, offset: int) -> None:
        """Add one member; folders and devices are not kept, for no image is read from them.

        Raises:
            ArchiveError: another member of that name has other content.
        """
        if len(self.top_level) < _MAX_TOP_LEVEL:
            self.top_level.add(name.partition("/")[0])
        if header.kind in (SYMLINK, HARD_LINK):
            self._add_link(name, header)
        elif header.kind in (REGULAR, GNU_SPARSE):
            self._add_file(name, -1 if header.sparse else header.size, offset)

    def _add_link(self, name: str, header: Header) -> None:
        target = header.link.decode("utf-8", "surrogateescape")
        # A symlink's target counts from its own folder, a hard link's from the archive's root.
        relative = header.kind == SYMLINK and not target.startswith("/")
        full = f"{name.rpartition('/')[0]}/{target}" if relative else target
        if name in self._numbers or self._links.setdefault(name, full) != full:
            raise _duplicate_error(name)

    def _add_file(self, name: str, size: int, offset: int) -> None:
        first = self._numbers.setdefault(name, len(self._sizes))
        if name in self._links:
            raise _duplicate_error(name)
        if first == len(self._sizes):
            self._offsets.append(offset)
            self._sizes.append(size)
        elif self._sizes[first] != size or not _has_same_content(self.file, self._offsets[first], offset, size):
            raise _duplicate_error(name)

    def _follow(self, name: str) -> str:
        pending = list(reversed(name.split("/")))
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not done:
                    raise ArchiveError(f"{name[:200]!r} leads out of the archive")
                done.pop()
                continue
            done.append(part)
            target = self._links.get("/".join(done)) if self._links else None
            if target is None:
                continue
            links += 1
            if links > _MAX_LINKS:
                raise ArchiveError(f"{name[:200]!r}: the links in the archive form a loop")
            done.clear()
            pending.extend(reversed(target.split("/")))
        return "/".join(done)


def index_tar(file: ReadAt, limits: TarLimits | None = None) -> Generator[None, None, TarIndex]:
    """Read all headers; a generator for `run_steps`, whose result is the index.

    Raises:
        ArchiveError: truncated, corrupt, not a tar, or two members of one name with different contents.
        LimitExceeded: more members or longer names than the limits allow.
    """
    limits = limits or TarLimits()
    index = TarIndex(file)
    names = 0
    for seen, (header, offset) in enumerate(_read_headers(file, limits.members), 1):
        names += len(header.name) + len(header.link)
        if seen > limits.members or names > limits.names:
            told = f"the archive has more than {limits.members} members or {limits.names} bytes of names"
            raise LimitExceeded(f"{told}; `archives.members` in the configuration allows more members")
        name = _clean_name(header.name)
        if name is None:
            index.warn(f"the member {header.name[:200]!r} would lie outside the archive and is left out")
        elif name:
            index.add(name, header, offset)
        if seen % _MEMBERS_PER_STEP == 0:
            yield
    return index


def _read_headers(file: ReadAt, limit: int) -> Iterator[tuple[Header, int]]:
    """Every member's header and where its content begins."""
    blocks = _Blocks(file)
    position = extensions = 0
    found = Extensions()
    while (block := blocks.read(position)) is not None:
        header = parse_header(block, position)
        start = position + BLOCK
        if is_extension(header.kind):
            extensions += 1
            if extensions > 4 * limit:
                raise LimitExceeded(f"the archive has more than {4 * limit} extension headers")
            read_extension(found, header.kind, _read_extension_body(file, header, start), position)
        else:
            start = blocks.skip_sparse_map(start) if header.extended_sparse else start
            header = apply_extensions(header, found)
            found = Extensions()
            _check_inside(file, header, start)
            yield header, start
        position = start + -(-header.size // BLOCK) * BLOCK


class _Blocks:
    """Header blocks, read a window at a time."""

    def __init__(self, file: ReadAt) -> None:
        self._file = file
        self._start = 0
        self._window = b""

    def read(self, position: int) -> bytes | None:
        """The block there, or None at the archive's end."""
        block = self._read_block(position)
        if len(block) < BLOCK or block == _ZEROS:
            self._check_end(position, block)
            return None
        return block

    def skip_sparse_map(self, position: int) -> int:
        """Where the content begins behind GNU's further blocks of a sparse map."""
        while True:
            block = self._read_block(position)
            position += BLOCK
            if len(block) < BLOCK:
                raise ArchiveError("the archive ends within a sparse member's map: it is truncated")
            if block[504] == 0:
                return position

    def _read_block(self, position: int) -> bytes:
        offset = position - self._start
        if not 0 <= offset <= len(self._window) - BLOCK:
            self._start, offset = position, 0
            length = min(_WINDOW, self._file.size - position)
            self._window = self._file.read_at(position, length) if length > 0 else b""
        return self._window[offset : offset + BLOCK]

    def _check_end(self, position: int, block: bytes) -> None:
        if block.strip(b"\0"):
            if position == 0:
                raise ArchiveError("this is not a tar archive, or only its first bytes")
            raise ArchiveError(f"the archive ends within a header at byte {position}: it is truncated")
        if position == 0:
            raise ArchiveError("the archive is empty")
        if self._read_block(position + BLOCK).strip(b"\0"):
            raise ArchiveError(f"members follow an empty header at byte {position}: the archive is corrupt")


def _read_extension_body(file: ReadAt, header: Header, start: int) -> bytes:
    if header.size > MAX_EXTENSION:
        raise LimitExceeded(f"an extension header of {header.size} bytes; at most {MAX_EXTENSION} are accepted")
    _check_inside(file, header, start)
    return file.read_at(start, header.size)


def _check_inside(file: ReadAt, header: Header, start: int) -> None:
    if start + header.size > file.size:
        name = header.name[:200].decode("utf-8", "replace")
        raise ArchiveError(f"{name}: the archive ends before the member's {header.size} bytes do: it is truncated")


def _clean_name(name: bytes) -> str | None:
    """The name without `./`, leading and double slashes; None when it has a `..`."""
    text = name.decode("utf-8", "surrogateescape")
    if "." not in text and "//" not in text:
        return text.strip("/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return None if ".." in parts else "/".join(parts)


def _has_same_content(file: ReadAt, one: int, other: int, size: int) -> bool:
    for done in range(0, size, READ):
        length = min(READ, size - done)
        if file.read_at(one + done, length) != file.read_at(other + done, length):
            return False
    return True


def _duplicate_error(name: str) -> ArchiveError:
    return ArchiveError(
        f"{name[:200]!r} is in the archive twice with different contents: which one is meant is unclear"
    )
