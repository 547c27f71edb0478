"""Receipts: the inventory of what is at the other side now. Carried back, it is the best base for the next bundle."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from ocisync.bundles.apply_bundle import Applied
from ocisync.bundles.blob_table import BlobEntry, BlobTable
from ocisync.bundles.bundle_files import OpenedInventory
from ocisync.bundles.inventory import RECEIPT, Base, BundleInventory
from ocisync.bundles.inventory_json import MAX_INVENTORY, parse_inventory, render_inventory
from ocisync.content.failpoints import failpoint
from ocisync.content.files import open_folder_beneath
from ocisync.content.own_folders import open_own_folder, read_bounded
from ocisync.errors import BundleError, DiskError, LimitExceeded, machine_error
from ocisync.stores.archive.atomic_file import write_file

_UNUSABLE = frozenset((errno.EINVAL, errno.EFBIG, errno.ELOOP))  # no regular file, too large, a link


def make_receipt(applied: Applied) -> BundleInventory:
    """What is there, under the bundle's own names."""
    inventory = applied.inventory
    blobs = BlobTable()
    for number, (digest, entry) in enumerate(inventory.blobs.items()):
        if applied.needed[number]:
            blobs[digest] = BlobEntry(entry.size, 0, (), inventory.bringer(digest), entry.media_type)
    images = tuple(sorted(applied.whole, key=lambda image: (image.name, image.tag)))
    return BundleInventory(
        inventory.name,
        inventory.sequence,
        "receipt",
        Base(inventory.id, applied.opened.digest),
        images=images,
        removed=inventory.removed,
        omitted=inventory.omitted,
        blobs=blobs,
    )


def write_receipt(folder: Path, receipt: BundleInventory, root: Path | None = None) -> Path:
    """Write a receipt into a folder; blocks. Raises DiskError.

    `root`: a folder into which others may write; where the receipts' folder lies below it, no link leads there.
    """
    path = folder / f"{receipt.id}{RECEIPT}"
    try:
        with open_own_folder(root or folder, folder) as opened:
            write_file(path, render_inventory(receipt), opened)
    except OSError as exc:
        raise DiskError(f"{folder}: cannot be written: {exc.strerror}", errno=exc.errno) from exc
    failpoint("bundle.receipt")
    return path


def read_inventory_file(folder: Path, name: str) -> bytes | None:
    """The bytes of an inventory or a receipt in a folder into which others may write; None where it is missing; blocks.

    Raises:
        BundleError: it is no regular file, or too large.
        DiskError: it cannot be read, which may pass.
    """
    try:
        with open_folder_beneath(folder, ()) as opened:
            return read_bounded(opened, name, MAX_INVENTORY)
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno in _UNUSABLE:
            raise BundleError(f"{folder / name}: {exc.strerror}") from exc
        raise machine_error(exc, str(folder / name), "cannot be read") from exc


def newest_receipt(folder: Path, name: str) -> Path | None:
    """The receipt of the highest number in a folder; blocks."""
    form = re.compile(re.escape(name) + r"-(\d{4,8})" + re.escape(RECEIPT))
    try:
        found = [(int(match[1]), child) for child in os.listdir(folder) if (match := form.fullmatch(child))]  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise DiskError(f"{folder}: cannot be read: {exc.strerror}", errno=exc.errno) from exc
    return folder / max(found)[1] if found else None


def was_applied(folder: Path, opened: OpenedInventory) -> bool:
    """Whether the receipt of this very bundle is in a folder; blocks. Raises DiskError where that cannot be told."""
    try:
        raw = read_inventory_file(folder, f"{opened.inventory.id}{RECEIPT}")
        receipt = parse_inventory(raw, ("receipt",)) if raw is not None else None
    except (BundleError, LimitExceeded):
        return False
    return receipt is not None and receipt.base is not None and receipt.base.digest == opened.digest


def check_not_older(folder: Path, inventory: BundleInventory) -> None:
    """Refuse a bundle that would bring tags back to what they were.

    Raises:
        BundleError: a later one was applied before.
    """
    last = newest_receipt(folder, inventory.name)
    if last is not None and int(last.name.removesuffix(RECEIPT).rpartition("-")[2]) > inventory.sequence:
        raise BundleError(
            f"{inventory.id}: older than what was applied before ({last.name}): its tags would go back; "
            "use --allow-older to apply it anyway",
            code="bundle.older",
        )
