"""`bundle create`, `diff`, `inspect` and `apply`: for a site without a network."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ocisync.bundles.apply_bundle import Applied, ApplyOptions, apply_bundle, open_bundle
from ocisync.bundles.bundle_files import (
    BundleFiles,
    Check,
    OpenedInventory,
    find_bundles,
    list_missing,
    read_inventory,
    stage,
    unstage_damaged,
)
from ocisync.bundles.compare import Difference, compare
from ocisync.bundles.create_bundle import BundleRequest, Created, create_bundle
from ocisync.bundles.inventory import BundleInventory
from ocisync.bundles.inventory_json import MAX_INVENTORY, parse_inventory
from ocisync.bundles.receipt import check_not_older, make_receipt, was_applied, write_receipt
from ocisync.bundles.volume_layout import VolumeMap
from ocisync.config.models import Config
from ocisync.content.threads import return_memory, run_file
from ocisync.errors import BundleError, ConfigError, OcisyncError
from ocisync.model.digest import Digest, sha256
from ocisync.state.open import open_state
from ocisync.sync.context import Progress
from ocisync.wiring.bundles import (
    find_bundled_jobs,
    load_check,
    load_renaming,
    load_signer,
    name_of_bundle,
    place_at,
    tag_renaming,
)
from ocisync.wiring.session import open_session, optional_session


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What bundle is wanted."""

    output: Path
    name: str = ""
    base: Path | None = None
    volume: int = 0  # bytes
    key: Path | None = None
    password: str | None = None


async def create(config: Config, rules: Sequence[str], options: CreateOptions, progress: Progress) -> Created:
    """Write the bundle of what rules would mirror."""
    base, digest = await load_base(options.base) if options.base else (None, None)
    name = name_of_bundle(options.name, rules, base.name if base else "")
    signer = await run_file(partial(load_signer, options.key, options.password)) if options.key else None
    request = BundleRequest(options.output, name, options.volume, base, digest, signer)
    async with open_state(config.daemon.state) as state, open_session(config, state.ledger, progress) as session:
        found = await find_bundled_jobs(session, rules)
        created = await create_bundle(found.jobs, session.tools, request)
        created.reports = [*found.reports, *created.reports]
    return created


async def load_base(file: Path) -> tuple[BundleInventory, Digest]:
    """An inventory or a receipt, and its digest.

    Raises:
        BundleError: it is neither.
        ConfigError: it cannot be read.
    """

    def read() -> bytes:
        try:
            with file.open("rb") as stream:
                return stream.read(MAX_INVENTORY + 1)
        except OSError as exc:
            raise ConfigError(f"{file}: cannot be read: {exc.strerror}") from exc

    await run_file(return_memory)
    raw = await run_file(read)
    try:
        return parse_inventory(raw, ("bundle", "receipt")), sha256(raw)
    except OcisyncError as exc:
        raise exc.at(str(file)) from exc


async def diff(before: Path, after: Path) -> Difference:
    """What lies between two inventories or receipts."""
    first, _ = await load_base(before)
    second, _ = await load_base(after)
    return compare(first, second)


@dataclass(frozen=True, slots=True)
class Inspected:
    """One bundle on media."""

    opened: OpenedInventory
    missing: list[str]
    is_signed: bool  # by a key that was given
    is_verified: bool  # every byte


async def inspect(paths: Sequence[Path], trust: Sequence[Path], *, deep: bool) -> list[Inspected]:
    """Look at the bundles that paths mean; with `deep`, read every byte.

    Raises:
        BundleError: nothing is there, or it is damaged.
    """
    check = await run_file(partial(load_check, trust))
    found = []
    for files in await run_file(partial(find_bundles, paths)):
        if deep:
            with tempfile.TemporaryDirectory(prefix="ocisync-") as scratch:
                async with open_bundle(files, Path(scratch), check) as (opened, _):
                    found.append(Inspected(opened, [], check is not None, True))
            continue
        opened = await run_file(partial(read_inventory, files, check))
        VolumeMap(opened.inventory).check_sizes()
        missing = list_missing(files, opened.inventory)
        found.append(Inspected(opened, missing, check is not None, False))
    return found


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """How bundles are to be applied."""

    target: str
    rename: Path | None = None
    trust: Sequence[Path] = ()
    prune: bool = False
    whole_images_only: bool = False
    staging: Path | None = None
    receipts: Path = Path()
    may_be_older: bool = False


@dataclass(slots=True)
class AppliedBundle:
    """What became of one bundle."""

    id: str
    applied: Applied | None = None  # None: it was applied before, and a later one since: it is left alone
    receipt: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether all of it is at the target, or was."""
        return self.applied is None or self.applied.ok


async def apply(
    config: Path | Config | None, paths: Sequence[Path], request: ApplyRequest, progress: Progress
) -> list[AppliedBundle]:
    """Apply the bundles that paths mean, in the order of their numbers; the first that fails ends it.

    Raises:
        BundleError: one is damaged or not complete; nothing of it was published.
    """
    check = await run_file(partial(load_check, request.trust))
    rename = await run_file(partial(load_renaming, request.rename))
    done: list[AppliedBundle] = []
    async with optional_session(config, progress) as session:
        options = ApplyOptions(
            place_at(session, request.target, rename),
            tag_renaming(rename),
            check=check,
            prune=request.prune,
            whole_images_only=request.whole_images_only,
        )
        if request.staging is not None:
            await stage(paths, request.staging)
            paths = [request.staging]
        for files in await run_file(partial(find_bundles, paths)):
            if not request.may_be_older and await run_file(partial(_is_behind, files, check, request.receipts)):
                done.append(AppliedBundle(files.id))
                continue
            scratch = session.config.temporary_path if request.staging is None else request.staging
            try:
                applied = await apply_bundle(files, session.tools, await _scratch(scratch), options)
            except BundleError as exc:
                if request.staging is None:
                    raise
                raise await run_file(partial(unstage_damaged, request.staging, exc)) from exc
            receipt = await run_file(partial(write_receipt, request.receipts, make_receipt(applied)))
            done.append(AppliedBundle(files.id, applied, receipt))
            if request.staging is not None and applied.ok:
                await run_file(partial(_unstage, files))
            if not applied.ok:
                break
    return done


def _is_behind(files: BundleFiles, check: Check | None, receipts: Path) -> bool:
    """Whether this very bundle was applied, and a later one since.

    Raises:
        BundleError: a later one was applied, and this one never.
    """
    opened = read_inventory(files, check)
    try:
        check_not_older(receipts, opened.inventory)
    except BundleError:
        if was_applied(receipts, opened):
            return True
        raise
    return False


def _unstage(files: BundleFiles) -> None:
    for path in files.paths.values():
        path.unlink(missing_ok=True)
    if files.sums is not None:
        files.sums.unlink(missing_ok=True)


async def _scratch(folder: Path) -> Path:
    """Where manifests wait; the system's folder for temporary files where nothing else is there."""
    return folder if await run_file(folder.is_dir) else Path(tempfile.gettempdir())
