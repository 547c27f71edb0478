"""The files of bundles, as they are found on media."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ocisync.bundles.inventory import INVENTORY, SIGNATURE, SUMS, BundleInventory, bundle_of
from ocisync.bundles.inventory_json import MAX_INVENTORY, parse_inventory
from ocisync.bundles.work_folder import MAX_SUMS, add_sums
from ocisync.content.failpoints import failpoint
from ocisync.content.files import READ, FileGuard, InputFile, open_folder_beneath
from ocisync.content.threads import run_file, run_steps
from ocisync.errors import BundleError, DiskError, OcisyncError, SignatureError, machine_error
from ocisync.model.digest import Digest, sha256
from ocisync.stores.archive.atomic_file import StagedFile

_LINE = re.compile(r"(?P<sum>[0-9a-f]{64}) [ *](?P<file>[^/]+)\Z")
_MAX_SIGNATURE = 1024 * 1024  # bytes
_NOT_THERE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


Signer = Callable[[bytes], bytes]
"""A sigstore bundle (JSON) over bytes."""

Check = Callable[[bytes, bytes], None]
"""Takes a sigstore bundle and the bytes that it is about; raises an OcisyncError where no trusted key signed them."""


@dataclass(slots=True)
class BundleFiles:
    """Where the files of one bundle are, as far as they are at hand."""

    id: str
    paths: dict[str, Path] = field(default_factory=dict)  # by the file's name
    sums: Path | None = None  # SHA256SUMS beside the inventory
    guard: FileGuard | None = None  # where others may write

    @property
    def sequence(self) -> int:
        """The bundle's number."""
        return int(self.id.rpartition("-")[2])

    def open(self, name: str) -> InputFile:
        """A file; blocks. Raises InputError."""
        return InputFile(self.paths[name], self.guard)


@dataclass(frozen=True, slots=True)
class OpenedInventory:
    """An inventory, and what its bytes are; they are not kept, for there may be many."""

    inventory: BundleInventory
    size: int  # bytes
    digest: Digest


def find_bundles(paths: Iterable[Path]) -> list[BundleFiles]:
    """The bundles that paths mean, in the order of their numbers: files, folders, or the beginning of names. Blocks.

    Raises:
        BundleError: none is there.
    """
    given = list(paths)
    found = group_files(file for one in given for file in _expand(one))
    if not found:
        raise BundleError(f"{', '.join(map(str, given))[:300]}: no bundle is there", code="bundle.missing")
    return found


def group_files(paths: Iterable[Path], guard: FileGuard | None = None) -> list[BundleFiles]:
    """The bundles to which files belong, in the order of their numbers; others are left out. Blocks."""
    found: dict[str, BundleFiles] = {}
    for path in paths:
        if (bundle := bundle_of(path.name)) is not None:
            files = found.setdefault(bundle, BundleFiles(bundle, guard=guard))
            files.paths.setdefault(path.name, path)
    for bundle, files in found.items():
        inventory = files.paths.get(bundle + INVENTORY)
        if inventory is not None and is_file(inventory.parent / SUMS, guard):
            files.sums = inventory.parent / SUMS
    return sorted(found.values(), key=lambda files: (files.sequence, files.id))


def is_file(path: Path, guard: FileGuard | None = None) -> bool:
    """Whether a regular file is there; below the guard's root a link is none.

    Raises:
        DiskError: it cannot be looked at, which may pass.
    """
    try:
        return stat.S_ISREG((guard.stat(path) if guard else path.stat()).st_mode)
    except OSError as exc:
        if exc.errno in _NOT_THERE:
            return False
        raise machine_error(exc, str(path), "cannot be looked at") from exc


def _expand(path: Path) -> Iterable[Path]:
    if os.path.isdir(path):  # noqa: PTH112 (a Path raises where a name is too long)
        try:
            return sorted(path.iterdir())
        except OSError as exc:
            raise DiskError(f"{path}: cannot be read: {exc.strerror}", errno=exc.errno) from exc
    if os.path.lexists(path):
        return [path]
    try:
        return sorted(child for child in path.parent.iterdir() if child.name.startswith(path.name))
    except OSError:
        return []


def read_inventory(files: BundleFiles, check: Check | None = None) -> OpenedInventory:
    """The inventory, once its signature is seen to be good (`check`) and the sums beside it are its own. Blocks.

    Raises:
        BundleError: it is missing, damaged, or not what its file is called.
        SignatureError: nobody who is trusted signed it.
    """
    name = files.id + INVENTORY
    raw = _read_small(files, name, MAX_INVENTORY)
    if check is not None:
        signature = _read_signature(files)
        try:
            check(signature, raw)
        except OcisyncError as exc:
            raise exc.at(files.id + SIGNATURE) from exc
    try:
        inventory = parse_inventory(raw)
    except OcisyncError as exc:
        raise exc.at(name) from exc
    if inventory.id != files.id:
        raise BundleError(f"{name}: it is the inventory of {inventory.id}: the file was renamed")
    _check_sums(files, inventory, raw)
    return OpenedInventory(inventory, len(raw), sha256(raw))


