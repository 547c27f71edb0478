"""The identity of an input is its content: what an archive says it holds once that is published, else its bytes.

They are read again only when the files' stamps changed.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Generator
from dataclasses import replace

from ocisync.content.files import open_folder_beneath
from ocisync.content.threads import file_limiter, run_steps
from ocisync.drop.inputs import Input, InputMember
from ocisync.drop.scan import FolderEntry, current, layout_files
from ocisync.errors import InputChanged, machine_error
from ocisync.state.input_records import InputRecord, MemberRecord

CHUNK = 256 * 1024  # bytes; one buffer of this size stays in a CPU's cache
_CHUNKS_PER_STEP = 256  # between two looks for cancellation


async def read_members(dropped: Input, known: InputRecord | None) -> tuple[MemberRecord, ...]:
    """Each file with the digest of its content.

    Raises:
        InputChanged: a file was replaced, cut, written to or taken away meanwhile.
        StoreError: the machine cannot read it now.
    """
    digests = {_stamp(record): record.digest for record in known.members} if known else {}
    members = []
    for member in dropped.members:
        record = as_record(member)
        digest = digests.get(_stamp(record)) or await _digest(member.entry)
        members.append(as_record(member, digest))
    return tuple(members)


def as_record(member: InputMember, digest: str = "") -> MemberRecord:
    """A file as a record keeps it."""
    stamp = member.entry.stamp
    platform = str(member.platform or "")
    return MemberRecord(
        member.entry.relative, stamp.size, stamp.mtime_ns, stamp.inode, digest, platform, stamp.ctime_ns
    )


def is_of_bytes(member: MemberRecord) -> bool:
    """Whether a file is on record by a digest of its bytes."""
    return member.digest.startswith("sha256:")


def without_claim(member: MemberRecord) -> MemberRecord:
    """A file without what it says it holds: only its publication proves that."""
    return member if is_of_bytes(member) else replace(member, digest="")


def identity_of(members: tuple[MemberRecord, ...]) -> str:
    """One digest for all of an input's content; where its files lie does not count."""
    lines = sorted(f"{member.platform} {member.digest}\n" for member in members)
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def check_unchanged(dropped: Input) -> None:
    """Look whether the files are still those that were found. It blocks: call it in a thread.

    Raises:
        InputChanged: they are not.
    """
    for member in dropped.members:
        try:
            now = current(member.entry)
        except OSError as exc:
            raise _changed_error(member.entry) from exc
        if now.stamp != member.entry.stamp:
            raise _changed_error(member.entry)


async def _digest(entry: FolderEntry) -> str:
    try:
        digest = await run_steps(_hash_entry(entry), file_limiter)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise _changed_error(entry) from exc
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise _changed_error(entry) from exc
        raise machine_error(exc, entry.path, "cannot be read") from exc
    return "sha256:" + digest


def _hash_entry(entry: FolderEntry) -> Generator[None, None, str]:
    *folders, name = entry.relative.split("/")
    with open_folder_beneath(entry.root, folders) as folder:
        digest = yield from (_hash_folder if entry.is_folder else _hash_file)(folder, name)
    _check_entry(entry)
    return digest


def _hash_folder(parent: int, name: str) -> Generator[None, None, str]:
    whole = hashlib.sha256()
    layout = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        for folder, file, path in layout_files(layout):
            digest = yield from _hash_file(folder, file)
            whole.update(f"{path} {digest}\n".encode())
    finally:
        os.close(layout)
    return whole.hexdigest()


def _hash_file(folder: int, name: str) -> Generator[None, None, str]:
    digest = hashlib.sha256()
    # Should a link or FIFO have taken the file's place, opening must neither follow nor block.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(name, flags, dir_fd=folder)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 (it is a descriptor)
        buffer = memoryview(bytearray(CHUNK))
        count = 0
        while length := file.readinto(buffer):
            digest.update(buffer[:length])
            count += 1
            if count % _CHUNKS_PER_STEP == 0:
                yield
    return digest.hexdigest()


def _check_entry(entry: FolderEntry) -> None:
    if current(entry).stamp != entry.stamp:
        raise _changed_error(entry)


def _changed_error(entry: FolderEntry) -> InputChanged:
    return InputChanged(f"{entry.path}: it was replaced, cut or written to while it was read; it is read again")


def _stamp(record: MemberRecord) -> tuple[str, int, int, int, int]:
    return record.path, record.size, record.mtime_ns, record.inode, record.ctime_ns
