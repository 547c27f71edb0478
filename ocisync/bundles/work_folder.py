"""Where a bundle grows until it is whole, and what a killed process left there: finished volumes, and their journal.

The folder lies beside the bundles, hidden, so that finished files are only renamed. Nobody sees a bundle that is not
whole: the inventory appears last. Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from ocisync.bundles.inventory import INVENTORY, SIGNATURE, SUMS, Base, BundleInventory, bundle_id
from ocisync.bundles.inventory_json import parse_inventory
from ocisync.bundles.volume_layout import Piece, VolumeContent
from ocisync.content.digest_table import BlobList, SizedBlobs
from ocisync.content.failpoints import failpoint
from ocisync.errors import BundleError, DiskError, OcisyncError
from ocisync.model.digest import Digest
from ocisync.stores.archive.atomic_file import sync_folder, write_file

_JOURNAL, _SEALED, _SIGNED, _SUMMED = "journal.jsonl", "bundle.json", "sigstore.json", "sums"
_LINE = re.compile(r"[0-9a-f]{64} [ *](?P<file>.+)\Z")


@dataclass(frozen=True, slots=True)
class FinishedVolume:
    """A volume that is written and on the disk."""

    size: int  # bytes
    sha256: str  # hex
    content: VolumeContent


@dataclass(slots=True)
class WorkFolder:
    """The hidden folder of one bundle, held by one process."""

    output: Path
    name: str
    sequence: int
    lock: int  # a descriptor
    volumes: list[FinishedVolume] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.output / f".{self.name}.partial"

    @property
    def id(self) -> str:
        """The bundle's."""
        return bundle_id(self.name, self.sequence)

    def volume_path(self, number: int) -> Path:
        """Where a volume is until the bundle is whole."""
        return self.path / f"{number:03d}.tar"

    def add_volume(self, volume: FinishedVolume) -> None:
        """Put on record that a volume is finished; its file is there."""
        failpoint("bundle.volume")
        with _disk_errors(self.path), (self.path / _JOURNAL).open("a", encoding="utf-8") as journal:
            for piece in volume.content.pieces():  # a line each: there may be hundreds of thousands
                journal.write(json.dumps(piece, separators=(",", ":")) + "\n")
            journal.write(json.dumps({"size": volume.size, "sha256": volume.sha256}) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self.volumes.append(volume)
        failpoint("bundle.journal")

    def seal(self, inventory: bytes, signature: bytes, sums: Mapping[str, str]) -> None:
        """Everything is written: from now on the bundle is only brought out."""
        with _disk_errors(self.path):
            if signature:
                write_file(self.path / _SIGNED, signature)
            write_file(self.path / _SUMMED, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())
            write_file(self.path / _SEALED, inventory)
        failpoint("bundle.sealed")

    @property
    def is_sealed(self) -> bool:
        """Whether everything is written."""
        return (self.path / _SEALED).exists()

    def read_sealed(self) -> BundleInventory:
        """The inventory of a bundle that is only to be brought out."""
        with _disk_errors(self.path):
            return parse_inventory((self.path / _SEALED).read_bytes())

    def bring_out(self, inventory: BundleInventory) -> BundleInventory:
        """Give all files their names, the inventory last; what a killed process did already is left as it is."""
        with _disk_errors(self.path):
            for number, name in enumerate(inventory.file_names, 1):
                self._move(self.volume_path(number), self.output / name)
                failpoint("bundle.moved")
            self._move(self.path / _SIGNED, self.output / f"{inventory.id}{SIGNATURE}")
            add_sums(self.output, (self.path / _SUMMED).read_text("utf-8"))
            failpoint("bundle.sums")
            write_file(self.output / f"{inventory.id}{INVENTORY}", (self.path / _SEALED).read_bytes())
            failpoint("bundle.out")
        self.remove()
        return inventory

    def clear(self) -> None:
        """Forget what was written: it is of no use any more."""
        with _disk_errors(self.path):
            for child in self.path.iterdir():
                child.unlink()
        self.volumes.clear()

    def begin(self, base: Base | None, capacity: int) -> None:
        """Begin the journal."""
        head = {"sequence": self.sequence, "base": asdict(base) if base else None, "capacity": capacity}
        with _disk_errors(self.path):
            write_file(self.path / _JOURNAL, (json.dumps(head) + "\n").encode())

    def load(self, base: Base | None, capacity: int) -> bool:
        """Take over the volumes of a process that was killed; False when they are of another bundle."""
        path = self.path / _JOURNAL
        try:
            with path.open("rb") as journal:
                head = json.loads(journal.readline())
                if head.get("base") != (asdict(base) if base else None) or head.get("capacity") != capacity:
                    return False
                self.sequence = head["sequence"]
                whole_until = self._load_volumes(journal, journal.tell())
            os.truncate(path, whole_until)  # what follows was not written to its end
        except (OSError, ValueError):
            return False
        return all(_size_of(self.volume_path(number)) == volume.size for number, volume in enumerate(self.volumes, 1))

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
            shutil.rmtree(self.path, ignore_errors=True)
            sync_folder(self.output)

    def close(self) -> None:
        """Let go of it; a folder in which nothing was kept goes."""
        if not self.volumes and not self.is_sealed:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)

    @staticmethod
    def _move(source: Path, target: Path) -> None:
        with suppress(FileNotFoundError):  # it was moved by the process that was killed
            source.rename(target)


