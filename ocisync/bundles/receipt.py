"""Receipts: the inventory of what is at the other side now. Carried back, it is the best base for the next bundle."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ocisync.bundles.apply_bundle import Applied
from ocisync.bundles.blob_table import BlobEntry, BlobTable
from ocisync.bundles.inventory import RECEIPT, Base, BundleInventory
from ocisync.bundles.inventory_json import render_inventory
from ocisync.content.failpoints import failpoint
from ocisync.errors import BundleError, DiskError
from ocisync.stores.archive.atomic_file import write_file


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


def write_receipt(folder: Path, receipt: BundleInventory) -> Path:
    """Write a receipt into a folder; blocks. Raises DiskError."""
    path = folder / f"{receipt.id}{RECEIPT}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DiskError(f"{folder}: cannot be made: {exc.strerror}", errno=exc.errno) from exc
    write_file(path, render_inventory(receipt))
    failpoint("bundle.receipt")
    return path


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


def check_not_older(folder: Path, inventory: BundleInventory) -> None:
    """Refuse a bundle that would bring tags back to what they were.

    Raises:
        BundleError: a later one was applied before.
    """
    last = newest_receipt(folder, inventory.name)
    if last is not None and int(last.name.removesuffix(RECEIPT).rpartition("-")[2]) > inventory.sequence:
        raise BundleError(
            f"{inventory.id}: older than what was applied before ({last.name}): its tags would go back; "
            "with --allow-older it is applied all the same",
            code="bundle.older",
        )