def list_missing(files: BundleFiles, inventory: BundleInventory) -> list[str]:
    """The volumes that are not at hand."""
    return [name for name in inventory.file_names if name not in files.paths]


def _read_signature(files: BundleFiles) -> bytes:
    name = files.id + SIGNATURE
    if name not in files.paths:
        raise SignatureError(
            f"{name}: the bundle is not signed, and only signed ones are taken", code="verify.unsigned"
        )
    return _read_small(files, name, _MAX_SIGNATURE)


def _check_sums(files: BundleFiles, inventory: BundleInventory, raw: bytes) -> None:
    """Whether SHA256SUMS is what was written with the inventory. It protects nothing, but damage there is damage."""
    if files.sums is None:
        return
    listed = _read_sums(files)
    if not any(bundle_of(file) == inventory.id for file in listed):
        return  # it came with another bundle
    name, signature = inventory.id + INVENTORY, inventory.id + SIGNATURE
    expected = {name: raw}
    if signature in files.paths:
        expected[signature] = _read_small(files, signature, _MAX_SIGNATURE)
    for file, data in expected.items():
        if listed.get(file) != sha256(data).removeprefix("sha256:"):
            raise BundleError(f"{SUMS}: its line for {file} is missing or wrong: one of the two is damaged")
    names = inventory.file_names
    for file, volume in zip(names[:-1], inventory.volumes, strict=False):
        if listed.get(file) != volume.sha256:
            raise BundleError(f"{SUMS}: its line for {file} is missing or wrong: the file is damaged")
    if names[-1] not in listed:
        raise BundleError(f"{SUMS}: its line for {names[-1]} is missing: the file is damaged")


def last_sum(files: BundleFiles, inventory: BundleInventory) -> str | None:
    """What SHA256SUMS says of the last volume, which the inventory cannot say."""
    return _read_sums(files).get(inventory.file_names[-1]) if files.sums is not None else None


def _read_sums(files: BundleFiles) -> Mapping[str, str]:
    if files.sums is None:
        return {}
    found = {}
    for line in _read_text(files.sums, files.guard).split("\n"):
        match = _LINE.match(line)
        if match:
            found[match["file"]] = match["sum"]
        elif line:
            raise BundleError(f"{SUMS}: a line is not as sha256sum writes it: the file is damaged")
    return found


def _read_text(path: Path, guard: FileGuard | None) -> str:
    """The beginning of SHA256SUMS."""
    file = InputFile(path, guard)
    try:
        return file.read_at(0, min(file.size, MAX_SUMS)).decode("utf-8", "replace")
    finally:
        file.close()


def _read_small(files: BundleFiles, name: str, most: int) -> bytes:
    if name not in files.paths:
        told = f"{name} is missing: it is copied with the volumes; --staging DIR gathers several media"
        raise BundleError(told, code="bundle.missing")
    file = files.open(name)
    try:
        if file.size > most:
            raise BundleError(f"{name}: {file.size} bytes; at most {most} are read")
        return file.read_at(0, file.size)
    finally:
        file.close()


async def stage(paths: Sequence[Path], folder: Path) -> None:
    """Copy the files of bundles into a folder; a volume that is there with the same size is not read again.

    A copy is not looked into: what is wrong with it is found when the bundle is applied (`unstage_damaged`).

    Raises:
        BundleError: no bundle is there.
        DiskError: the folder cannot be written.
    """
    for files in await run_file(partial(find_bundles, paths)):
        for name, path in files.paths.items():
            await run_steps(_copy(path, folder / name))
        if files.sums is not None:
            await run_file(partial(_copy_sums, files, folder))


def unstage_damaged(folder: Path, error: BundleError) -> BundleError:
    """Remove a staged volume that turned out to be damaged, so that the next copy is taken; what to say. Blocks."""
    volume = error.facts.get("volume")
    if not isinstance(volume, str) or bundle_of(volume) is None:
        return error
    (folder / volume).unlink(missing_ok=True)
    told = f"{error.message}; it was removed from {folder}: bring it once more"
    return BundleError(told, code=error.code, handling=error.handling, **error.facts)


def _copy_sums(files: BundleFiles, folder: Path) -> None:
    if files.sums is not None and files.sums.parent != folder:
        with open_folder_beneath(folder, ()) as opened:
            add_sums(folder, opened, _read_text(files.sums, files.guard))


def _copy(source: Path, target: Path) -> Generator[None, None, None]:
    """Copy a file so that it appears whole, in steps."""
    file = InputFile(source)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        is_volume = target.suffix == ".tar"  # other files are small, and may be those of an earlier attempt
        if target.exists() and (target.samefile(source) or (is_volume and target.stat().st_size == file.size)):
            return
        staged = StagedFile(target)
        try:
            for start in range(0, file.size, READ):
                staged.write(file.read_at(start, min(READ, file.size - start)))
                yield
            staged.commit()
        finally:
            staged.close()
    except OSError as exc:
        raise DiskError(f"{exc.filename or source}: {exc.strerror}", errno=exc.errno) from exc
    finally:
        file.close()
    failpoint("bundle.staged")
