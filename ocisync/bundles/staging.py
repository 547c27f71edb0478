"""Gathering the volumes of bundles from one medium after another, in any order, in a folder that has room for all."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from ocisync.bundles.files import BundleFiles, find_bundles
from ocisync.bundles.work_folder import add_sums
from ocisync.content.failpoints import failpoint
from ocisync.content.files import READ
from ocisync.content.threads import run_file, run_steps
from ocisync.errors import DiskError
from ocisync.stores.archive.atomic_file import StagedFile


async def stage(paths: Sequence[Path], folder: Path) -> None:
    """Copy the files of bundles into a folder; one that is there with the same size is not read again.

    A copy is not looked into: what is wrong with it is found when the bundle is applied, and then copied once more.

    Raises:
        BundleError: no bundle is there.
        DiskError: the folder cannot be written.
    """
    for files in await run_file(partial(find_bundles, paths)):
        for name, path in files.paths.items():
            await run_steps(_copy(path, folder / name))
        if files.sums is not None:
            await run_file(partial(_copy_sums, files, folder))


def _copy_sums(files: BundleFiles, folder: Path) -> None:
    if files.sums is not None and files.sums.parent != folder:
        add_sums(folder, files.sums.read_text("utf-8", "replace"))


def _copy(source: Path, target: Path) -> Generator[None, None, None]:
    """Copy a file so that it appears whole, in steps."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if target.exists() and (target.samefile(source) or target.stat().st_size == size):
                return
            staged = StagedFile(target)
            try:
                while chunk := file.read(READ):
                    staged.write(chunk)
                    yield
                staged.commit()
            finally:
                staged.close()
    except OSError as exc:
        raise DiskError(f"{exc.filename or source}: {exc.strerror}", errno=exc.errno) from exc
    failpoint("bundle.staged")
