"""Where a bundle grows until it is whole, and what a killed process left there: finished volumes, and their journal.

The folder lies beside the bundles, hidden, so that finished files are only renamed. Nobody sees a bundle that is not
whole: the inventory appears last. Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from ocisync.bundles.inventory import INVENTORY, SIGNATURE, SUMS, Base, BundleInventory, bundle_id
from ocisync.bundles.inventory_json import MAX_INVENTORY, parse_inventory
from ocisync.bundles.volume_layout import Piece, VolumeContent
from ocisync.content.digest_table import BlobList, SizedBlobs
from ocisync.content.failpoints import failpoint
from ocisync.content.own_folders import read_bounded
from ocisync.errors import BundleError, DiskError, Handling, OcisyncError
from ocisync.model.digest import Digest
from ocisync.stores.archive.atomic_file import write_file

_JOURNAL, _SEALED, _SIGNED, _SUMMED = "journal.jsonl", "bundle.json", "sigstore.json", "sums"
_LINE = re.compile(r"[0-9a-f]{64} [ *](?P<file>.+)\Z")
MAX_SUMS = 16 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class FinishedVolume:
    """A volume that is written and on the disk."""

    size: int  # bytes
    sha256: str  # hex
    content: VolumeContent


@dataclass(slots=True)
class WorkFolder:
    """The hidden folder of one bundle, held by one process.

    Others may write into the folder for bundles: who carries them away, for instance. So both folders are used by their
    descriptors, and no link in them is followed.
    """

    output: Path
    name: str
    sequence: int
    root: int  # a descriptor of the folder for bundles
    lock: int  # a descriptor of the hidden folder; it is locked
    volumes: list[FinishedVolume] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.output / _folder_name(self.name)

    @property
    def id(self) -> str:
        """The bundle's."""
        return bundle_id(self.name, self.sequence)

    def volume_path(self, number: int) -> Path:
        """Where a volume is until the bundle is whole."""
        return self.path / _volume_name(number)

    def add_volume(self, volume: FinishedVolume) -> None:
        """Put on record that a volume is finished; its file is there."""
        failpoint("bundle.volume")
        with _disk_errors(self.path), self._open_journal(os.O_WRONLY | os.O_APPEND, "ab") as journal:
            for piece in volume.content.pieces():  # a line each: there may be hundreds of thousands
                journal.write(json.dumps(piece, separators=(",", ":")).encode() + b"\n")
            journal.write(json.dumps({"size": volume.size, "sha256": volume.sha256}).encode() + b"\n")
            journal.flush()
            os.fsync(journal.fileno())
        self.volumes.append(volume)
        failpoint("bundle.journal")

    def seal(self, inventory: bytes, signature: bytes, sums: Mapping[str, str]) -> None:
        """Everything is written: from now on the bundle is only brought out."""
        if signature:
            self._write(_SIGNED, signature)
        self._write(_SUMMED, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())
        self._write(_SEALED, inventory)
        failpoint("bundle.sealed")

    @property
    def is_sealed(self) -> bool:
        """Whether everything is written."""
        return _stat(self.lock, _SEALED) is not None

    def read_sealed(self) -> BundleInventory:
        """The inventory of a bundle that is only to be brought out."""
        with _disk_errors(self.path):
            return parse_inventory(read_bounded(self.lock, _SEALED, MAX_INVENTORY))

    def bring_out(self, inventory: BundleInventory) -> BundleInventory:
        """Give all files their names, the inventory last; what a killed process did already is left as it is."""
        with _disk_errors(self.path):
            for number, name in enumerate(inventory.file_names, 1):
                self._move(_volume_name(number), name)
                failpoint("bundle.moved")
            self._move(_SIGNED, f"{inventory.id}{SIGNATURE}")
            add_sums(self.output, self.root, read_bounded(self.lock, _SUMMED, MAX_SUMS).decode("utf-8", "replace"))
            failpoint("bundle.sums")
            raw = read_bounded(self.lock, _SEALED, MAX_INVENTORY)
            write_file(self.output / f"{inventory.id}{INVENTORY}", raw, self.root)
            failpoint("bundle.out")
        self.remove()
        return inventory

    def newest_bundle(self) -> BundleInventory | None:
        """The inventory of the newest bundle of this name beside the folder, where all its volumes are."""
        with _disk_errors(self.output):
            numbers = _list_sequences(self.root, self.name)
            if not numbers:
                return None
            try:
                raw = read_bounded(self.root, f"{bundle_id(self.name, numbers[-1])}{INVENTORY}", MAX_INVENTORY)
                inventory = parse_inventory(raw)
            except OcisyncError:
                return None
            return inventory if all(_size_of(self.root, file) is not None for file in inventory.file_names) else None

    def clear(self) -> None:
        """Forget what was written: it is of no use any more."""
        with _disk_errors(self.path):
            for name in os.listdir(self.lock):  # noqa: PTH208
                os.unlink(name, dir_fd=self.lock)
        self.volumes.clear()

    def begin(self, base: Base | None, capacity: int) -> None:
        """Begin the journal."""
        head = {"sequence": self.sequence, "base": asdict(base) if base else None, "capacity": capacity}
        self._write(_JOURNAL, (json.dumps(head) + "\n").encode())

    def load(self, base: Base | None, capacity: int) -> bool:
        """Take over the volumes of a process that was killed; False when they are of another bundle."""
        try:
            with self._open_journal(os.O_RDWR, "r+b") as journal:
                head = json.loads(journal.readline())
                if head.get("base") != (asdict(base) if base else None) or head.get("capacity") != capacity:
                    return False
                self.sequence = head["sequence"]
                journal.truncate(self._load_volumes(journal, journal.tell()))  # what follows was not written to its end
        except (OSError, ValueError):
            return False
        sizes = (_size_of(self.lock, _volume_name(number)) for number in range(1, 1 + len(self.volumes)))
        return all(size == volume.size for size, volume in zip(sizes, self.volumes, strict=True))

    def _load_volumes(self, journal: BinaryIO, start: int) -> int:
        """Read the rest of the journal; where the last volume ends in it."""
        at = whole_until = start
        part, whole = None, SizedBlobs()
        for line in journal:
            at += len(line)
            if not line.endswith(b"\n"):
                break
            found = json.loads(line)
            if isinstance(found, dict):
                content = VolumeContent(part, BlobList(whole, range(len(whole.sizes))))
                self.volumes.append(FinishedVolume(found["size"], found["sha256"], content))
                part, whole, whole_until = None, SizedBlobs(), at
                continue
            piece = Piece(Digest(found[0]), *found[1:])
            if piece.is_cut:
                part = piece
            else:
                whole.note(piece.digest, piece.size)
        return whole_until

    def remove(self) -> None:
        """Nothing is left of it."""
        with _disk_errors(self.path):
            shutil.rmtree(_folder_name(self.name), ignore_errors=True, dir_fd=self.root)
            os.fsync(self.root)

    def close(self) -> None:
        """Let go of it; a folder in which nothing was kept goes."""
        if not self.volumes and not self.is_sealed:
            shutil.rmtree(_folder_name(self.name), ignore_errors=True, dir_fd=self.root)
        os.close(self.lock)
        os.close(self.root)

    def _open_journal(self, flags: int, mode: Literal["ab", "r+b"]) -> BinaryIO:
        journal = os.open(_JOURNAL, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.lock)
        return open(journal, mode)  # noqa: PTH123 (the caller closes it)

    def _write(self, name: str, data: bytes) -> None:
        write_file(self.path / name, data, self.lock)

    def _move(self, source: str, target: str) -> None:
        with suppress(FileNotFoundError):  # it was moved by the process that was killed
            os.rename(source, target, src_dir_fd=self.lock, dst_dir_fd=self.root)