def _size_of(path: Path) -> int | None:
    """A file's bytes; None where there is none."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def open_work_folder(output: Path, name: str, least: int) -> WorkFolder:
    """The hidden folder for bundles of a name; `least`: the number that the next one has at least.

    Raises:
        BundleError: another process is at work there.
        DiskError: it cannot be made.
    """
    path = output / f".{name}.partial"
    with _disk_errors(path):
        output.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(lock)
            raise BundleError(
                f"{output}: another process is writing a bundle {name} there", code="bundle.busy"
            ) from exc
        return WorkFolder(output, name, max([least, *(1 + one for one in list_sequences(output, name))]), lock)


def newest_bundle(folder: Path, name: str) -> BundleInventory | None:
    """The inventory of the newest bundle of a name in a folder, where all its volumes are."""
    numbers = list(list_sequences(folder, name))
    if not numbers:
        return None
    with _disk_errors(folder):
        raw = (folder / f"{bundle_id(name, numbers[-1])}{INVENTORY}").read_bytes()
        try:
            inventory = parse_inventory(raw)
        except OcisyncError:
            return None
        return inventory if all((folder / file).is_file() for file in inventory.file_names) else None


def list_sequences(folder: Path, name: str) -> Iterable[int]:
    """The numbers of the bundles of a name in a folder."""
    form = re.compile(re.escape(name) + r"-(\d{4,8})" + re.escape(INVENTORY))
    with _disk_errors(folder):
        return sorted(int(found[1]) for child in os.listdir(folder) if (found := form.fullmatch(child)))  # noqa: PTH208


def add_sums(folder: Path, lines: str) -> None:
    """Write a bundle's sums into SHA256SUMS; those of other bundles stay, as long as their files are there."""
    path = folder / SUMS
    own = {match["file"] for line in lines.splitlines() if (match := _LINE.match(line))}
    kept = []
    with suppress(FileNotFoundError):
        for line in path.read_text("utf-8", "replace").splitlines():
            match = _LINE.match(line)
            if match and match["file"] not in own and "/" not in match["file"] and (folder / match["file"]).exists():
                kept.append(line + "\n")
    write_file(path, "".join(sorted([*kept, *lines.splitlines(keepends=True)], key=lambda line: line[66:])).encode())


@contextmanager
def _disk_errors(where: Path) -> Iterator[None]:
    """Troubles of the disk, raised as such."""
    try:
        yield
    except OSError as exc:
        raise DiskError(f"{exc.filename or where}: {exc.strerror}", errno=exc.errno) from exc