def open_work_folder(output: Path, name: str, least: int) -> WorkFolder:
    """The hidden folder for bundles of a name; `least`: the number that the next one has at least.

    Raises:
        BundleError: another process is at work there; it ends, so this is tried again.
        DiskError: it cannot be made.
    """
    path = output / _folder_name(name)
    with _disk_errors(path), ExitStack() as opened:
        output.mkdir(parents=True, exist_ok=True)
        root = os.open(output, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, root)
        with suppress(FileExistsError):
            os.mkdir(path.name, 0o700, dir_fd=root)
        lock = os.open(path.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
        opened.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise BundleError(
                f"{output}: another process is writing a bundle {name} there",
                code="bundle.busy",
                handling=Handling.RETRY,
            ) from exc
        sequence = max([least, *(1 + one for one in _list_sequences(root, name))])
        opened.pop_all()
        return WorkFolder(output, name, sequence, root, lock)


def add_sums(folder: Path, root: int, lines: str) -> None:
    """Write a bundle's sums into SHA256SUMS; those of other bundles stay, as long as their files are there.

    `root`: a descriptor of the folder. What cannot be read as sums is replaced.
    """
    own = {match["file"] for line in lines.splitlines() if (match := _LINE.match(line))}
    kept = []
    for line in _read_sums(root).splitlines():
        match = _LINE.match(line)
        if match and match["file"] not in own and "/" not in match["file"] and _stat(root, match["file"]) is not None:
            kept.append(line + "\n")
    text = "".join(sorted([*kept, *lines.splitlines(keepends=True)], key=lambda line: line[66:]))
    write_file(folder / SUMS, text.encode(), root)


def _read_sums(root: int) -> str:
    try:
        return read_bounded(root, SUMS, MAX_SUMS).decode("utf-8", "replace")
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.EFBIG):
            return ""
        raise


def _list_sequences(folder: int, name: str) -> list[int]:
    """The numbers of the bundles of a name in an open folder, sorted."""
    form = re.compile(re.escape(name) + r"-(\d{4,8})" + re.escape(INVENTORY))
    return sorted(int(found[1]) for child in os.listdir(folder) if (found := form.fullmatch(child)))


def _size_of(folder: int, name: str) -> int | None:
    """A file's bytes; None where there is none."""
    found = _stat(folder, name)
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None


def _stat(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _folder_name(name: str) -> str:
    return f".{name}.partial"


def _volume_name(number: int) -> str:
    return f"{number:03d}.tar"


@contextmanager
def _disk_errors(where: Path) -> Iterator[None]:
    """Troubles of the disk, raised as such."""
    try:
        yield
    except OSError as exc:
        raise DiskError(f"{exc.filename or where}: {exc.strerror}", errno=exc.errno) from exc
